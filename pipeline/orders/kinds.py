"""The orders there are, as they stand in a file, and the reply to one. What does not fit is refused before it does harm."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from pipeline.errors import UserError
from pipeline.spec.complaint import quoted
from pipeline.spec.types import CHARACTER_ID_IS, OWNER_IS, CharacterId, Owner

Name = Annotated[str, Field(min_length=1, max_length=300)]
Number = Annotated[int, Field(ge=1, le=2**53)]
Numbers = Annotated[tuple[Number, ...], Field(max_length=10_000)]


# Most runs of the daemon see no order: what checks them is built for the first.
_FROZEN = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class _Order(BaseModel):
    model_config = _FROZEN

    @property
    def lasting(self) -> bool:
        """Whether it may take minutes, so that others should not wait for it."""
        return False


class Cancel(_Order):
    """End one job, or all jobs with a label."""

    kind: Literal["cancel"] = "cancel"
    job: Name | None = None
    label: Name | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.job is None) == (self.label is None):
            raise ValueError("name one job, or one label")
        return self


class Retry(_Order):
    """Make images again in place: those of a job, some by number, or all that match."""

    kind: Literal["retry"] = "retry"
    job: Name | None = None
    character: Name | None = None
    numbers: Numbers = ()
    label: Name | None = None
    placeholders: bool = False
    failed: bool = False

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.numbers and (self.character is None or self.job or self.label or self.placeholders or self.failed):
            raise ValueError("numbers go with a character and nothing else")
        if not (self.numbers or self.job or self.placeholders or self.failed):
            raise ValueError("name a job, or a character and numbers, or say placeholders or failed")
        return self


class _Pausing(_Order):
    job: Name | None = None
    backend: Name | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.job is not None and self.backend is not None:
            raise ValueError("name a job or a back end, not both")
        return self


class Pause(_Pausing):
    """Start nothing more: of a job, at a back end, or anywhere."""

    kind: Literal["pause"] = "pause"


class Resume(_Pausing):
    """Undo a pause; without a name, every pause."""

    kind: Literal["resume"] = "resume"


class Favorite(_Order):
    """Set or clear favourite marks."""

    kind: Literal["favorite"] = "favorite"
    character: Name
    numbers: Numbers = Field(min_length=1)
    chosen: bool = True


class Remove(_Order):
    """Delete images at the store; their rows hold the numbers."""

    kind: Literal["remove"] = "remove"
    character: Name
    numbers: Numbers = Field(min_length=1)

    @property
    def lasting(self) -> bool:
        """A store that does not answer is waited for."""
        return True


class Adopt(_Order):
    """Give a character the images that stand under a prefix elsewhere in the store."""

    kind: Literal["adopt"] = "adopt"
    character: CharacterId
    prefix: Name
    owner: Owner | None = None
    default_owner: Name

    @property
    def lasting(self) -> bool:
        """A listing takes about a second for 500 images."""
        return True


Order = Cancel | Retry | Pause | Resume | Favorite | Remove | Adopt
_ORDER: TypeAdapter[Order] = TypeAdapter(
    Annotated[Order, Field(discriminator="kind")], config=ConfigDict(defer_build=True)
)


class Reply(BaseModel):
    """What became of an order."""

    model_config = _FROZEN

    exit_code: int = 0  # as the command leaves with: 0 done, 1 something failed, 2 invalid
    lines: tuple[str, ...] = ()  # for people
    data: dict[str, Any] = Field(default_factory=dict)  # for programs, JSON values


def read_order(text: bytes | str) -> Order:
    """Parse an order's file.

    Raises:
        UserError: it is none; the message says what is wrong with it.
    """
    try:
        return _ORDER.validate_json(text)
    except ValidationError as error:
        raise UserError(f"this is no order: {_first(error)}") from None


def make_order(kind: type[Order], **said: Any) -> Order:  # noqa: ANN401  # a command's own arguments
    """Build an order of what a command was told.

    Raises:
        UserError: it contradicts itself, or says too little.
    """
    try:
        return kind(**said)
    except ValidationError as error:
        raise UserError(_first(error)) from None


def _first(error: ValidationError) -> str:
    told = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in told["loc"])
    words = {
        "string_pattern_mismatch": f"is not allowed; expected: {OWNER_IS if place.endswith('owner') else CHARACTER_ID_IS}",
        "string_too_short": "is empty",
        "string_too_long": "is too long",
        "less_than_equal": "is too large",
    }
    if told["type"] in words:
        return f"{place}: {quoted(str(told['input']))} {words[told['type']]}"
    message = told["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
