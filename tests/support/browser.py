"""A gallery in a thread of its own, for a browser's tests: Playwright's own loop has the main thread."""

import shutil
import socket
import threading
from contextlib import contextmanager
from functools import partial

import trio

from pipeline.gallery.apart import serve_apart
from tests.support.windows import house

CHROMIUM = shutil.which("chromium")
MISSING = "no chromium: apt-get install -y chromium && uv sync --group browser"
# One process draws all pages: a further one for each of them would cost more than what the tests do there.
ARGUMENTS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run --disable-dev-shm-usage --renderer-process-limit=1 --disable-site-isolation-trials"


class Shown:
    """The gallery at `address`; `do` carries something out in the studio behind it."""

    def __init__(self):
        self.ready = threading.Event()
        self.home = None
        self.address = ""
        self.stop = None
        self.trio_token = None
        self.failed = None

    def do(self, function, *arguments, **named):
        async def work():
            return await getattr(self.home.studio, function)(*arguments, **named)

        return trio.from_thread.run(work, trio_token=self.trio_token)

    async def run(self, folder, port, fill, settings):
        self.trio_token = trio.lowlevel.current_trio_token()
        self.stop = trio.Event()
        public_url = f"http://127.0.0.1:{port}"
        async with house(folder, settings={"public_url": public_url, **settings}) as self.home:
            await fill(self.home.studio)
            async with trio.open_nursery() as nursery:
                self.address = public_url
                await nursery.start(partial(serve_apart, self.home.app, "127.0.0.1", port, stop=self.stop))
                self.ready.set()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def shown(folder, fill, **settings):
    """Serve a studio that `fill` has put something in."""
    gallery = Shown()

    def work():
        try:
            trio.run(gallery.run, folder, free_port(), fill, settings)
        except BaseException as error:  # noqa: BLE001 - told to the test, which waits for it
            gallery.failed = error
        finally:
            gallery.ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    gallery.ready.wait()
    try:
        if gallery.failed is not None:
            raise gallery.failed
        yield gallery
    finally:
        if gallery.failed is None:
            trio.from_thread.run_sync(gallery.stop.set, trio_token=gallery.trio_token)
        thread.join()
    if gallery.failed is not None:
        raise gallery.failed
