import httpx
import pytest

from pipeline.catalogue import Catalogue
from pipeline.config import load_config
from pipeline.errors import ConfigError
from pipeline.gallery.addresses import listening_at
from pipeline.gallery.app import Gallery
from pipeline.gallery.opening import open_gallery
from pipeline.gallery.tokens import Tokens
from tests.support.windows import BASE, house

CLOUD = "store: {type: cloudinary, cloud_name: demo, api_key: '1', api_secret: s}"
JWT = "gallery: {host: 0.0.0.0, jwt: {secret: 0123456789abcdef0123456789abcdef, audience: app}}"


def opened(folder, text="", *, token=False):
    (folder / "pipeline.yaml").write_text(text or "settle: 1")
    config = load_config(folder / "pipeline.yaml", environ={})
    config.state.mkdir()
    tokens = Tokens(config.state / "tokens")
    if token:
        tokens.create("alice")
    return open_gallery(config, Catalogue(config.state / "index.db"), tokens)


@pytest.mark.parametrize("text", ["", CLOUD, JWT, "gallery: {host: localhost}", "gallery: {host: '::1'}"])
def test_the_gallery_can_be_built_for_every_store_and_way_of_logging_in(tmp_path, text):
    assert isinstance(opened(tmp_path, text), Gallery)


@pytest.mark.parametrize("text", ["store: {type: local, folder: elsewhere}", CLOUD])
async def test_what_another_store_keeps_is_shown_after_a_change(tmp_path, text):
    (before := tmp_path / "before").mkdir()
    async with house(before) as home:
        await home.studio.made(n=1)
        (tmp_path / "pipeline.yaml").write_text(text)
        config = load_config(tmp_path / "pipeline.yaml", environ={})
        config.state.mkdir()
        catalogue = Catalogue(before / ".pipeline" / "index.db", images=config.images)
        gallery = open_gallery(config, catalogue, home.tokens)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gallery), base_url=BASE) as client:
            answer = await client.get(home.images(), headers={"authorization": f"Bearer {home.alice}"})
            image = answer.json()["data"]["images"][0]
            whole, small = await client.get(image["url"]), await client.get(image["thumbnailUrl"])
            page = await client.get("/")
        catalogue.close()
    assert (whole.status_code, whole.headers["content-type"]) == (200, "image/png")
    assert (small.status_code, small.headers["content-type"]) == (200, "image/webp")
    assert "https://res.cloudinary.com" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("text", "said", "address"),
    [
        ("", {}, "http://127.0.0.1:8787"),
        ("port: 0", {}, "http://127.0.0.1:{port}"),
        ("host: 0.0.0.0, port: 0", {}, "http://127.0.0.1:{port}"),
        ("", {"port": 0}, "http://127.0.0.1:{port}"),
        ("", {"port": 8080, "host": "::1"}, "http://[::1]:8080"),
        ("port: 0, public_url: https://g.example", {}, "https://g.example"),
    ],
)
def test_addresses_are_made_with_where_it_really_listens(tmp_path, text, said, address):
    (tmp_path / "pipeline.yaml").write_text(f"gallery: {{{text}}}")
    config = listening_at(load_config(tmp_path / "pipeline.yaml", environ={}), **said)
    assert config.gallery.port > 0
    assert config.gallery.public_url == address.format(port=config.gallery.port)
    assert config.root == tmp_path


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "studio.example"])
def test_beyond_this_machine_a_token_is_needed_first(tmp_path, host):
    with pytest.raises(ConfigError, match="pipeline token create OWNER"):
        opened(tmp_path, f"gallery: {{host: {host}}}")


def test_with_a_token_it_may_be_reached_from_elsewhere(tmp_path):
    assert opened(tmp_path, "gallery: {host: 0.0.0.0}", token=True) is not None
