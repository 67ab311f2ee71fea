import io
import random
import struct
import subprocess
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline import naming, picture
from pipeline.errors import AttemptFailed, NotWorthRepeating
from pipeline.tools import pngtext
from tests.support.pictures import encoded, plain


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return pngtext.SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("format", "name"), [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp")])
def test_a_picture_is_described(format, name):
    data = plain(40, 24, format=format)
    seen = picture.examine(data)
    assert (seen.width, seen.height, seen.format, seen.bytes) == (40, 24, name, len(data))
    assert len(seen.md5) == 32
    assert len(seen.pixels) == 64


def test_the_dominant_colour_is_the_commonest_not_the_mean():
    image = Image.new("RGB", (100, 100), "#204060")
    image.paste("#f0d010", (0, 0, 100, 30))
    assert picture.examine(encoded(image)).color == "#204060"


def test_what_cannot_be_seen_does_not_colour_the_tile():
    image = Image.new("RGBA", (100, 100), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 20, 20))
    assert picture.examine(encoded(image)).color == "#faf9f7"


def test_equal_pixels_have_one_fingerprint_whatever_carries_them():
    image = Image.open(io.BytesIO(plain(33, 17, shade=9)))
    prints = {
        picture.examine(data).pixels
        for data in (
            encoded(image),
            encoded(image, compress_level=0),
            encoded(image.convert("RGBA")),
            encoded(image, "WEBP", lossless=True),
            pngtext.with_text(encoded(image), {"parameters": "seed 7"}),
        )
    }
    assert len(prints) == 1


@pytest.mark.parametrize(
    "other", [plain(24, 16, shade=1), plain(16, 24), plain(24, 16, mode="L"), plain(24, 16, shade=256)]
)
def test_different_pixels_have_different_fingerprints(other):
    assert picture.examine(plain(24, 16)).pixels != picture.examine(other).pixels


def test_what_shows_through_counts():
    image = Image.open(io.BytesIO(plain(33, 17, shade=9))).convert("RGBA")
    before = picture.examine(encoded(image)).pixels
    image.putpixel((32, 16), (*image.getpixel((32, 16))[:3], 254))
    assert picture.examine(encoded(image)).pixels != before


def test_transparency_in_a_palette_counts_as_transparency():
    image = Image.new("RGBA", (300, 400), (0, 0, 0, 0))
    image.paste((10, 200, 30, 255), (50, 50, 250, 390))
    palette = image.quantize(4)
    assert picture.examine(encoded(palette)).pixels == picture.examine(encoded(palette.convert("RGBA"))).pixels


def test_a_change_in_the_last_row_of_a_large_picture_is_seen():
    image = Image.open(io.BytesIO(plain(700, 500)))
    before = picture.examine(encoded(image)).pixels
    image.putpixel((699, 499), (1, 2, 3))
    assert picture.examine(encoded(image)).pixels != before


def test_the_same_pixels_in_another_shape_are_another_picture():
    row = Image.new("RGB", (8, 1), "red")
    row.putpixel((0, 0), (0, 0, 255))
    column = Image.new("RGB", (1, 8), "red")
    column.putpixel((0, 0), (0, 0, 255))
    assert picture.examine(encoded(row)).pixels != picture.examine(encoded(column)).pixels


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "I;16", "CMYK"])
def test_every_mode_of_pixels_is_read(mode):
    if mode == "I;16":
        image = Image.frombytes("I;16", (20, 10), struct.pack("<200H", *range(0, 60000, 300)))
    else:
        image = Image.open(io.BytesIO(plain(20, 10))).convert(mode)
    seen = picture.examine(encoded(image, "JPEG" if mode == "CMYK" else "PNG"))
    assert (seen.width, seen.height) == (20, 10)


def test_a_bright_sixteen_bit_picture_is_not_blank():
    image = Image.frombytes("I;16", (20, 10), struct.pack("<200H", *[60000] * 120, *[30000] * 80))
    assert picture.examine(encoded(image)).color == "#e9e9e9"


BLANK = {
    "black": Image.new("RGB", (64, 64), "black"),
    "white": Image.new("L", (64, 64), 255),
    "one pixel": Image.new("RGB", (1, 1), "red"),
    "grey jpeg": Image.new("RGB", (64, 64), "#808080"),
    "one colour, half transparent": Image.new("RGBA", (64, 64), (10, 20, 30, 128)),
    "sixteen bits": Image.new("I;16", (64, 64), 700),
}


@pytest.mark.parametrize("name", BLANK)
def test_one_colour_is_blank(name):
    data = encoded(BLANK[name], "JPEG" if "jpeg" in name else "PNG")
    with pytest.raises(NotWorthRepeating, match="one colour") as caught:
        picture.examine(data)
    assert caught.value.code == "blank_output"


def test_full_transparency_is_blank_whatever_hides_behind_it():
    image = Image.open(io.BytesIO(plain(64, 64))).convert("RGBA")
    image.putalpha(0)
    with pytest.raises(NotWorthRepeating, match="transparent"):
        picture.examine(encoded(image))


def test_one_pixel_of_another_colour_is_enough():
    for x, y in ((0, 0), (63, 63), (31, 7)):
        image = Image.new("RGB", (640, 640), "black")
        image.putpixel((x, y), (1, 0, 0))
        assert picture.examine(encoded(image)).color == "#000000"


def test_one_visible_pixel_is_enough():
    image = Image.new("RGBA", (640, 640), (0, 0, 0, 0))
    image.putpixel((3, 5), (0, 0, 0, 1))
    assert picture.examine(encoded(image)).width == 640


def test_nothing_is_named_as_such():
    with pytest.raises(AttemptFailed, match="empty") as caught:
        picture.examine(b"")
    assert caught.value.code == "empty_output"


WHOLE = plain(64, 64, shade=77)
NOT_AN_IMAGE = {
    "html": b"<!DOCTYPE html><title>502 Bad Gateway</title>",
    "json": b'{"detail": "not found"}',
    "signature alone": pngtext.SIGNATURE,
    "half": WHOLE[: len(WHOLE) // 2],
    "no end": WHOLE[:-12],
    "flipped bit": WHOLE[:60] + bytes([WHOLE[60] ^ 1]) + WHOLE[61:],
    "half a jpeg": plain(256, 256, format="JPEG")[:300],
    "half a webp": plain(256, 256, format="WEBP")[:40],
    "gif": encoded(Image.new("P", (8, 8)), "GIF"),
    "bmp": encoded(Image.new("RGB", (8, 8)), "BMP"),
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
}


@pytest.mark.parametrize("name", NOT_AN_IMAGE)
def test_what_does_not_decode_is_no_image(name):
    with pytest.raises(AttemptFailed, match="no PNG, JPEG or WebP") as caught:
        picture.examine(NOT_AN_IMAGE[name])
    assert caught.value.code == "not_an_image"


@pytest.mark.parametrize("size", [(60_000, 60_000), (9000, 9000), (65_000, 2)])
def test_a_size_that_is_not_sane_is_refused_before_it_is_decoded(size):
    with pytest.raises(AttemptFailed) as caught:
        picture.examine(png_claiming(*size), max_pixels=64_000_000 if size[1] > 2 else 1000)
    assert caught.value.code == "not_an_image"


def test_the_largest_size_a_job_may_ask_for_is_sane():
    assert 4096 * 4096 * 3 < picture.MAX_PIXELS < Image.MAX_IMAGE_PIXELS


def test_a_text_bomb_does_not_take_the_memory():
    bomb = chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"A" * (80 << 20)))
    data = plain()
    data = data[:33] + bomb + data[33:]
    assert len(pngtext.read_text(data)["parameters"]) == pngtext.TEXT_LIMIT
    with pytest.raises(AttemptFailed):
        picture.examine(data)


@given(st.binary(max_size=300), st.integers(0, 400), st.booleans())
def test_damage_never_escapes_as_another_error(noise, at, after):
    data = WHOLE[:at] + noise + (WHOLE[at:] if after else b"")
    try:
        picture.examine(data)
        picture.thumbnail(data)
    except (AttemptFailed, NotWorthRepeating):
        pass
    pngtext.read_text(data)


@pytest.mark.parametrize(
    ("size", "small"),
    [((832, 1216), (438, 640)), ((1216, 832), (640, 438)), ((64, 64), (64, 64)), ((4000, 64), (640, 10))],
)
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_thumbnail_fits_its_box_and_is_never_enlarged(size, small, format):
    data = picture.thumbnail(plain(*size, format=format))
    made = picture.examine(data)
    assert made.format == "webp"
    assert (made.width, made.height) == small


def test_a_thumbnail_keeps_transparency_and_takes_palettes():
    image = Image.new("RGBA", (900, 900), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 450, 450))
    assert Image.open(io.BytesIO(picture.thumbnail(encoded(image)))).mode == "RGBA"
    palette = Image.open(io.BytesIO(plain(900, 900))).convert("P")
    assert Image.open(io.BytesIO(picture.thumbnail(encoded(palette)))).mode == "RGB"


def test_size_of_reads_the_header_alone():
    assert picture.size_of(WHOLE[:120]) == (64, 64)
    with pytest.raises(AttemptFailed):
        picture.size_of(b"")


@pytest.mark.parametrize(("format", "ending"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")])
def test_extensions(format, ending):
    assert naming.extension(format) == ending


def test_a_noisy_picture_of_full_size_survives_the_whole_way():
    dice = random.Random(1)
    image = Image.frombytes("RGB", (416, 608), dice.randbytes(416 * 608 * 3))
    assert picture.examine(encoded(image)).bytes > 700_000


WITHOUT_DESCRIPTORS = """
import resource, sys
from pipeline import picture
files = [open(name, "rb").read() for name in sys.argv[1:]]
resource.setrlimit(resource.RLIMIT_NOFILE, (1, 1))
for data in files:
    print(picture.examine(data).format, len(picture.thumbnail(data)) > 0)
"""


def test_the_first_picture_of_a_process_needs_no_file_descriptor(tmp_path):
    """Pillow would load its decoders only then; where it could not, paid pictures were taken for broken ones."""
    files = []
    for format in ("PNG", "JPEG", "WEBP"):
        files.append(tmp_path / format)
        files[-1].write_bytes(plain(format=format))
    command = [sys.executable, "-c", WITHOUT_DESCRIPTORS, *map(str, files)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.split() == ["png", "True", "jpeg", "True", "webp", "True"]
