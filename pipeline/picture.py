"""Looking at bytes that are said to be a picture: what they are, whether they are one, and a small version.

Every byte that a back end delivers goes through `examine`, so it works on the decoded pixels once, and only on
samples of them where that is enough.
"""

import hashlib
import io
from typing import Final, NamedTuple, cast

from PIL import (
    Image,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401  # loaded now, as below
)

from pipeline.errors import AttemptFailed, NotWorthRepeating
from pipeline.tools import pngtext

# Pillow loads its decoders at the first picture: by then no file descriptor may be left, and a paid picture looks broken.
Image.preinit()

FORMATS: Final = ("PNG", "JPEG", "WEBP")  # Pillow's names; a decoder that is not needed is not offered to strangers
MAX_PIXELS: Final = 64_000_000  # 8192 x 7812: four times the largest size a job can ask for, for upscaling workflows
THUMBNAIL_SIDE: Final = 640  # pixels of the longer side: rows of 220 px on dense screens, cards of 300
_SAMPLE: Final = (48, 48)  # pixels looked at before all are searched for a second colour
_TINT: Final = (16, 16)  # of these, pixels that the tint is chosen by: more cost ten times as much and choose the same
_STRIP: Final = 65_536  # pixels digested at a time: they stay in the processor's cache
_BROKEN: Final = (OSError, SyntaxError, ValueError, EOFError, IndexError, MemoryError)  # what Pillow's decoders raise


class Examined(NamedTuple):
    """What `examine` found; the fields are those of `model.Artifact`."""

    md5: str
    bytes: int
    width: int
    height: int
    format: str
    pixels: str
    color: str


def examine(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Examined:
    """Decode the whole picture and describe it.

    Raises:
        AttemptFailed: `empty_output`, or `not_an_image` where the bytes do not decode at a sane size.
        NotWorthRepeating: `blank_output` for one colour all over, or full transparency.
    """
    if not data:
        raise AttemptFailed("the back end delivered an empty file", code="empty_output")
    picture = _opened(data, max_pixels)
    name = str(picture.format).lower()
    picture = _eight_bit(picture)
    sample = picture.resize(_SAMPLE, Image.Resampling.NEAREST).convert("RGBA")
    if _is_blank(sample):  # rarely; only then is every pixel looked at
        _refuse_blank(picture.convert("RGBA"))
    return Examined(
        md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
        bytes=len(data),
        width=picture.width,
        height=picture.height,
        format=name,
        pixels=_fingerprint(picture),
        color=_dominant(sample.resize(_TINT, Image.Resampling.NEAREST)),
    )


def thumbnail(data: bytes, side: int = THUMBNAIL_SIDE, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """Return a WebP of at most `side` pixels on its longer side; small pictures are not enlarged.

    Raises:
        AttemptFailed: `not_an_image`, as `examine` does.
    """
    picture = _eight_bit(_opened(data, max_pixels, draft=side))
    if picture.mode not in {"RGB", "RGBA"}:
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    picture.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return _encoded(picture, "WEBP", quality=80, method=2)


def size_of(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return width and height by the header alone.

    Raises:
        AttemptFailed: `not_an_image`.
    """
    return _opened(data, max_pixels, load=False).size


def encode_png(picture: Image.Image, *, compress_level: int = 6) -> bytes:
    """Write a picture of ours as PNG bytes; the same pixels give the same bytes."""
    return _encoded(picture, "PNG", compress_level=compress_level)


def _encoded(picture: Image.Image, format: str, **options: int) -> bytes:  # noqa: A002 - Pillow's own word
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def _opened(data: bytes, max_pixels: int, *, draft: int | None = None, load: bool = True) -> Image.Image:
    """Decode; the size in the header is judged before any memory is taken for pixels."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        if picture.width * picture.height > max_pixels:
            raise AttemptFailed(
                f"the picture claims to have {picture.width} x {picture.height} pixels; at most {max_pixels} are decoded",
                code="not_an_image",
            )
        if not load:
            return picture
        if pngtext.is_png(data):
            Image.open(io.BytesIO(data), formats=("PNG",)).verify()  # checksums, which decoding does not look at
        if draft is not None:
            picture.draft("RGB", (draft, draft))  # JPEG decodes smaller at once
        picture.load()
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning, *_BROKEN) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's trouble, not the picture's
            raise
        what = f"the back end delivered {len(data)} bytes that are no PNG, JPEG or WebP picture, or a damaged one"
        raise AttemptFailed(f"{what} ({type(error).__name__})", code="not_an_image") from error
    return picture


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Scale 16-bit greys, which conversion would clip to white; other modes pass."""
    if picture.mode.startswith("I"):
        return picture.convert("I").point(lambda value: value * (1 / 257) + 0).convert("L")
    return picture


def _fingerprint(picture: Image.Image) -> str:
    """Digest size and pixels, strip by strip, so that a large picture is not in memory twice.

    A picture without transparency and one whose transparency hides nothing are the same.
    """
    digest = hashlib.sha256(b"%dx%d " % picture.size)
    rows = max(1, _STRIP // picture.width)
    for top in range(0, picture.height, rows):
        strip = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        if picture.has_transparency_data:
            strip = strip.convert("RGBA")
            alpha = strip.getchannel("A")
            if alpha.getextrema() != (255, 255):
                digest.update(alpha.tobytes())
        digest.update((strip if strip.mode == "RGB" else strip.convert("RGB")).tobytes())
    return digest.hexdigest()


def _is_blank(picture: Image.Image) -> bool:
    return _is_transparent(picture) or all(low == high for low, high in _extrema(picture))


def _is_transparent(picture: Image.Image) -> bool:
    return _extrema(picture)[3] == (0, 0)


def _extrema(rgba: Image.Image) -> tuple[tuple[int, int], ...]:
    return cast("tuple[tuple[int, int], ...]", rgba.getextrema())


def _refuse_blank(picture: Image.Image) -> None:
    if _is_blank(picture):
        how = "fully transparent" if _is_transparent(picture) else "one colour all over"
        raise NotWorthRepeating(f"the back end delivered a blank picture: {how}", code="blank_output")


def _dominant(sample: Image.Image) -> str:
    """Return the commonest of the picture's main colours as `#rrggbb`; what cannot be seen through counts."""
    paper = Image.new("RGBA", sample.size, (250, 249, 247, 255))
    seen = Image.alpha_composite(paper, sample).convert("RGB").quantize(6, Image.Quantize.MEDIANCUT)
    counts = seen.getcolors() or []
    _, index = cast("tuple[int, int]", max(counts))
    red, green, blue = (seen.getpalette() or [])[3 * index : 3 * index + 3]
    return f"#{red:02x}{green:02x}{blue:02x}"
