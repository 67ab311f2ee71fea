from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.opening import open_backend
from pipeline.config.adapters import CloudinaryConfig, LocalConfig, SketchConfig
from pipeline.errors import AttemptFailed, ConfigError
from pipeline.model import Stored
from pipeline.ports import Links
from pipeline.stores.cloudinary import CloudinaryStore
from pipeline.stores.delivery import WINDOW, LocalDelivery, load_key, media_file, plain_url, verify_signature
from pipeline.stores.local import LocalStore
from pipeline.stores.opening import open_delivery, open_store
from tests.support import pictures

KEY = bytes(range(32))
HALF_A_DAY = WINDOW * 1000
NOON = 1_753_704_000_000
STORED = Stored(
    public_id="alice/characters/mary/images/mary_image_5",
    url="http://127.0.0.1:8787/media/alice/characters/mary/images/mary_image_5.png",
    version="0123456789ab",
    md5="0" * 32,
    bytes=1,
    width=64,
    height=64,
    format="png",
    path="/images/alice/characters/mary/images/mary_image_5.png",
)
DELIVERY = LocalDelivery("https://pictures.example/", KEY)


def taken_apart(url):
    parts = urlsplit(url)
    assert parts.path.startswith("/media/")
    return parts.path.removeprefix("/media/"), dict(parse_qsl(parts.query))


def is_good(url, now, **changes):
    file, query = taken_apart(url)
    return verify_signature(KEY, changes.pop("file", file), {**query, **changes}, now=now)


@pytest.mark.parametrize("kind", ["url", "thumbnail_url"])
def test_what_was_minted_opens(kind):
    url = getattr(DELIVERY.links(STORED, now=NOON), kind)
    assert url.startswith("https://pictures.example/media/alice/characters/mary/images/mary_image_5.png?")
    assert is_good(url, NOON)


@given(st.integers(0, 4_000_000_000_000))
def test_links_are_equal_within_a_window_and_live_for_another(now):
    window = now // HALF_A_DAY * HALF_A_DAY
    links = DELIVERY.links(STORED, now=now)
    assert links == DELIVERY.links(STORED, now=window)
    assert links == DELIVERY.links(STORED, now=window + HALF_A_DAY - 1)
    assert links != DELIVERY.links(STORED, now=window + HALF_A_DAY)
    assert is_good(links.url, now + HALF_A_DAY)
    assert is_good(links.url, window + 2 * HALF_A_DAY - 1)
    assert not is_good(links.url, window + 2 * HALF_A_DAY)


@pytest.mark.parametrize(
    "change",
    [
        {"file": "alice/characters/mary/images/mary_image_6.png"},
        {"file": "bob/characters/mary/images/mary_image_5.png"},
        {"file": "alice/characters/mary/images/mary_image_5.jpg"},
        {"expires": "99999999999"},
        {"expires": ""},
        {"expires": "later"},
        {"thumbnail": "1"},
        {"thumbnail": "1\n"},
        {"v": "another"},
        {"signature": ""},
        {"signature": "ünïcode\udc80"},
        {"file": "a\udc80"},
    ],
)
def test_nothing_that_chooses_what_is_shown_can_be_changed(change):
    assert not is_good(DELIVERY.links(STORED, now=NOON).url, NOON, **change)


def test_a_thumbnails_address_does_not_open_the_full_image():
    assert not is_good(DELIVERY.links(STORED, now=NOON).thumbnail_url, NOON, thumbnail="")


def test_another_state_folder_has_another_key():
    file, query = taken_apart(DELIVERY.links(STORED, now=NOON).url)
    assert not verify_signature(bytes(32), file, query, now=NOON)


def test_unknown_parameters_are_ignored():
    assert is_good(DELIVERY.links(STORED, now=NOON).url, NOON, utm_source="mail")


def test_nothing_given_is_nothing_allowed():
    assert not verify_signature(KEY, media_file(STORED), {}, now=NOON)


def test_a_replacement_has_another_address():
    assert DELIVERY.links(STORED, now=NOON).url != DELIVERY.links(STORED._replace(version="b"), now=NOON).url


def test_an_image_without_a_version_can_be_shown():
    assert is_good(DELIVERY.links(STORED._replace(version=None), now=NOON).url, NOON)


def test_plain_addresses_carry_no_secret():
    assert plain_url("https://pictures.example/", STORED.public_id, "jpeg") == (
        "https://pictures.example/media/alice/characters/mary/images/mary_image_5.jpg"
    )


def test_the_key_is_made_once_and_is_private(tmp_path):
    path = tmp_path / "media.key"
    key = load_key(path)
    assert len(key) == 32
    assert load_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_key_that_was_cut_short_is_not_signed_with(tmp_path):
    path = tmp_path / "media.key"
    path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"media\.key holds 0 bytes"):
        load_key(path)


CLOUD = STORED._replace(path=None, url="https://res.cloudinary.com/demo/image/upload/v1/mary_image_5.png")


def local_config(tmp_path):
    return LocalConfig(folder=tmp_path / "images")


def cloudinary_config():
    return CloudinaryConfig(cloud_name="demo", api_key="key", api_secret="hush-hush")


def test_what_was_kept_elsewhere_before_keeps_its_address(tmp_path):
    delivery = open_delivery(local_config(tmp_path), public_url="http://gallery", state=tmp_path)
    assert delivery.links(CLOUD, now=NOON) == Links(CLOUD.url, CLOUD.url)


def test_local_files_are_still_delivered_after_a_move_to_cloudinary(tmp_path):
    before = open_delivery(local_config(tmp_path), public_url="http://gallery", state=tmp_path)
    after = open_delivery(cloudinary_config(), public_url="http://gallery", state=tmp_path)
    assert after.links(STORED, now=NOON) == before.links(STORED, now=NOON)
    cloud = after.links(CLOUD, now=NOON)
    assert cloud.url.startswith("https://res.cloudinary.com/demo/")
    assert "hush-hush" not in repr(cloud)


async def test_the_configured_store_is_opened(tmp_path):
    local = open_store(local_config(tmp_path), public_url="http://gallery")
    assert isinstance(local, LocalStore)
    await local.probe()
    assert (tmp_path / "images").is_dir()
    assert isinstance(open_store(cloudinary_config(), public_url="http://gallery"), CloudinaryStore)


async def test_the_configured_back_end_is_opened():
    async with open_backend(SketchConfig(delay=0, fail_seeds=(13,))) as backend:
        with pytest.raises(AttemptFailed, match="13"):
            await backend.submit(pictures.request(seed=13))
