"""Cancelling: what waits never starts, what runs is stopped at its back end, what is made is still stored."""

import trio

from pipeline.ledger import Ledger
from pipeline.lifecycle import TO_STORE
from pipeline.making.withdrawing import Withdrawn
from pipeline.model import Paused
from pipeline.orders.kinds import Cancel, Reply
from pipeline.orders.named import jobs_labelled, known_job
from pipeline.stages import Parts, Stages

AT_ONCE = 50  # jobs cancelled at the same time


async def cancel(order: Cancel, parts: Parts, stages: Stages) -> Reply:
    """End a job, or all unfinished ones with a label; the numbers stay held."""
    ledger = parts.ledger
    jobs = _unfinished(_named(order, ledger), ledger)
    if not jobs:
        named = order.job or f'every job with the label "{order.label}"'
        return Reply(lines=(f"{named} has ended already: there is nothing to cancel",), data={"jobs": []})
    ended: dict[str, Withdrawn | None] = {}
    places = trio.Semaphore(AT_ONCE)
    async with trio.open_nursery() as nursery:
        for job in jobs:
            await places.acquire()
            nursery.start_soon(_end, job, ended, places, parts, stages)
    return _told(jobs, ended, ledger)


def _named(order: Cancel, ledger: Ledger) -> list[str]:
    if order.label is not None:
        return jobs_labelled(order.label, ledger)
    assert order.job is not None
    return [known_job(order.job, ledger)]


def _unfinished(jobs: list[str], ledger: Ledger) -> list[str]:
    """Keep the jobs with something to cancel: an ended one may have images that are being made again."""
    at_work = {image.job_id for image in ledger.at_backends()}
    return [job for job in jobs if not ledger.job_ended(job) or job in at_work or ledger.turn(job) is not None]


async def _end(
    job: str, ended: dict[str, Withdrawn | None], places: trio.Semaphore, parts: Parts, stages: Stages
) -> None:
    try:
        if await parts.ledger.withdraw(job):
            stages.runner.turns.leave(job)
            ended[job] = None
        else:
            ended[job] = await stages.runner.cancel(job)
            stages.look_again()
        if await parts.ledger.resume(Paused("job", job)):
            stages.runner.wake(job)
    finally:
        places.release()


def _told(jobs: list[str], ended: dict[str, Withdrawn | None], ledger: Ledger) -> Reply:
    lines, data = [], []
    for job in jobs:
        gone = ended[job]
        if gone is None:
            lines.append(f"{job}: cancelled before it had numbers")
            data.append({"jobId": job, "cancelled": 0, "stillStored": 0, "unheard": []})
            continue
        stored = len(ledger.images_where(job_id=job, states=TO_STORE))
        going_on = sorted(gone.unheard, key=lambda image: image.number)
        unheard = [image.filename for image in going_on]
        rest = f"; {_images(stored)} made already, still to be stored" if stored else ""
        lines.append(f"{job}: {_images(gone.images)} cancelled{rest}")
        lines += [
            f"{image.filename}: may go on at back end {image.backend}, which could not be told to stop"
            for image in going_on
        ]
        data.append({"jobId": job, "cancelled": gone.images, "stillStored": stored, "unheard": unheard})
    return Reply(lines=tuple(lines), data={"jobs": data})


def _images(n: int) -> str:
    return f"{n} {'image' if n == 1 else 'images'}"
