"""Pydantic's errors in the words of the person who wrote the file."""

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from pipeline.spec.complaint import MOST_TOLD, Complaint, Source, meant, quoted, without_secrets
from pipeline.spec.nodes import Mapping, Node, Scalar, Sequence
from pipeline.spec.shapes import Choice, Named, Raw, Record, Several, Shape

_WORDS = {
    "int_parsing": "is not a whole number",
    "int_type": "is not a whole number",
    "int_from_float": "is not a whole number",
    "int_parsing_size": "is out of range",
    "float_parsing": "is not a number",
    "float_type": "is not a number",
    "finite_number": "is not a number",
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "greater_than": "is out of range",
    "greater_than_equal": "is out of range",
    "less_than": "is out of range",
    "less_than_equal": "is out of range",
    "string_pattern_mismatch": "is not allowed",
    "string_too_short": "is empty",
    "string_too_long": "is too long",
    "too_short": "is empty",
    "too_long": "has too many entries",
    "string_type": "is not a text",
    "enum": "is not one of the choices",
    "literal_error": "is not one of the choices",
    "path_type": "is not a path",
    "tuple_type": "is not a list",
    "list_type": "is not a list",
    "dict_type": "is not a mapping",
    "mapping_type": "is not a mapping",
    "model_type": "is not a mapping",
    "model_attributes_type": "is not a mapping",
}

_CONSEQUENCES = frozenset({"default_factory_not_called", "union_tag_not_found"})  # of a fault that is named already


class _Place:
    """Where an error's path leads in the tree: the node, the key it stands under, and the field that describes it."""

    def __init__(self, root: Node, shape: Shape) -> None:
        self.node: Node = root
        self.key: Scalar | None = None
        self.shape: Shape | None = shape
        self.field: FieldInfo | None = None
        self.label = ""
        self.missing: str | None = None

    def step(self, part: str | int) -> bool:
        """Go one part of the path down; False where it leads nowhere, as pydantic's tags of unions do."""
        node, shape = self.node, self.shape
        if isinstance(part, int):
            return self.into_list(part)
        if isinstance(shape, Choice):
            self.shape = shape.options.get(part, shape)
        elif isinstance(shape, Record) and part in shape.fields:
            return self.into_field(part, shape)
        elif isinstance(node, Mapping) and part in node.entries:
            key, child = node.entries[part]
            if isinstance(shape, Named):
                self.enter(key, child, shape.item)
                return True
            if isinstance(shape, Raw):  # what is complained about there is the key
                self.node = key
        return False

    def into_list(self, index: int) -> bool:
        """Go to an entry of a list; people count from 1."""
        if not isinstance(self.node, Sequence) or index >= len(self.node.items):
            return False
        self.shape = self.shape.item if isinstance(self.shape, Several) else None
        self.node, self.label = self.node.items[index], f"{self.label}[{index + 1}]"
        return True

    def into_field(self, part: str, shape: Record) -> bool:
        self.field = shape.model.model_fields[part]
        if isinstance(self.node, Scalar) and shape.bare == part:
            self.shape = shape.fields[part]
            return True
        for spelling, (key, child) in self.node.entries.items() if isinstance(self.node, Mapping) else ():
            place = shape.keys.get(spelling)
            if place == (part,) and not (isinstance(child, Scalar) and child.null and part not in shape.nullable):
                self.enter(key, child, shape.fields[part])
                return True
        self.missing = part
        return False

    def lifted(self, first: str, second: str, shape: Record) -> bool:
        """Look for a key of this mapping that stands for a field of the mapping below."""
        inner = shape.fields.get(first)
        for spelling, (key, child) in self.node.entries.items() if isinstance(self.node, Mapping) else ():
            if shape.keys.get(spelling) == (first, second) and isinstance(inner, Record):
                self.field = inner.model.model_fields[second]
                self.enter(key, child, inner.fields[second])
                return True
        return False

    def enter(self, key: Scalar, child: Node, shape: Shape) -> None:
        self.key, self.node, self.shape = key, child, shape
        self.label = f"{self.label}.{key.text}" if self.label else key.text


def explain(error: ValidationError, root: Node, shape: Record, source: Source) -> list[Complaint]:
    """Translate each error into a complaint at its place, one for a place, as many as anybody reads."""
    complaints: dict[tuple[int, int, str | None], Complaint] = {}
    for detail in error.errors(include_url=False):
        if detail["type"] in _CONSEQUENCES:
            continue
        place = find(root, shape, detail["loc"])
        said = _complaint(detail, place, source)
        complaints.setdefault((said.line, said.column, place.missing), said)
        if len(complaints) == MOST_TOLD:
            break
    return list(complaints.values())


def find(root: Node, shape: Record, path: Iterable[str | int]) -> _Place:
    """Follow a path of field names and list places down the tree as far as it is written there."""
    place, parts = _Place(root, shape), list(path)
    if len(parts) > 1 and isinstance(parts[0], str) and isinstance(parts[1], str):
        below = _Place(root, shape)
        if not (below.step(parts[0]) and below.step(parts[1])) and place.lifted(parts[0], parts[1], shape):
            return place
    for part in parts:
        place.step(part)
        if place.missing:
            break
    return place


def describe(field: FieldInfo | None) -> str | None:
    """Return what a field's description says is expected."""
    return field.description if field is not None else None


def _complaint(detail: ErrorDetails, place: _Place, source: Source) -> Complaint:
    kind, context = detail["type"], detail.get("ctx", {})
    if "key" in context:
        place.step(str(context["key"]))
    if "entry" in context:
        place.step(int(context["entry"]))
    if detail["loc"][-1:] == ("[key]",) and place.key is not None:  # the name that somebody chose, not what it names
        place.node, place.label = place.key, place.label.removesuffix(f".{place.key.text}")
    node = place.node
    if kind == "missing":
        return source.complaint(node.line, node.column, f"`{place.missing}` is missing", describe(place.field))
    if "sentence" in context:
        return source.complaint(node.line, node.column, str(context["sentence"]), context.get("expected"))
    words = _words(detail, context)
    shown = "" if _secret(place.field) else _shown(node)
    message = f"{place.label}: {shown} {words}" if place.label and shown else f"{place.label}{shown} {words}"
    said = source.complaint(node.line, node.column, message, context.get("expected") or describe(place.field))
    return said._replace(source_line="") if _secret(place.field) else said


def _words(detail: ErrorDetails, context: dict[str, Any]) -> str:
    kind = detail["type"]
    if kind in ("enum", "literal_error"):
        choices = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
        context["expected"] = "one of " + ", ".join(choices)
        return _WORDS[kind] + meant(str(detail["input"]), choices)
    return _WORDS.get(kind) or str(detail["msg"])


def _shown(node: Node) -> str:
    if isinstance(node, Scalar):
        return _shown_scalar(node)
    return "a list" if isinstance(node, Sequence) else "a mapping"


def _shown_scalar(node: Scalar) -> str:
    if node.written is not None or node.null:  # what the environment held is not shown
        return "null" if node.written is None else quoted(node.written)
    return node.text[:60] if _number(node) else quoted(without_secrets(node.text[:200]))


def _number(node: Scalar) -> bool:
    return node.plain and node.text.lstrip("-+").replace(".", "", 1).isdigit()


def _secret(field: FieldInfo | None) -> bool:
    return field is not None and "SecretStr" in repr(field.annotation)
