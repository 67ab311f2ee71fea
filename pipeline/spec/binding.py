"""Reads nodes into a model: keys to fields, scalars to the field's type, pydantic's errors to complaints at their place."""

from functools import cache
from typing import Annotated, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from pipeline.errors import SpecError
from pipeline.spec.complaint import MOST_TOLD, Complaint, Source, listed, meant, quoted
from pipeline.spec.nodes import Mapping, Node, Scalar, Sequence, core_value
from pipeline.spec.shapes import Choice, Leaf, Named, Raw, Record, Several, Shape, record_of
from pipeline.spec.wording import explain

Model = TypeVar("Model", bound=BaseModel)
Values = dict[str, object]


def bind(model: type[Model], root: Node, source: Source, *, context: object = None) -> Model:
    """Make a model of a tree.

    Raises:
        SpecError: with every complaint that can be told apart.
    """
    shape = record_of(model)
    binder = Binder(source)
    values = binder.record(root, shape)
    try:
        made = model.model_validate(values, context=context)
    except ValidationError as error:
        raise SpecError([*binder.complaints, *explain(error, root, shape, source)]) from error
    if binder.complaints:
        raise SpecError(binder.complaints)
    return made


class Binder:
    """Turns nodes into the values pydantic validates, and complains about keys on the way."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.complaints: list[Complaint] = []

    def complain(self, node: Node, message: str, expected: str | None = None) -> None:
        """Remember a complaint at a node.

        Raises:
            SpecError: there are as many as anybody reads.
        """
        self.complaints.append(self.source.complaint(node.line, node.column, message, expected))
        if len(self.complaints) == MOST_TOLD:
            raise SpecError(self.complaints)

    def value(self, node: Node, shape: Shape) -> object:
        """Return what stands at a node, for a field of this shape."""
        if isinstance(shape, Leaf):
            return plain(node)
        if isinstance(shape, Record):
            return self.record(node, shape)
        if isinstance(shape, Raw):
            return self.raw(node)
        if isinstance(shape, Several):
            return [self.value(item, shape.item) for item in node.items] if isinstance(node, Sequence) else plain(node)
        if isinstance(shape, Named):
            return self.named(node, shape)
        return self.choice(node, shape)

    def record(self, node: Node, shape: Record) -> object:
        """Return the values of a mapping by field name."""
        if not isinstance(node, Mapping):
            return {shape.bare: plain(node)} if shape.bare and isinstance(node, Scalar) else plain(node)
        values: Values = {}
        written: dict[str, str] = {}
        lifted: list[tuple[Scalar, Node, tuple[str, ...]]] = []
        for spelling, (key, child) in node.entries.items():
            place = shape.keys.get(spelling)
            if place is None:
                self.unknown(key, shape)
                continue
            name = place[0]
            if isinstance(child, Scalar) and child.null and name not in shape.nullable:
                continue
            if len(place) > 1:
                lifted.append((key, child, place))
                continue
            value = self.value(child, shape.fields[name])
            if name not in values:
                values[name] = value
                written[name] = spelling
            elif differ(shape.model, name, values[name], value):
                self.twice(key, written[name])
        for key, child, place in lifted:
            self.lift(key, child, values.setdefault(place[0], {}), place, shape.fields[place[0]])
        return values

    def lift(self, key: Scalar, child: Node, values: object, place: tuple[str, ...], shape: Shape) -> None:
        """Put a key of this mapping into the mapping below it that it speaks of."""
        if not isinstance(values, dict) or not isinstance(shape, Record):
            return
        inner = place[1]
        value = self.value(child, shape.fields[inner])
        if differ(shape.model, inner, values.setdefault(inner, value), value):
            self.twice(key, f"{place[0]}.{inner}")

    def twice(self, key: Scalar, other: str) -> None:
        """Complain about one thing said in two ways that disagree."""
        self.complain(key, f'"{key.text}" says it differently from "{other}"', "one of the two, or both the same")

    def unknown(self, key: Scalar, shape: Record) -> None:
        """Complain about a key that means nothing here, unless it is marked as the user's own."""
        if key.text.startswith("x-"):
            return
        suggestion = meant(key.text, shape.keys)
        self.complain(
            key,
            f"unknown key {quoted(key.text)}{suggestion}",
            None if suggestion else f"one of {listed(list(shape.fields))}",
        )

    def named(self, node: Node, shape: Named) -> object:
        """Return a mapping whose keys the user chooses."""
        if not isinstance(node, Mapping):
            return plain(node)
        return {name: self._entry(child, shape.item) for name, (_, child) in node.entries.items()}

    def _entry(self, node: Node, shape: Shape) -> object:
        """Return a named record; `name:` with nothing after it is one without keys."""
        nothing = isinstance(node, Scalar) and node.null and isinstance(shape, Record)
        return {} if nothing else self.value(node, shape)

    def choice(self, node: Node, shape: Choice) -> object:
        """Return the values of the record that the key `type` names."""
        if not isinstance(node, Mapping):
            return plain(node)
        types = list(shape.options)
        _, kind = node.entries.get("type", (None, None))
        if kind is None:
            self.complain(node, "`type` is missing", f"one of {listed(types)}")
            return {}
        if not isinstance(kind, Scalar) or kind.text not in types:
            said = kind.shown if isinstance(kind, Scalar) else ""
            self.complain(kind, f"unknown type {quoted(said)}{meant(said, types)}", f"one of {listed(types)}")
            return {}
        return self.record(node, shape.options[kind.text])

    def raw(self, node: Node) -> object:
        """Return JSON values, typed by the core schema."""
        if isinstance(node, Mapping):
            return {name: self.raw(child) for name, (_, child) in node.entries.items()}
        if isinstance(node, Sequence):
            return [self.raw(item) for item in node.items]
        try:
            return core_value(node)
        except ValueError as error:
            self.complain(node, str(error), "in quotes where it is meant as text")
            return None


def plain(node: Node) -> object:
    """Return text, lists and mappings of text; None for null."""
    if isinstance(node, Scalar):
        return None if node.null else node.text
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {name: plain(child) for name, (_, child) in node.entries.items()}


def differ(model: type[BaseModel], name: str, one: object, other: object) -> bool:
    """Tell whether two ways of writing a field's value mean different things."""
    if one == other:
        return False
    reader = _reader(model, name)
    try:
        return bool(reader.validate_python(one) != reader.validate_python(other))
    except ValidationError:
        return True


@cache
def _reader(model: type[BaseModel], name: str) -> TypeAdapter[object]:
    info = model.model_fields[name]
    kind = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    return TypeAdapter[object](kind)  # type: ignore[arg-type]  # built at run time
