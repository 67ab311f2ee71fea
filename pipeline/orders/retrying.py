"""Retrying: placeholders and failed images are made again under their own numbers.

What stands in the gallery goes on standing there until its replacement is stored. Where the bytes that were paid for
are kept, they are only uploaded again.
"""

from collections.abc import Iterator
from pathlib import Path

import trio

from pipeline import picture
from pipeline.errors import AttemptFailed, IllegalStep, NotWorthRepeating, SpoolTrouble, StaleImage
from pipeline.ledger import Ledger
from pipeline.lifecycle import Retried
from pipeline.model import Artifact, Image, State
from pipeline.orders.kinds import Reply, Retry
from pipeline.orders.named import jobs_labelled, known_character, known_images, known_job, what_of
from pipeline.stages import Parts, Stages

BATCH = 500  # images in one go


async def retry(order: Retry, parts: Parts, stages: Stages) -> Reply:
    """Make the images again that an order selects."""
    ledger = parts.ledger
    kept = await _kept(parts)
    bought: list[tuple[int, str]] = []
    uploaded: list[tuple[int, str]] = []
    left: list[tuple[int, str]] = []
    under_way: list[tuple[int, str]] = []
    jobs: set[str] = set()

    async def one(image: Image) -> None:
        if image.standing is not None:
            under_way.append((image.row, image.filename))
            return
        why_not = _hindrance(image)
        if why_not is not None:
            left.append((image.row, f"{image.filename} {why_not}"))
            return
        artifact = await _artifact(image, kept.get(image.row, []), parts)
        try:
            await ledger.record(image, Retried(kept=artifact))
        except (StaleImage, IllegalStep):  # somebody else's step came first
            return
        if artifact is None:
            bought.append((image.row, image.filename))
            jobs.add(image.job_id)
        else:
            uploaded.append((image.row, image.filename))
            # Should a crash come in between, or the storing stage be quicker, it fetches the file itself.
            await _bring_back(artifact.file, parts)

    for batch in _batches(order, ledger):
        async with trio.open_nursery() as nursery:
            for image in batch:
                nursery.start_soon(one, image)
    for job in jobs:
        stages.runner.due(job)
    stages.storing.bell.ring()
    left += [(row, f"{name} is being made again already") for row, name in under_way]
    reply = _told(_in_order(bought), _in_order(uploaded), _in_order(left), _holds(jobs, ledger))
    # To ask again for what is under way is no failure; to name what cannot be made again is.
    return reply.model_copy(update={"exit_code": 1 if order.numbers and len(left) > len(under_way) else 0})


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


def _holds(jobs: set[str], ledger: Ledger) -> list[str]:
    """What keeps these jobs from starting, as far as people have asked for it."""
    return [what.reason for what in ledger.pauses() if what.kind == "all" or what.name in jobs]


def _in_order(said: list[tuple[int, str]]) -> list[str]:
    """Leave out the rows that what is said was sorted by."""
    return [words for _, words in sorted(said)]


def _told(bought: list[str], uploaded: list[str], left: list[str], holds: list[str]) -> Reply:
    lines = []
    if bought:
        lines.append(f"{_images(bought)} made again: {_some(bought)}")
    if uploaded:
        lines.append(f"{_images(uploaded)} uploaded again, without buying: {_some(uploaded)}")
    if not bought and not uploaded and not left:
        lines.append("nothing to retry: no placeholder or failed image is meant")
    data = {"retried": bought, "uploaded": uploaded, "left": left}
    return Reply(lines=(*lines, *left, *(f"but {hold}" for hold in holds)), data=data)


def _images(names: list[str]) -> str:
    return f"{len(names)} {'image is' if len(names) == 1 else 'images are'}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
