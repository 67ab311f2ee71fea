"""The keys of a job file, once, as pydantic models: types, other spellings, what is expected, the schema.

`JobKeys` holds what a style may set too; `JobSpec` is a parsed file. A field that is not in `model_fields_set`
was not in the file (or was `null` there).
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from pipeline.errors import SpecError
from pipeline.model import CharacterRef, OnFailure
from pipeline.spec.binding import bind
from pipeline.spec.complaint import Complaint, Source
from pipeline.spec.jsontext import read_json
from pipeline.spec.nodes import Mapping, Node, Scalar, Sequence
from pipeline.spec.shapes import Above, Also, AsItIs, NullSays, Record, record_of
from pipeline.spec.types import (
    LARGEST_SEED,
    MOST_IMAGES,
    CharacterId,
    Duration,
    JobId,
    Label,
    Names,
    Owner,
    ShortText,
    WebAddress,
    one_or_several,
    without_repeats,
)
from pipeline.spec.yamltext import read_yaml

LONGEST_PROMPT = 20_000  # characters
_FROZEN = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _prompts(value: object) -> object:
    several = value if isinstance(value, list | tuple) else (value,)
    prompts = tuple(one.strip() for one in several if isinstance(one, str))
    if several and (not all(prompts) or len(prompts) < len(several)):
        holds = "holds an entry that " if isinstance(value, list | tuple) else ""
        raise PydanticCustomError("prompt", "{holds}is empty, or not a text", {"holds": holds})
    if not prompts:
        raise PydanticCustomError("prompt", "is empty")
    if max(map(len, prompts)) > LONGEST_PROMPT:
        raise PydanticCustomError("prompt", "is longer than {most} characters", {"most": LONGEST_PROMPT})
    return prompts[0] if isinstance(value, str) else prompts


def _params(value: dict[str, Any]) -> dict[str, Any]:
    taken = record_of(JobKeys).keys
    for name in value:
        if name in taken:
            key = ".".join(taken[name])
            sentence = f'`params` may not set "{name}": the key `{key}` of the job does'
            raise PydanticCustomError(
                "params", "{sentence}", {"sentence": sentence, "key": name, "expected": f"`{key}`"}
            )
    return value


class CharacterSpec(BaseModel):
    """The character as a job names it; a lone name stands for `{name: …}`."""

    model_config = _FROZEN
    bare: ClassVar = "name"

    id: Annotated[CharacterId | None, Above("characterId", "character_id")] = Field(
        default=None,
        description="exactly this character: ASCII letters, digits, `.`, `_`, `-`, the first a letter or digit, at most 64",
    )
    name: Annotated[ShortText | None, Above("characterName", "character_name")] = Field(
        default=None,
        description="a name, at most 300 characters; without `id` it is looked up among the owner's characters",
    )
    owner: Annotated[Owner | None, Also("owner_id", "user_id")] = Field(
        default=None, description="as the job's `owner`: letters, digits, `. _ - @ | : +`, at most 128"
    )
    embedding: ShortText | None = Field(
        default=None, description="a textual inversion's name, remembered for the character"
    )


class LoraSpec(BaseModel):
    """A LoRA by the name its back end knows it by."""

    model_config = _FROZEN
    bare: ClassVar = "name"

    name: ShortText = Field(description="the LoRA's name")
    weight: Annotated[float, Also("strength")] = Field(
        default=1.0, ge=-100, le=100, allow_inf_nan=False, description="a number, -100 to 100"
    )


class JobKeys(BaseModel):
    """What a job may say, and a style may say as a default."""

    model_config = _FROZEN

    character: CharacterSpec | None = Field(default=None, description="a name, or `{id, name, owner, embedding}`")
    owner: Annotated[Owner | None, Also("owner_id", "user_id")] = Field(
        default=None, description="letters, digits, `. _ - @ | : +`, the first a letter or digit, at most 128"
    )
    prompt: Annotated[
        str | tuple[str, ...] | None,
        BeforeValidator(_prompts),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
    ] = Field(default=None, description="a text, or a list of texts: `quantity` images of each")
    negative_prompt: Annotated[str | None, StringConstraints(strip_whitespace=True)] = Field(
        default=None, max_length=LONGEST_PROMPT, description=f"a text, at most {LONGEST_PROMPT} characters"
    )
    quantity: Annotated[int, Also("num_images", "count", "n")] = Field(
        default=1, ge=1, le=MOST_IMAGES, description=f"a whole number from 1 to {MOST_IMAGES:,}"
    )
    backend: Names | None = Field(default=None, description="the name of a back end, or a list of names")
    model: ShortText | None = Field(default=None, description="a model's name as the back end knows it")
    width: int = Field(default=1024, ge=64, le=4096, description="pixels, 64 to 4096")
    height: int = Field(default=1536, ge=64, le=4096, description="pixels, 64 to 4096")
    steps: Annotated[int | None, Also("num_inference_steps")] = Field(
        default=None, ge=1, le=1000, description="a whole number from 1 to 1000"
    )
    cfg_scale: Annotated[float | None, Also("cfg", "guidance_scale")] = Field(
        default=None, ge=0, le=1000, allow_inf_nan=False, description="a number from 0 to 1000"
    )
    sampler_name: Annotated[ShortText | None, Also("sampler")] = Field(
        default=None, description="a sampler's name as the back end knows it"
    )
    scheduler: ShortText | None = Field(default=None, description="a scheduler's name as the back end knows it")
    seed: int = Field(
        default=-1,
        ge=-1,
        le=LARGEST_SEED,
        description=f"a whole number from 0 to {LARGEST_SEED} for every image, or -1 for one that is drawn",
    )
    embedding: Annotated[ShortText | None, NullSays()] = Field(
        default=None, description="a textual inversion's name for this job, or null for none"
    )
    loras: tuple[LoraSpec, ...] = Field(default=(), max_length=100, description="a list of `{name, weight}`")
    params: Annotated[dict[str, Any], AfterValidator(_params), AsItIs()] = Field(
        default_factory=dict, description="further parameters for the back end, as they are"
    )
    stagger: Duration = Field(default=0.0, description='seconds between the starts of this job, or "90s", "10m"')
    priority: int = Field(default=0, ge=-100, le=100, description="-100 to 100, higher first")
    on_failure: OnFailure = Field(default=OnFailure.PLACEHOLDER, description="placeholder or fail")
    notify: WebAddress | None = Field(
        default=None, description="an address like https://host/path that is told of the end"
    )
    labels: Annotated[tuple[Label, ...], BeforeValidator(one_or_several), AfterValidator(without_repeats)] = Field(
        default=(), max_length=100, description="a list of words, each at most 100 characters"
    )

    def said(self) -> dict[str, Any]:
        """Return the fields that were written, with their values; the character's owner counts as `owner`."""
        values = {name: getattr(self, name) for name in self.model_fields_set}
        if self.owner is None and self.character is not None and self.character.owner is not None:
            values["owner"] = self.character.owner
        return values


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

    id: JobId | None = Field(
        default=None, description="ASCII letters, digits, `.`, `_`, `-`, the first a letter or digit, at most 80"
    )
    style: Annotated[ShortText | None, Also("art_style")] = Field(default=None, description="a style's name")

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
