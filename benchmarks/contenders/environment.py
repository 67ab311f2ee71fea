"""The contenders' own environment, made once in the user's cache folder; nothing of it is a dependency of the project."""

import os
import subprocess
import sys
from pathlib import Path

PACKAGES = (
    "aiohttp>=3.10",
    "celery[redis]>=5.4",
    "cloudinary>=1.46",
    "dramatiq[redis]>=1.17",
    "huey>=2.5",
    "pillow>=11",
    "redis>=5",
    "requests>=2.32",
)


def python() -> Path:
    """Return its interpreter, of the version that runs this."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "pipeline-bench" / f"contenders-{sys.version_info.major}.{sys.version_info.minor}"
    done, interpreter = folder / "made", folder / "bin" / "python"
    if not done.exists() or done.read_text() != str(PACKAGES):
        subprocess.run(["uv", "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run(["uv", "pip", "install", "--quiet", "--python", interpreter, *PACKAGES], check=True)
        done.write_text(str(PACKAGES))
    return interpreter
