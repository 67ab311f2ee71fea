"""Cloudinary's SDK, which reads its account from the environment when it is imported, and raises where it cannot read it.

Ours comes from the configuration, which names what is wrong. A workspace that keeps its images elsewhere loads none.
"""

import os

_hidden = os.environ.pop("CLOUDINARY_URL", None)
try:
    import cloudinary
    from cloudinary import uploader, utils
    from cloudinary.api_client.execute_request import execute_request
finally:
    if _hidden is not None:
        os.environ["CLOUDINARY_URL"] = _hidden

__all__ = ["cloudinary", "execute_request", "uploader", "utils"]
