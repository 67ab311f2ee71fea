"""How long 300 small images take at a back end of fixed speed, everything durable, against the ideal.

The back end is scripted (each image takes exactly as long as told, 50 at once); index, spool, store, result and their
fsyncs are real. Run: .venv/bin/python -m benchmarks.makespan [IMAGES] [SECONDS] [SLOTS]
"""

import io
import logging
import resource
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import trio
from PIL import Image

from pipeline import daemon
from pipeline.config import load_config
from pipeline.model import Picture, State, Submission
from pipeline.ports import NotThere

CONFIG = """
scan_interval: 0.5
gallery: {{enabled: false}}
backends: {{pod: {{type: sketch, concurrency: {slots}, poll_rate: 1000}}}}
"""


class Fixed:
    """Accepts at once, and hands the picture over exactly `seconds` later."""

    def __init__(self, seconds, pictures):
        self._seconds = seconds
        self._pictures = pictures
        self._ready = {}
        self.first = None

    async def submit(self, request):
        self.first = self.first or time.perf_counter()
        await trio.lowlevel.checkpoint()
        moment = time.time_ns() // 1_000_000
        self._ready[request.ticket] = trio.current_time() + self._seconds
        return Submission(request.ticket, "http://fixed", moment, moment + 600_000)

    async def find(self, request):
        await trio.lowlevel.checkpoint()
        return NotThere()

    async def collect(self, request, submission):
        await trio.sleep_until(self._ready.pop(request.ticket))
        return Picture(self._pictures.pop(), gpu_seconds=self._seconds)

    async def cancel(self, submission):
        await trio.lowlevel.checkpoint()

    async def check(self, recipe, embedding, *, images):
        await trio.lowlevel.checkpoint()

    async def probe(self):
        await trio.lowlevel.checkpoint()


def draw(images):
    """Different pictures of about 100 KB, drawn before the clock runs: this is the GPU's work, not ours."""
    pictures = []
    image = Image.effect_noise((192, 256), 40).convert("RGB")
    for n in range(images):
        image.putpixel((0, 0), (n % 256, n // 256 % 256, 7))
        out = io.BytesIO()
        image.save(out, "PNG", compress_level=1)
        pictures.append(out.getvalue())
    return pictures


async def measure(images, seconds, slots):
    opened = []
    pictures = draw(images)
    cpu = cpu_seconds()

    @asynccontextmanager
    async def open_fixed(name, config, pace):
        opened.append(Fixed(seconds, pictures))
        yield opened[0]

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "pipeline.yaml").write_text(CONFIG.format(slots=slots))
        (root / "jobs").mkdir()
        (root / "jobs/batch.yaml").write_text(
            f"character: Mary\nprompt: x\nquantity: {images}\nwidth: 192\nheight: 256\n"
        )
        config = load_config(root / "pipeline.yaml", environ={})
        outcome = await daemon.run(config, once=True, openers=daemon.Openers(backend=open_fixed))
        span = time.perf_counter() - opened[0].first
        assert outcome.ended[State.DONE] == images, outcome
        return span, cpu_seconds() - cpu


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main():
    images, seconds, slots = (float(text) for text in [*sys.argv[1:], "300", "1", "50"][:3])
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    ideal = seconds * -(-images // slots)
    span, cpu = trio.run(measure, int(images), seconds, int(slots))
    print(f"images {int(images)}  at once {int(slots)}  each {seconds:g} s  ideal {ideal:g} s")
    print(f"first submission to exit {span:.2f} s = {span / ideal:.3f} of the ideal")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"CPU {1000 * cpu / images:.1f} ms an image  memory {memory} MB")


if __name__ == "__main__":
    main()
