"""`{{name}}` in templates: a value that is nothing else keeps its type, one inside a longer text becomes text."""

import re
from collections.abc import Callable, Iterator

_MARK = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")


def names_in(value: object) -> Iterator[str]:
    """Yield every name that stands in double braces, at any depth of a JSON value."""
    if isinstance(value, str):
        yield from _MARK.findall(value)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from names_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from names_in(inner)


def filled(value: object, lookup: Callable[[str], object]) -> object:
    """Return a copy with every name replaced by `lookup(name)`; values put in are not looked through again."""
    if isinstance(value, str):
        whole = _MARK.fullmatch(value.strip())
        if whole:
            return lookup(whole[1])
        return _MARK.sub(lambda match: str(lookup(match[1])), value)
    if isinstance(value, dict):
        return {key: filled(inner, lookup) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, lookup) for inner in value]
    return value
