"""From what the configuration says about the store to the store itself, and to the addresses of what it keeps.

Apart from the adapters, so that whoever only mints or verifies addresses loads no SDK.
"""

from pathlib import Path
from typing import assert_never

from pipeline.config.adapters import CloudinaryConfig, LocalConfig, StoreConfig
from pipeline.ports import Delivery, Store
from pipeline.stores.cloudinary_delivery import CloudinaryDelivery
from pipeline.stores.delivery import ByPlace, LocalDelivery, load_key
from pipeline.stores.local import LocalStore
from pipeline.tools.clock import Clock, now
from pipeline.tools.threads import Threads

KEY_FILE = "media.key"  # in the state folder


def open_store(config: StoreConfig, *, public_url: str, clock: Clock = now) -> Store:
    """Return the store; nothing is asked of it yet, `probe` does that.

    Args:
        config: the `store` part of the configuration.
        public_url: where the gallery is reached, for the local store's plain addresses.
        clock: the wall clock.
    """
    match config:
        case LocalConfig():
            threads = Threads(config.concurrency)
            return LocalStore(config.folder, public_url=public_url, run_sync=threads.run_sync)
        case CloudinaryConfig():
            from pipeline.stores.cloudinary import Account, CloudinaryStore

            account = Account(
                config.cloud_name,
                config.api_key.get_secret_value(),
                config.api_secret.get_secret_value(),
                config.upload_prefix,
            )
            return CloudinaryStore(
                account,
                delivery_type="authenticated" if config.access == "authenticated" else "upload",
                clock=clock,
                uploads=config.concurrency,
                timeout=config.timeout,
            )
        case _:
            assert_never(config)


def open_delivery(config: StoreConfig, *, public_url: str, state: Path) -> Delivery:
    """Return what mints the gallery's addresses.

    What stands in a local file is delivered by the gallery even after the store was changed to Cloudinary.

    Raises:
        OSError, ConfigError: the signing key in the state folder cannot be made or read.
    """
    local = LocalDelivery(public_url, load_key(state / KEY_FILE))
    match config:
        case LocalConfig():
            return local
        case CloudinaryConfig():
            return ByPlace(local, CloudinaryDelivery(config.cloud_name, config.api_secret.get_secret_value()))
        case _:
            assert_never(config)
