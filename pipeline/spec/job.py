"""A job file: bytes in, a checked `JobSpec` or complaints that name file, line, key and remedy out; and its JSON Schema."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any

from pydantic import ConfigDict, Field, PrivateAttr

from pipeline.errors import SpecError
from pipeline.model import CharacterRef
from pipeline.spec.binding import bind
from pipeline.spec.complaint import Complaint, Source
from pipeline.spec.jsontext import read_json
from pipeline.spec.keys import ALSO_STYLE, CharacterSpec, JobKeys
from pipeline.spec.nodes import Mapping, Node, Scalar, Sequence
from pipeline.spec.schema import schema_of
from pipeline.spec.shapes import Record, record_of
from pipeline.spec.types import JOB_ID_IS, LARGEST_SEED, MOST_IMAGES, JobId, ShortText
from pipeline.spec.yamltext import read_yaml


class _Origin:
    """Where a spec was read; no part of what it says, so any two are equal."""

    def __init__(self, root: Node, source: Source) -> None:
        self.root = root
        self.source = source

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Origin) or other is None

    __hash__ = None  # type: ignore[assignment]  # equal to everything, so it has none


class JobSpec(JobKeys):
    """A parsed job file, before styles and defaults."""

    model_config = ConfigDict(defer_build=False)  # several threads read jobs

    id: JobId | None = Field(default=None, description=JOB_ID_IS)
    style: Annotated[ShortText | None, ALSO_STYLE] = Field(default=None, description="a style's name")

    _origin: _Origin | None = PrivateAttr(default=None)

    def complaint(self, *path: str | int, message: str, expected: str | None = None, file: str = "") -> Complaint:
        """Complain about what stands under a field, at its line where the spec was read from a file."""
        if self._origin is None:
            return Complaint(file, 1, 1, message, "", expected)
        node = _down(self._origin.root, path)
        return self._origin.source.complaint(node.line, node.column, message, expected)


def parse_job(data: bytes, *, file: str) -> JobSpec:
    """Parse a job file; the name's extension tells YAML from JSON.

    Whether `character` and `prompt` are there is `plan.make_job`'s to say: a style may hold them.

    Raises:
        SpecError: with every complaint, whatever the bytes are.
    """
    root, source = read_root(data, file=file)
    if not isinstance(root, Mapping):
        shown = "a list" if isinstance(root, Sequence) else "a lone value"
        raise SpecError(
            [source.complaint(root.line, root.column, f"the file holds {shown}", "a mapping: `key: value` lines")]
        )
    spec = bind(JobSpec, root, source)
    spec._origin = _Origin(root, source)  # noqa: SLF001  # its own module; pydantic keeps private attributes off the constructor
    complaints = list(_contradictions(spec))
    if complaints:
        raise SpecError(complaints)
    return spec


def read_root(data: bytes, *, file: str) -> tuple[Node, Source]:
    """Read a job file's text as `parse_job` does, without asking what the keys mean.

    Raises:
        SpecError: it is neither YAML nor JSON within the limits.
    """
    if file.lower().endswith(".json"):
        return read_json(data, source=file)
    if data.lstrip()[:1] == b"{":  # a JSON body under a YAML name: JSON's escapes are not all YAML's
        with suppress(SpecError):
            return read_json(data, source=file)
    return read_yaml(data, source=file)


def job_schema() -> dict[str, Any]:
    """Return the JSON Schema of a job file, for editors and for programs that write jobs."""
    schema = schema_of(JobSpec, "job file")
    said = [name for name, place in record_of(JobSpec).keys.items() if place[0] == "character" and place[-1] != "owner"]
    style = [{"required": [name]} for name, place in record_of(JobSpec).keys.items() if place == ("style",)]
    complete = {"required": ["prompt"], "anyOf": [{"required": [name]} for name in said]}
    return schema | {"anyOf": [complete, *style]}  # a style may hold what the job leaves out


def _contradictions(spec: JobSpec) -> Iterator[Complaint]:
    inner = spec.character.owner if spec.character is not None else None
    if spec.owner is not None and inner is not None and spec.owner != inner:
        yield spec.complaint(
            "owner", message='"owner" says it differently from "character.owner"', expected="one of the two"
        )
    yield from too_much(spec, spec)


def too_much(keys: JobKeys, spec: JobSpec) -> Iterator[Complaint]:
    """Complain where quantity, prompts and seed together leave their bounds; `spec` knows the places."""
    prompts = len(keys.prompt) if isinstance(keys.prompt, tuple) else 1
    images = keys.quantity * prompts
    if images > MOST_IMAGES:
        message = f"{prompts} prompts with {keys.quantity} images each are {images:,} images"
        at = "quantity" if "quantity" in spec.model_fields_set else "prompt"
        yield spec.complaint(at, message=message, expected=f"at most {MOST_IMAGES:,} images in a job")
    elif keys.seed + images - 1 > LARGEST_SEED:
        message = f"seed: {keys.seed} leaves no seed for image {LARGEST_SEED - keys.seed + 2} of {images}"
        at = "seed" if "seed" in spec.model_fields_set else "quantity"
        yield spec.complaint(at, message=message, expected=f"at most {LARGEST_SEED - images + 1} for {images} images")


def character_ref(character: CharacterSpec) -> CharacterRef:
    """Return the character as acceptance takes it."""
    return CharacterRef(id=character.id, name=character.name, embedding=character.embedding)


def _down(root: Node, path: tuple[str | int, ...]) -> Node:
    shape = record_of(JobSpec)
    node = root
    for part in path:
        if isinstance(part, int):
            node = node.items[part] if isinstance(node, Sequence) and part < len(node.items) else node
        elif isinstance(node, Mapping):
            node = _under(node, part, shape)
    return node


def _under(node: Mapping, part: str, shape: Record) -> Node:
    found: Node = node
    for spelling, (_, child) in node.entries.items():
        if shape.keys.get(spelling, ("",))[0] == part and not (isinstance(child, Scalar) and child.null):
            return child
    return found
