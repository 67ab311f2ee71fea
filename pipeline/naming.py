"""The one slug function of the system, and the names that are built from slugs and numbers."""

import re

from anyascii import anyascii

SLUG_LENGTH = 60
EXTENSIONS = (".yaml", ".yml", ".json")  # of job files


def slugify(text: str, *, length: int = SLUG_LENGTH) -> str:
    """Transliterate to ASCII lower case with single hyphens, at most `length` characters, never empty."""
    plain = re.sub(r"[^a-z0-9]+", "-", anyascii(text[: 4 * length]).lower()).strip("-")
    return plain[:length].strip("-") or "x"


def with_suffix(slug: str, n: int, *, length: int = SLUG_LENGTH) -> str:
    """Return the `n`-th choice for a slug: `mary`, `mary-2`, `mary-3` …, never longer than `length`."""
    if n == 1:
        return slug
    suffix = f"-{n}"
    return slug[: length - len(suffix)].rstrip("-") + suffix


def filename(slug: str, number: int) -> str:
    """Name an image as people see it: `mary_image_5`."""
    return f"{slug}_image_{number}"


def character_folder(owner_slug: str, slug: str) -> str:
    """Return the folder of a character's images in every store, without a trailing slash."""
    return f"{owner_slug}/characters/{slug}/images"


def public_id(owner_slug: str, slug: str, number: int) -> str:
    """Return the name an image has in every store, the same for the image and its placeholder."""
    return f"{character_folder(owner_slug, slug)}/{filename(slug, number)}"


def extension(format: str) -> str:  # noqa: A002  # the field's own word
    """Return the ending of a file of that format, without the dot."""
    return "jpg" if format == "jpeg" else format
