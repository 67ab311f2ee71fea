"""Delivery addresses of Cloudinary, against an independent reading of the signing rule."""

import hashlib
from base64 import urlsafe_b64encode

import pytest
from cloudinary.utils import cloudinary_url
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import Stored
from pipeline.stores.cloudinary_delivery import CloudinaryDelivery

SECRET = "s3cret-hush"
MARY = Stored(
    "alice/characters/mary/images/mary_image_5", "", "1700000001", "m", 9, 832, 1216, "png", type="authenticated"
)
TRANSFORMATION = "c_fill,f_auto,g_auto,q_auto,w_480"


def signature(signed: str) -> str:
    return urlsafe_b64encode(hashlib.sha1((signed + SECRET).encode()).digest())[:8].decode()


@pytest.mark.parametrize("kind", ["authenticated", "private"])
def test_what_is_not_public_is_signed_original_and_thumbnail(kind):
    links = CloudinaryDelivery("demo", SECRET).links(MARY._replace(type=kind), now=0)
    base = f"https://res.cloudinary.com/demo/image/{kind}"
    assert links.url == f"{base}/s--{signature(MARY.public_id + '.png')}--/v1700000001/{MARY.public_id}.png"
    signed = signature(f"{TRANSFORMATION}/{MARY.public_id}")
    assert links.thumbnail_url == f"{base}/s--{signed}--/{TRANSFORMATION}/v1700000001/{MARY.public_id}"


def test_public_assets_have_plain_addresses():
    links = CloudinaryDelivery("demo", SECRET).links(MARY._replace(type="upload"), now=0)
    assert links.url == f"https://res.cloudinary.com/demo/image/upload/v1700000001/{MARY.public_id}.png"
    assert (
        links.thumbnail_url
        == f"https://res.cloudinary.com/demo/image/upload/{TRANSFORMATION}/v1700000001/{MARY.public_id}"
    )


def test_a_new_version_is_a_new_address_and_the_secret_is_in_none():
    delivery = CloudinaryDelivery("demo", SECRET)
    old, new = delivery.links(MARY, now=0), delivery.links(MARY._replace(version="1700000002"), now=0)
    assert old.url != new.url
    assert delivery.links(MARY, now=10**15) == old
    assert SECRET not in f"{old}{new}"


ALLOWED = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="?&#\\%<>+")  # in a public id


@given(
    public_id=st.text(ALLOWED, min_size=1, max_size=40).map(lambda text: text.strip(" /")).filter(bool),
    kind=st.sampled_from(["upload", "private", "authenticated"]),
    version=st.none() | st.integers(1, 2_000_000_000).map(str),
    extension=st.sampled_from(["png", "jpg", "webp"]),
)
def test_every_address_is_the_one_that_the_sdk_would_give(public_id, kind, version, extension):
    stored = MARY._replace(public_id=public_id, type=kind, version=version, format=extension)
    delivery = CloudinaryDelivery("demo", SECRET)
    said = {"cloud_name": "demo", "api_secret": SECRET, "secure": True, "auth_token": False, "type": kind}
    said |= {"version": version, "sign_url": kind != "upload"}
    whole, _ = cloudinary_url(public_id, format=extension, **said)
    small, _ = cloudinary_url(public_id, raw_transformation=TRANSFORMATION, **said)
    links = delivery.links(stored, now=0)
    assert (links.url, links.thumbnail_url, delivery.url(stored)) == (whole, small, whole)
