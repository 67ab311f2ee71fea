import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from pipeline import picture, placeholder
from pipeline.model import Fault
from pipeline.tools import pngtext

LATE = Fault("timed_out", "The back end did not answer within 600 seconds")
LONG = Fault("invalid_request", "Value not in list: 'foo.safetensors' " * 12)


def draw(width=512, height=512, character="Mary", number=5, reason=LATE, **rest):
    return placeholder.draw(width, height, character=character, number=number, reason=reason, **rest)


def pixels(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def is_drawn_differently(one, other):
    return ImageChops.difference(pixels(one), pixels(other)).getbbox() is not None


@pytest.mark.parametrize(
    "size", [(64, 64), (64, 4096), (4096, 64), (65, 97), (128, 96), (512, 512), (832, 1216), (1024, 1536)]
)
@pytest.mark.parametrize("reason", [LATE, LONG], ids=["short", "long"])
def test_it_has_the_size_that_was_asked_for_and_is_a_picture(size, reason):
    seen = picture.examine(draw(*size, reason=reason))
    assert (seen.width, seen.height, seen.format) == (*size, "png")


def test_the_largest_size():
    assert picture.size_of(draw(4096, 4096)) == (4096, 4096)


def test_equal_arguments_give_equal_bytes():
    assert draw(job_id="j") == draw(job_id="j")


@pytest.mark.parametrize("size", [(128, 96), (512, 512)])
@pytest.mark.parametrize(
    "change", [{"character": "John"}, {"number": 6}, {"reason": Fault("refused", "Sketch was told to refuse")}]
)
def test_name_number_and_reason_are_all_to_be_seen(size, change):
    assert is_drawn_differently(draw(*size), draw(*size, **change))


def test_the_number_is_to_be_seen_even_on_the_smallest_tile():
    assert is_drawn_differently(draw(64, 64, number=5), draw(64, 64, number=6))


def test_on_a_flat_strip_the_title_stays():
    words = [line[0] for line in placeholder._layout(64, 64, "x" * 40, 123456, "reason")[0]]
    assert words[0] == "No picture"
    assert any("123456" in word for word in words)


def test_a_word_for_programs_serves_where_no_sentence_is_given():
    assert placeholder._reason(Fault("timed_out", "")) == "Timed out"


def test_programs_read_what_it_stands_for():
    texts = pngtext.read_text(draw(character="美咲 🌸", number=12, job_id="spring"))
    assert json.loads(texts["placeholder"]) == {
        "status": "placeholder",
        "character": "美咲 🌸",
        "number": 12,
        "code": "timed_out",
        "message": LATE.message,
        "jobId": "spring",
    }
    assert texts["Title"] == "No picture: 美咲 🌸, image 12"


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("José", "Jose"),
        ("美咲", "MeiXiao"),
        ("مريم", "mrym"),
        ("Ольга", "Ol'ga"),
        ("🌸 Zoë", "cherry blossom Zoe"),
        ("A\0B\nC\u202eD", "A B CD"),
        ("", ""),
    ],
)
def test_names_in_any_script_are_drawn_in_letters_that_the_font_has(name, drawn):
    assert placeholder._drawable(name, 120) == drawn


def test_every_letter_that_can_be_drawn_is_in_the_font():
    font = placeholder._font(20)
    missing = bytes(font.getmask("\uffff"))
    assert [letter for letter in map(chr, range(33, 127)) if bytes(font.getmask(letter)) == missing] == []
    assert bytes(font.getmask("…")) != missing


def test_lines_stay_within_the_tile():
    for width, height in ((64, 64), (200, 300), (512, 512), (4096, 64)):
        lines, icon = placeholder._layout(width, height, "Maximiliane " * 9, 99999, "wordwithoutend" * 20)
        assert all(placeholder._length(line) <= width for line in lines)
        assert sum(map(placeholder._advance, lines)) + icon <= height


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=200), st.text(max_size=600), st.integers(1, 10**7))
def test_any_name_and_any_reason_can_be_drawn(name, message, number):
    assert picture.size_of(draw(96, 128, name, number, Fault("x", message))) == (96, 128)
