"""The back end `sketch`: draws a landscape on this machine, from prompt and seed alone.

It buys nothing and generates nothing, and says so in the picture. For trying things, for the demo, and for tests.
"""

from collections.abc import Collection

import trio

from pipeline import picture
from pipeline.backends import scenery
from pipeline.errors import AttemptFailed
from pipeline.model import Picture, Recipe, Request, Submission
from pipeline.ports import NotThere
from pipeline.tools import pngtext, spacing
from pipeline.tools.threads import RunSync

_ALL_BUT = 0.95  # of the time an image may take: to say that it was too little comes before being cut off


class Sketch:
    """A Backend that answers at once.

    Args:
        delay: seconds an image takes besides the drawing.
        fail_seeds: seeds whose every attempt fails, so that the image is given up after all of them.
        run_sync: runs the drawing in a thread; tests under a virtual clock pass an inline one.
    """

    def __init__(
        self,
        *,
        delay: float = 0.0,
        fail_seeds: Collection[int] = (),
        run_sync: RunSync = trio.to_thread.run_sync,
    ) -> None:
        self._delay = delay
        self._fail_seeds = frozenset(fail_seeds)
        self._run_sync = run_sync

    async def submit(self, request: Request) -> Picture:
        await spacing.departure()
        with trio.move_on_after(_ALL_BUT * request.timeout):
            return await self._drawn(request)
        raise AttemptFailed(f"sketch had not drawn it after {request.timeout:g} s", code="timed_out")

    async def _drawn(self, request: Request) -> Picture:
        await trio.sleep(self._delay)
        if request.seed in self._fail_seeds:
            raise AttemptFailed(f"sketch was told to fail on seed {request.seed}", code="failed")
        data: bytes = await self._run_sync(draw, request)
        return Picture(data)

    async def find(self, request: Request) -> NotThere:
        """Nothing outlives a drawing that was interrupted."""
        return NotThere()

    async def collect(self, request: Request, submission: Submission) -> Picture:
        message = f"sketch answers at once and keeps nothing; {submission.remote_id} is not there"
        raise AttemptFailed(message, code="lost")

    async def cancel(self, submission: Submission) -> None:
        """Nothing runs on its own here."""

    async def check(self, recipe: Recipe, *, images: int) -> None:
        """Every model, sampler and embedding is taken, and none is used."""

    async def probe(self) -> None:
        """It is always there."""


def draw(request: Request) -> bytes:
    """Return the PNG for a request, with its parameters in A1111's text chunk."""
    recipe = request.recipe
    image = scenery.paint(request.prompt, request.seed, recipe.width, recipe.height, label="sketch")
    parameters = pngtext.infotext(
        request.prompt,
        recipe.negative_prompt,
        {
            "Steps": recipe.steps,
            "Sampler": recipe.sampler_name,
            "Schedule type": recipe.scheduler,
            "CFG scale": recipe.cfg_scale,
            "Seed": request.seed,
            "Size": f"{recipe.width}x{recipe.height}",
            "Model": "sketch",
        },
    )
    return pngtext.with_text(picture.encode_png(image, compress_level=1), {"parameters": parameters})
