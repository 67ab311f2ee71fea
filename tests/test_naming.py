"""One slug function: what it makes of names, and what it never makes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.naming import SLUG_LENGTH, character_folder, filename, public_id, slugify, with_suffix


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("Mary", "mary"),
        ("John Doe", "john-doe"),
        ("  Zoë--Müller! ", "zoe-muller"),
        ("Иван", "ivan"),
        ("alice@example.org", "alice-example-org"),
        ("mary_image_5", "mary-image-5"),
        ("../../etc/passwd", "etc-passwd"),
        ("", "x"),
        ("!!!", "x"),
        ("a" * 61, "a" * 60),
        ("a" * 59 + " b", "a" * 59),
    ],
)
def test_slugs(text, slug):
    assert slugify(text) == slug


@given(st.text())
def test_a_slug_is_always_a_plain_name_and_stays_itself(text):
    slug = slugify(text)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug)
    assert len(slug) <= SLUG_LENGTH
    assert slugify(slug) == slug


@given(st.text(), st.integers(min_value=1, max_value=10**9), st.integers(min_value=1, max_value=10**9))
def test_suffixes_keep_to_the_length_and_tell_apart(text, n, m):
    slug = slugify(text)
    one, other = with_suffix(slug, n), with_suffix(slug, m)
    assert len(one) <= SLUG_LENGTH
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", one)
    assert (one == other) == (n == m) or 1 in (n, m)
    assert with_suffix(slug, 1) == slug


def test_names_of_images():
    assert filename("mary", 5) == "mary_image_5"
    assert character_folder("alice", "mary") == "alice/characters/mary/images"
    assert public_id("alice", "mary-2", 15) == "alice/characters/mary-2/images/mary-2_image_15"
