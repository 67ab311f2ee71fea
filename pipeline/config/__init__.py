"""The one reader of `pipeline.yaml` and of the environment; everybody else gets frozen values."""

from pipeline.config.adapters import (
    A1111Config,
    BackendConfig,
    CloudinaryConfig,
    ComfyuiConfig,
    LocalConfig,
    RunpodConfig,
    SketchConfig,
    StoreConfig,
)
from pipeline.config.load import config_schema, load_config
from pipeline.config.model import Config, GalleryConfig, JwtConfig, NotifyConfig, own_address
from pipeline.config.template import INIT_TEMPLATE

__all__ = [
    "INIT_TEMPLATE",
    "A1111Config",
    "BackendConfig",
    "CloudinaryConfig",
    "ComfyuiConfig",
    "Config",
    "GalleryConfig",
    "JwtConfig",
    "LocalConfig",
    "NotifyConfig",
    "RunpodConfig",
    "SketchConfig",
    "StoreConfig",
    "config_schema",
    "load_config",
    "own_address",
]
