"""What the configuration says about each back end and each store; the names of the keys are the users'."""

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, model_validator

from pipeline.config.values import FROZEN, Host, RootedPath, fault
from pipeline.spec.shapes import AsItIs
from pipeline.spec.types import LARGEST_SEED, Duration, ShortText, WebAddress, one_or_several, without_repeats

RUNPOD_API = "https://api.runpod.ai/v2"


def cores() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class AnyBackend(BaseModel):
    """What every back end has; the defaults of `concurrency`, `stagger` and `poll_rate` are each type's own."""

    model_config = FROZEN

    concurrency: int = Field(default=1, ge=1, le=1000, description="images in progress there at once, 1 to 1000")
    stagger: Duration = Field(default=0.0, description='least seconds between two starts there, or "90s"')
    timeout: Duration = Field(default=600.0, gt=0, description='seconds one image may take there, or "10m"')
    attempts: int = Field(default=3, ge=1, le=100, description="accepted submissions that may fail, 1 to 100")
    poll_rate: float = Field(
        default=20.0, gt=0, le=10_000, allow_inf_nan=False, description="status requests per second at most, above 0"
    )
    allow_hosts: Annotated[tuple[Host, ...], BeforeValidator(one_or_several), AfterValidator(without_repeats)] = Field(
        default=(), description="a list of host names or addresses that may be private"
    )
    price_per_hour: float | None = Field(
        default=None, ge=0, le=100_000, allow_inf_nan=False, description="what an hour of GPU time costs there"
    )

    @property
    def base_url(self) -> str | None:
        """Where its requests go; None where it has no address."""
        return None


class SketchConfig(AnyBackend):
    """Draws locally; `delay` and `fail_seeds` make it behave like something slower and less reliable."""

    type: Literal["sketch"] = "sketch"
    concurrency: int = Field(
        default_factory=cores, ge=1, le=1000, description="images in progress there at once, 1 to 1000"
    )
    delay: Duration = Field(default=0.0, description='seconds each picture takes, or "2s"')
    fail_seeds: Annotated[tuple[Annotated[int, Field(ge=0, le=LARGEST_SEED)], ...], BeforeValidator(one_or_several)] = (
        Field(default=(), description="a list of seeds whose images fail")
    )


class RunpodConfig(AnyBackend):
    """A serverless endpoint, by its id or by an address that speaks the same protocol."""

    type: Literal["runpod"] = "runpod"
    endpoint: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$", description="the endpoint's id")
    url: WebAddress | None = Field(default=None, description="the endpoint's address, instead of `endpoint`")
    api_key: SecretStr | None = Field(default=None, description="the account's key, best as ${RUNPOD_API_KEY}")
    worker: Literal["sdxl", "a1111", "comfyui", "custom"] = Field(
        default="sdxl", description="one of sdxl, a1111, comfyui, custom: what the endpoint's worker speaks"
    )
    workflow: RootedPath | None = Field(default=None, description="for worker comfyui: a workflow saved in API format")
    input: Annotated[dict[str, Any] | None, AsItIs()] = Field(
        default=None, description="for worker custom: the template of the request's `input`"
    )
    concurrency: int = Field(default=3, ge=1, le=1000, description="images in progress there at once, 1 to 1000")
    stagger: Duration = Field(default=0.1, description='least seconds between two starts there, or "90s"')
    poll_rate: float = Field(
        default=150.0, gt=0, le=10_000, allow_inf_nan=False, description="status requests per second at most, above 0"
    )

    @property
    def base_url(self) -> str:
        """Where its requests go, without a trailing slash."""
        return self.url or f"{RUNPOD_API}/{self.endpoint}"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.endpoint is None) == (self.url is None):
            raise fault("a runpod back end has either `endpoint` or `url`", key="url", expected="one of the two")
        if self.endpoint is not None and self.api_key is None:
            raise fault("`api_key` is missing, or empty", key="api_key", expected="the key, best as ${RUNPOD_API_KEY}")
        if self.worker == "custom" and self.input is None:
            raise fault("`input` is missing", key="input", expected="for worker custom: the template of `input`")
        return self


class _AtAddress(AnyBackend):
    user: ShortText | None = Field(default=None, description="the user, where the server asks for one")
    password: SecretStr | None = Field(default=None, description="the password, best as ${NAME}")

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise fault("`user` and `password` go together", key="user", expected="both, or neither")
        return self


class ComfyuiConfig(_AtAddress):
    """A ComfyUI server."""

    type: Literal["comfyui"] = "comfyui"
    url: WebAddress = Field(default="http://127.0.0.1:8188", description="the server's address")
    workflow: RootedPath | None = Field(default=None, description="a workflow saved in API format")
    concurrency: int = Field(default=2, ge=1, le=1000, description="images in progress there at once, 1 to 1000")
    stagger: Duration = Field(default=0.5, description='least seconds between two starts there, or "90s"')

    @property
    def base_url(self) -> str:
        """Where its requests go, without a trailing slash."""
        return self.url


class A1111Config(_AtAddress):
    """A server that speaks AUTOMATIC1111's API."""

    type: Literal["a1111"] = "a1111"
    url: WebAddress = Field(default="http://127.0.0.1:7860", description="the server's address")

    @property
    def base_url(self) -> str:
        """Where its requests go, without a trailing slash."""
        return self.url


BackendConfig = Annotated[
    SketchConfig | RunpodConfig | ComfyuiConfig | A1111Config, Field(discriminator="type", description="a back end")
]


class LocalConfig(BaseModel):
    """Images as files in a visible folder."""

    model_config = FROZEN

    type: Literal["local"] = "local"
    folder: RootedPath = Field(default=Path("images"), validate_default=True, description="a folder for the images")
    concurrency: int = Field(default=4, ge=1, le=64, description="images written at once, 1 to 64")


class CloudinaryConfig(BaseModel):
    """An account; what is missing here is taken from CLOUDINARY_URL."""

    model_config = FROZEN
    from_environment: ClassVar = ("cloud_name", "api_key", "api_secret", "upload_prefix")

    type: Literal["cloudinary"] = "cloudinary"
    cloud_name: str = Field(
        pattern=r"^[A-Za-z0-9_.-]+$", description="the cloud's name, or all of it in CLOUDINARY_URL"
    )
    api_key: SecretStr = Field(description="the account's API key, or all of it in CLOUDINARY_URL")
    api_secret: SecretStr = Field(description="the account's API secret, or all of it in CLOUDINARY_URL")
    upload_prefix: WebAddress = Field(default="https://api.cloudinary.com", description="the API's address")
    access: Literal["authenticated", "public"] = Field(
        default="authenticated", description="authenticated (signed delivery URLs) or public"
    )
    concurrency: int = Field(default=8, ge=1, le=64, description="uploads at once, 1 to 64")
    timeout: Duration = Field(default=60.0, gt=0, description='seconds an upload may take, or "2m"')


StoreConfig = Annotated[LocalConfig | CloudinaryConfig, Field(discriminator="type", description="a store")]
