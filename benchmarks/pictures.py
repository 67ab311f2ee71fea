"""PNG pictures of noise, all different, of a wanted size in bytes; made once and kept in the temporary folder.

Noise is what pictures are to a decoder at this size: 200 KB are 216 x 325 pixels, 1 MB 488 x 719, 8 MB 1368 x 2052.
"""

import io
import math
import shutil
import tempfile
from pathlib import Path

from PIL import Image

BYTES_PER_PIXEL = 2.85  # of such noise, at zlib's level 1
SPREAD = 32


def folder_of(number: int, kilobytes: int) -> Path:
    """Return a folder of `number` PNG files of about `kilobytes` (1,000 bytes) each."""
    folder = Path(tempfile.gettempdir(), "pipeline-bench", f"{number}-pictures-of-{kilobytes}-kB")
    if not folder.exists():
        draft = folder.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for n in range(number):
            (draft / f"{n:05}.png").write_bytes(_noise(*size_of(kilobytes)))
        draft.rename(folder)
    return folder


def size_of(kilobytes: int) -> tuple[int, int]:
    pixels = kilobytes * 1000 / BYTES_PER_PIXEL
    width = max(round(math.sqrt(pixels / 1.5) / 8), 1) * 8
    return width, round(pixels / width)


def _noise(width: int, height: int) -> bytes:
    out = io.BytesIO()
    bands = [Image.effect_noise((width, height), SPREAD) for _ in "RGB"]
    Image.merge("RGB", bands).save(out, "PNG", compress_level=1)
    return out.getvalue()
