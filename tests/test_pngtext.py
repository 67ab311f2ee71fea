import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipeline.tools import pngtext
from tests.support.pictures import encoded, plain


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


TEXTS = {"parameters": "a cat, 8k\nSteps: 20", "pipeline": '{"prompt": "美咲 🌸"}'}


def test_texts_are_written_so_that_pillow_reads_them():
    data = pngtext.with_text(plain(), TEXTS)
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.text == TEXTS
    assert pngtext.read_text(data) == TEXTS


def test_texts_that_pillow_wrote_are_read():
    info = PngInfo()
    info.add_text("short", "é")
    info.add_text("long", "x" * 5000, zip=True)
    info.add_itxt("intl", "日本", "ja", "キー", zip=True)
    info.add_itxt("plain", "日本")
    data = encoded(Image.new("RGB", (4, 4)), pnginfo=info)
    assert pngtext.read_text(data) == {"short": "é", "long": "x" * 5000, "intl": "日本", "plain": "日本"}


def test_writing_a_text_again_replaces_it_and_taking_it_out_restores_the_file():
    data = plain()
    once = pngtext.with_text(data, TEXTS)
    assert pngtext.with_text(once, TEXTS) == once
    assert pngtext.with_text(pngtext.with_text(data, {"parameters": "old"}), TEXTS) == once
    assert pngtext.without_text(once, *TEXTS) == data
    assert pngtext.read_text(pngtext.without_text(once, "pipeline")) == {"parameters": TEXTS["parameters"]}


@given(st.text(max_size=80))
def test_any_text_comes_back(text):
    read = pngtext.read_text(pngtext.with_text(plain(), {"k": text}))["k"]
    assert read == text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def test_damaged_texts_are_left_out():
    data = plain()
    bad = (
        chunk(b"tEXt", b"no keyword")
        + chunk(b"zTXt", b"k\0\0not deflated")
        + chunk(b"iTXt", b"cut\0\0\0en")
        + chunk(b"tEXt", b"fine\0yes")
    )
    assert pngtext.read_text(data[:33] + bad + data[33:]) == {"fine": "yes"}


def test_other_formats_have_no_texts():
    assert pngtext.read_text(plain(format="JPEG")) == {}
    assert not pngtext.is_png(plain(format="WEBP"))


def test_content_credentials_are_noticed():
    data = plain()
    assert not pngtext.is_signed(data)
    assert pngtext.is_signed(data[:33] + chunk(b"caBX", b"manifest") + data[33:])


@pytest.mark.parametrize(
    ("negative", "fields", "written"),
    [
        (None, {"Steps": 20, "Seed": 7}, "a cat\nSteps: 20, Seed: 7"),
        ("blurry", {"Seed": 7, "Sampler": None}, "a cat\nNegative prompt: blurry\nSeed: 7"),
        (None, {"Model": 'x, "y": z'}, 'a cat\nModel: "x, \\"y\\": z"'),
    ],
)
def test_infotext_is_what_readers_of_a1111_files_expect(negative, fields, written):
    assert pngtext.infotext("a cat", negative, fields) == written
