"""The places that keep images, each behind the Store port."""

import os


def _load_sdk() -> None:
    """Cloudinary's SDK reads its account from the environment when it is imported, and raises where it cannot read it.

    Ours comes from the configuration, which names what is wrong; a workspace that keeps its images elsewhere needs none.
    """
    hidden = os.environ.pop("CLOUDINARY_URL", None)
    try:
        import cloudinary  # noqa: F401, PLC0415 -- only while the environment holds nothing that it would read
    finally:
        if hidden is not None:
            os.environ["CLOUDINARY_URL"] = hidden


_load_sdk()
