"""The keys of a job file that a style may set too, once, as pydantic models: types, other spellings, what is expected.

A field that is not in `model_fields_set` was not in the file (or was `null` there).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from pipeline.model import OnFailure
from pipeline.spec.shapes import Above, Also, AsItIs, NullSays, record_of, spellings
from pipeline.spec.types import (
    CHARACTER_ID_IS,
    LARGEST_SEED,
    MOST_IMAGES,
    OWNER_IS,
    CharacterId,
    Duration,
    Hook,
    Label,
    Names,
    Owner,
    ShortText,
    one_or_several,
    without_repeats,
)

LONGEST_PROMPT = 20_000  # characters
ALSO_STYLE = Also("art_style")
# What only a job says, no style: `JobSpec` adds it.
_NO_STYLES = {"id": ("id",)} | dict.fromkeys(spellings("style", (ALSO_STYLE,)), ("style",))
# A style is built with the configuration that holds it, where one does.
_FROZEN = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)


def _prompts(value: object) -> object:
    if not isinstance(value, list | tuple):
        return _prompt(value, {})
    if not value:
        raise PydanticCustomError("prompt", "is empty")
    return tuple(_prompt(one, {"entry": place}) for place, one in enumerate(value))


def _prompt(value: object, place: dict[str, Any]) -> str:
    if not isinstance(value, str):
        raise PydanticCustomError("prompt", "is not a text", place)
    prompt = value.strip()
    if not prompt:
        raise PydanticCustomError("prompt", "is empty", place)
    if len(prompt) > LONGEST_PROMPT:
        raise PydanticCustomError("prompt", "is longer than {most} characters", {**place, "most": LONGEST_PROMPT})
    return prompt


def _params(value: dict[str, Any]) -> dict[str, Any]:
    taken = {**record_of(JobKeys).keys, **_NO_STYLES}
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
        description=f"exactly this character: {CHARACTER_ID_IS}",
    )
    name: Annotated[ShortText | None, Above("characterName", "character_name")] = Field(
        default=None,
        description="a name, at most 300 characters; without `id` it is looked up among the owner's characters",
    )
    owner: Annotated[Owner | None, Also("owner_id", "user_id")] = Field(
        default=None, description=f"as the job's `owner`: {OWNER_IS}"
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
    owner: Annotated[Owner | None, Also("owner_id", "user_id")] = Field(default=None, description=OWNER_IS)
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
    notify: Hook | None = Field(default=None, description="an address like https://host/path that is told of the end")
    labels: Annotated[tuple[Label, ...], BeforeValidator(one_or_several), AfterValidator(without_repeats)] = Field(
        default=(), max_length=100, description="a list of words, each at most 100 characters"
    )

    def said(self) -> dict[str, Any]:
        """Return the fields that were written, with their values; the character's owner counts as `owner`."""
        values = {name: getattr(self, name) for name in self.model_fields_set}
        if self.owner is None and self.character is not None and self.character.owner is not None:
            values["owner"] = self.character.owner
        return values


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration decides about every job."""

    default_owner: str = "me"
    styles: Mapping[str, JobKeys] = field(default_factory=dict)  # without any, a style is only a label
    default_style: str | None = None
    default_backend: tuple[str, ...] = ()  # empty: all of them
    backends: tuple[str, ...] = ("sketch",)
    notify: str | None = None
