"""Retrying: placeholders and failed images are made again under their own numbers.

What stands in the gallery goes on standing there until its replacement is stored. Where the bytes that were paid for
are kept, they are only uploaded again.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import trio

from pipeline import picture
from pipeline.errors import AttemptFailed, IllegalStep, NotWorthRepeating, SpoolTrouble, StaleImage
from pipeline.ledger import Ledger
from pipeline.lifecycle import Retried
from pipeline.model import Artifact, Image, Paused, State
from pipeline.orders.kinds import Reply, Retry
from pipeline.orders.named import jobs_labelled, known_character, known_images, known_job, what_of
from pipeline.stages import Parts, Stages

BATCH = 500  # images in one go


async def retry(order: Retry, parts: Parts, stages: Stages) -> Reply:
    """Make the images again that an order selects."""
    retrial = _Retrial(parts, await _kept(parts))
    for batch in _batches(order, parts.ledger):
        async with trio.open_nursery() as nursery:
            for image in batch:
                nursery.start_soon(retrial.begin, image)
    stages.runner.due(*retrial.jobs)
    stages.storing.bell.ring()
    # To ask again for what is under way is no failure; to name what cannot be made again is.
    return retrial.reply(exit_code=1 if order.numbers and retrial.refused else 0)


class _Retrial:
    """What one order has begun: names and sentences by the images' rows, since those of a batch are begun together."""

    def __init__(self, parts: Parts, kept: Mapping[int, list[str]]) -> None:
        self.jobs: set[str] = set()  # those with images to be bought
        self.refused: dict[int, str] = {}
        self._parts = parts
        self._kept = kept
        self._bought: dict[int, str] = {}
        self._uploaded: dict[int, str] = {}
        self._under_way: dict[int, str] = {}

    async def begin(self, image: Image) -> None:
        """Make one image again, or say why not."""
        if image.standing is not None:
            self._under_way[image.row] = f"{image.filename} is being made again already"
            return
        why_not = _hindrance(image)
        if why_not is not None:
            self.refused[image.row] = f"{image.filename} {why_not}"
            return
        artifact = await _artifact(image, self._kept.get(image.row, []), self._parts)
        try:
            await self._parts.ledger.record(image, Retried(kept=artifact))
        except (StaleImage, IllegalStep):  # somebody else's step came first
            return
        if artifact is None:
            self._bought[image.row] = image.filename
            self.jobs.add(image.job_id)
        else:
            self._uploaded[image.row] = image.filename
            # Should a crash come in between, or the storing stage be quicker, it fetches the file itself.
            await _bring_back(artifact.file, self._parts)

    def reply(self, exit_code: int) -> Reply:
        """Tell what has become of all of them, and what keeps them from starting as far as people have asked for it."""
        bought, uploaded, left = map(_in_order, (self._bought, self._uploaded, self.refused | self._under_way))
        lines = []
        if bought:
            lines.append(f"{_images(bought)} made again: {_some(bought)}")
        if uploaded:
            lines.append(f"{_images(uploaded)} uploaded again, without buying: {_some(uploaded)}")
        if not bought and not uploaded and not left:
            lines.append("nothing to retry: no placeholder or failed image is meant")
        pauses = self._parts.ledger.pauses()
        held = {Paused("all"), *(Paused("job", job) for job in self.jobs)}
        holds = [f"but {what.reason}" for what in pauses if what in held]
        data = {"retried": bought, "uploaded": uploaded, "left": left}
        return Reply(exit_code=exit_code, lines=(*lines, *left, *holds), data=data)


def _batches(order: Retry, ledger: Ledger) -> Iterator[list[Image]]:
    if order.numbers:
        assert order.character is not None
        yield known_images(order.character, order.numbers, ledger)
        return
    if order.job is not None:
        known_job(order.job, ledger)
    if order.character is not None:
        known_character(order.character, ledger)
    if order.label is not None:
        jobs_labelled(order.label, ledger)
    either = not order.placeholders and not order.failed
    states = [State.PLACEHOLDER] * (order.placeholders or either) + [State.FAILED] * (order.failed or either)
    last = 0
    while batch := ledger.images_where(
        job_id=order.job,
        character_id=order.character,
        label=order.label,
        states=states,
        after_row=last,
        limit=BATCH,
    ):
        last = batch[-1].row
        yield batch


def _hindrance(image: Image) -> str | None:
    if image.state not in Retried.allowed:
        return f"is {what_of(image)}: only placeholders and failed images are made again"
    if not image.job_id:
        return "was adopted from the store: no job tells how to make it"
    return None


async def _kept(parts: Parts) -> dict[int, list[str]]:
    """Names of the files that no store would take, by the row that they were made for."""
    names: dict[int, list[str]] = {}
    for name in await parts.spool.kept():
        row = name.partition("-")[0]
        if row.isdecimal():
            names.setdefault(int(row), []).append(name)
    return names


async def _artifact(image: Image, kept: list[str], parts: Parts) -> Artifact | None:
    """Describe the latest bytes kept for an image; the row itself may describe its placeholder by now."""
    if image.artifact is not None and image.artifact.file in kept:
        return image.artifact
    folder = parts.spool.kept_folder
    try:
        for path in sorted((folder / name for name in kept), key=lambda path: path.stat().st_mtime_ns, reverse=True):
            return Artifact(file=path.name, **(await parts.run_sync(_examined, path))._asdict())
    except (OSError, AttemptFailed, NotWorthRepeating):  # gone or damaged meanwhile: it is made again
        return None
    return None


def _examined(path: Path) -> picture.Examined:
    return picture.examine(path.read_bytes())


async def _bring_back(file: str, parts: Parts) -> None:
    try:
        await parts.spool.bring_back(file)
    except SpoolTrouble as trouble:
        if not trouble.lost:
            raise


def _in_order(said: Mapping[int, str]) -> list[str]:
    return [words for _, words in sorted(said.items())]


def _images(names: list[str]) -> str:
    return f"{len(names)} {'image is' if len(names) == 1 else 'images are'}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
