"""What a node may look like, read off the pydantic models once: every spelling of every key, and where models nest."""

import types
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel


class Also:
    """Other spellings of a key, next to its camelCase."""

    def __init__(self, *names: str) -> None:
        self.names = names


class Above:
    """Spellings under which the mapping that holds this one takes the key."""

    def __init__(self, *names: str) -> None:
        self.names = names


class AsItIs:
    """Marks a field whose content is handed on unchecked: YAML 1.2's core schema decides the types in it."""


class NullSays:
    """Marks a field where `null` is a value of its own; everywhere else it means that the key is absent."""


class Leaf:
    """A scalar, or lists of scalars."""


class Raw:
    """Anything, by the core schema."""


class Record(NamedTuple):
    """A mapping with known keys. `keys` leads from each spelling to the place of its field: (field,) or (record, field)."""

    model: type[BaseModel]
    bare: str | None  # the field that a lone scalar in place of the mapping means
    keys: Mapping[str, tuple[str, ...]]
    fields: Mapping[str, "Shape"]
    nullable: frozenset[str]  # fields for which `null` is a value


class Several(NamedTuple):
    """A list of records."""

    item: "Shape"


class Named(NamedTuple):
    """A mapping from names that the user chooses."""

    item: "Shape"


class Choice(NamedTuple):
    """One of several records; the key `type` tells which."""

    options: Mapping[str, Record]


Shape = Leaf | Raw | Record | Several | Named | Choice


def camel(name: str) -> str:
    """Return `negativePrompt` for `negative_prompt`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def spellings(name: str, metadata: Iterable[object]) -> list[str]:
    """Return every way a field's key may be written, its own name first."""
    names = [name, *(other for mark in metadata if isinstance(mark, Also) for other in mark.names)]
    return list(dict.fromkeys([*names, *map(camel, names)]))


@cache
def record_of(model: type[BaseModel]) -> Record:
    """Read a model's shape."""
    keys: dict[str, tuple[str, ...]] = {}
    fields: dict[str, Shape] = {}
    nullable = set()
    for name, info in model.model_fields.items():
        fields[name] = Raw() if any(isinstance(mark, AsItIs) for mark in info.metadata) else _shape(info.annotation)
        if any(isinstance(mark, NullSays) for mark in info.metadata):
            nullable.add(name)
        keys.update(dict.fromkeys(spellings(name, info.metadata), (name,)))
        inner = fields[name]
        if isinstance(inner, Record):
            keys.update(_lifted(name, inner.model))
    bare: str | None = getattr(model, "bare", None)
    return Record(model, bare, keys, fields, frozenset(nullable))


def _lifted(name: str, model: type[BaseModel]) -> dict[str, tuple[str, ...]]:
    return {
        spelling: (name, inner)
        for inner, info in model.model_fields.items()
        for mark in info.metadata
        if isinstance(mark, Above)
        for spelling in mark.names
    }


def _shape(annotation: object) -> Shape:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Raw() if any(isinstance(mark, AsItIs) for mark in args[1:]) else _shape(args[0])
    if origin in (Union, types.UnionType):
        return _union([shape for shape in map(_shape, args) if not isinstance(shape, Leaf)])
    if origin is tuple:
        item = _shape(args[0])
        return Leaf() if isinstance(item, Leaf) else Several(item)
    if origin in (dict, Mapping):
        return Named(_shape(args[1]))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return record_of(annotation)
    return Leaf()


def _union(shapes: list[Shape]) -> Shape:
    if len(shapes) > 1:
        return Choice({_type_of(shape): shape for shape in shapes if isinstance(shape, Record)})
    return shapes[0] if shapes else Leaf()


def _type_of(record: Record) -> str:
    return str(record.model.model_fields["type"].default)
