"""Small pictures and the values that go with them, for tests of every room."""

import io
from typing import Any

from PIL import Image

from pipeline import picture
from pipeline.model import Artifact, Item, Recipe, Request, Status, Stored

TICKET = "0b8e6a1c-8c1e-4a53-9a3f-3f1d7f6d2a10"
EARLIER = Stored(
    "alice/characters/mary/images/mary_image_5", "", "1", "0" * 32, 9, 24, 16, "png"
)  # is recorded somewhere


def plain(width: int = 24, height: int = 16, *, mode: str = "RGB", shade: int = 0, format: str = "PNG") -> bytes:
    """A small picture with two colours; `shade` tells one from another."""
    image = Image.new("RGB", (width, height), (200, 120, 40))
    image.paste((shade % 256, shade // 256 % 256, 90), (0, 0, width // 2, height // 2))
    out = io.BytesIO()
    image.convert(mode).save(out, format)
    return out.getvalue()


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def artifact(data: bytes, file: str = "1-x.img") -> Artifact:
    seen = picture.examine(data)
    return Artifact(file, seen.md5, seen.bytes, seen.width, seen.height, seen.format, seen.pixels, seen.color)


def item(data: bytes, number: int = 5, *, owner_slug: str = "alice", slug: str = "mary", **changes: Any) -> Item:
    """What the storing stage hands to a store for `{owner_slug}/…/{slug}_image_{number}`."""
    found = artifact(data)
    made = Item(
        public_id=f"{owner_slug}/characters/{slug}/images/{slug}_image_{number}",
        data=data,
        artifact=found,
        status=Status.DONE,
        number=number,
        owner=owner_slug,
        character_id="123",
        character_name="Mary",
        job_id="spring-covers",
        prompt="Mary, 美咲, in a garden | 100 % = all",
        seed=4294967295,
        created_at=1_753_696_800_123,
        labels=("spring",),
        color=found.color,
    )
    return made._replace(**changes)


def request(prompt: str = "a portrait in a garden", seed: int = 7, **changes: Any) -> Request:
    recipe = changes.pop("recipe", Recipe(width=64, height=96))
    recipe = recipe._replace(embedding=changes.pop("embedding", recipe.embedding))
    made = Request(
        ticket=TICKET,
        prompt=prompt,
        seed=seed,
        recipe=recipe,
        images_in_job=1,
        timeout=600.0,
    )
    return made._replace(**changes)
