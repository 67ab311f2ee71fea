"""JSON Schemas of what is accepted: pydantic's own, widened by the other spellings and by scalars read as written."""

from typing import Any

from pydantic import BaseModel

from pipeline.spec.shapes import Choice, Named, Record, Several, Shape, record_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SCALARS = {
    "string": ["string", "number", "boolean", "null"],  # `id: 007` is a text to us, a number to an editor
    "integer": ["integer", "string", "null"],
    "number": ["number", "string", "null"],
    "boolean": ["boolean", "string", "null"],
}
_NUMERIC_TEXT = r"^\s*[-+]?[0-9.]|\$\{"
_DROPPED = frozenset({"discriminator", "title", "writeOnly"})


def schema_of(model: type[BaseModel], title: str) -> dict[str, Any]:
    """Return the schema of a model as files write it."""
    schema: dict[str, Any] = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    shapes: dict[str, Record] = {}
    _collect(record_of(model), shapes)
    widened = {name: _record(body, shapes.get(name)) for name, body in definitions.items()}
    return {"$schema": DIALECT, **_record(schema, record_of(model)), "title": title, "$defs": widened}


def _collect(shape: Shape, found: dict[str, Record]) -> None:
    if isinstance(shape, Record):
        found[shape.model.__name__] = shape
        for inner in shape.fields.values():
            _collect(inner, found)
    elif isinstance(shape, Several | Named):
        _collect(shape.item, found)
    elif isinstance(shape, Choice):
        for option in shape.options.values():
            _collect(option, found)


def _record(schema: dict[str, Any], shape: Record | None) -> dict[str, Any]:
    if shape is None:
        return dict(_widened(schema))
    own = schema.get("properties", {})
    properties: dict[str, Any] = {}
    for spelling, (name, *inner) in shape.keys.items():
        lifted = shape.fields[name]
        if inner and isinstance(lifted, Record):
            below = lifted.model.model_json_schema()["properties"]
            properties[spelling] = _widened(below[inner[0]])
        else:
            properties[spelling] = _optional(_widened(own[name]))
    body = {
        "type": "object",
        "description": schema.get("description", ""),
        "properties": properties,
        "patternProperties": {"^x-": True},
        "additionalProperties": False,
    }
    if "required" in schema:
        body["required"] = schema["required"]
    return body if shape.bare is None else {"anyOf": [{"type": ["string", "number", "boolean"]}, body]}


def _widened(schema: Any) -> Any:  # noqa: ANN401  # any JSON value
    if isinstance(schema, list):
        return [_widened(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    wide = {key: _widened(value) for key, value in schema.items() if key not in _DROPPED and key != "default"}
    kind = schema.get("type")
    if isinstance(kind, str) and kind in _SCALARS:
        wide["type"] = _SCALARS[kind]
        if kind in ("integer", "number"):
            wide["pattern"] = _NUMERIC_TEXT
    if schema.get("type") == "array":
        wide = {"anyOf": [wide, {"type": ["string", "number", "boolean"]}]}
    if "enum" in wide or "const" in wide:
        wide.pop("type", None)
    if "default" in schema and not isinstance(schema["default"], dict | list):
        wide["default"] = schema["default"]
    return wide


def _optional(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "anyOf": [schema, {"type": "null"}],
        **{key: schema[key] for key in ("description", "default") if key in schema},
    }
