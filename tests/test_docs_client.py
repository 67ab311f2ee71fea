"""The example client and the lines to copy: a page of another origin shows a gallery as it grows; curl is told the same."""

import json
import re
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.browser import ARGUMENTS, CHROMIUM, MISSING, shown

playwright = pytest.importorskip("playwright.sync_api", reason=MISSING)

pytestmark = [pytest.mark.chromium, pytest.mark.skipif(CHROMIUM is None, reason=MISSING)]
DOCS = Path(__file__).parent.parent / "docs"
expect = playwright.expect


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def snippets(language):
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / "http.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def app():
    """The origin of an app's own pages."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(DOCS))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def fill(studio):
    await studio.made(n=2)


@pytest.fixture
def gallery(tmp_path, app):
    with shown(tmp_path, fill, cors=(app,)) as made:
        yield made


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as library:
        chromium = library.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield chromium
        chromium.close()


@pytest.fixture
def page(app, browser):
    opened = browser.new_page()
    opened.goto(f"{app}/example-client.html")
    yield opened
    opened.close()


def test_the_example_client_shows_a_gallery_and_what_arrives(gallery, page):
    page.get_by_label("Address").fill(gallery.address)
    page.get_by_label("Character").fill("mary")
    page.get_by_label("Token").fill("pl_wrong")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("status")).to_contain_text("A valid token is needed")
    page.get_by_label("Token").fill(gallery.home.alice)
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("status")).to_have_text("2 images")
    gallery.do("made", n=1)
    expect(page.get_by_role("status")).to_have_text("3 images")
    expect(page.get_by_role("listitem")).to_have_count(3)
    page.wait_for_function("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")


def test_the_lines_for_a_page_of_ones_own_do_what_they_say(gallery, page):
    (lines,) = snippets("js")
    generator, _, use = lines.partition("for await")
    assert "gallery(" in use
    asked = f"async ([address, token]) => {{ {generator}; for await (const images of gallery(address, token)) return images; }}"
    images = page.evaluate(asked, [f"{gallery.address}/api/image-generation/character/mary", gallery.home.alice])
    assert [image["filename"] for image in images] == ["mary_image_2", "mary_image_1"]


def test_the_lines_for_curl_do_what_they_say(gallery, monkeypatch):
    monkeypatch.setenv("TOKEN", gallery.home.alice)
    (lines,) = (text for text in snippets("sh") if "If-None-Match" in text)
    first, second = (line.replace("http://127.0.0.1:8787", gallery.address) for line in lines.splitlines())
    head, _, body = _typed(first).partition("\n\n")
    assert json.loads(body)["data"]["totalCount"] == 2
    (tag,) = re.findall(r'(?im)^etag: "(.*)"$', head)
    assert _typed(second.replace("ETAG", tag).replace("wait=30", "wait=0.1")).startswith("HTTP/1.1 304")


def _typed(line):
    return subprocess.run(line, shell=True, check=True, capture_output=True, text=True, timeout=60).stdout
