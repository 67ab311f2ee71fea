"""Jobs, artifacts and clocks for tests of the index, and images walked through the law in it."""

import os
from pathlib import Path

from pipeline import lifecycle as law
from pipeline.ledger import open_ledger
from pipeline.model import (
    Artifact,
    Asset,
    CharacterRef,
    Fault,
    Job,
    PlannedImage,
    Recipe,
    Stored,
    Submission,
)
from tests.support.waiting import EPOCH, inline

START = EPOCH


class HandClock:
    """A wall clock that stands where it is put, and goes on by `step` milliseconds at each look."""

    def __init__(self, at=START, step=0):
        self.at = at
        self.step = step

    def __call__(self):
        self.at += self.step
        return self.at


def open_index(folder: Path, clock=None):
    """A ledger on a real file, its writes inline."""
    return open_ledger(folder / "index.db", clock=clock or HandClock(), run_sync=inline)


def handles_of(path):
    """This process's own open descriptors of a file."""
    with os.scandir("/proc/self/fd") as handles:
        return [handle.name for handle in handles if os.path.realpath(handle.path) == str(path)]


def images_of(ledger, job_id):
    """All images of a job in number order; none while it is not numbered."""
    return ledger.images_where(job_id=job_id, limit=10_000)


def job(job_id, character="mary", quantity=1, *, owner=None, **changes):
    """A job for a bare name, or for a CharacterRef."""
    ref = character if isinstance(character, CharacterRef) else CharacterRef(None, character)
    made = Job(
        id=job_id,
        own_id=True,
        character=ref,
        owner=owner,
        default_owner="me",
        prompt="in a garden",
        images=tuple(PlannedImage("in a garden", 7 + n) for n in range(quantity)),
        recipe=Recipe(width=64, height=96),
        backends=("pod",),
        digest=f"digest of {job_id}",
        file=f"{job_id}.yaml",
    )
    return made._replace(**changes)


def by_id(character_id, name=None, **more):
    return CharacterRef(character_id, name, **more)


def artifact(tag):
    return Artifact(f"{tag}.img", f"{tag:032}", 1234, 64, 96, "png", f"{tag:064}", "#7a6a58")


def stored(image, version="1", **changes):
    made = Stored(image.public_id, f"http://x/{image.public_id}.png", version, "0" * 32, 1234, 64, 96, "png")
    return made._replace(**changes)


def asset(slug, number, *, owner_slug="me", character_id=None, created_at=START - 1_000, **changes):
    public_id = f"{owner_slug}/characters/{slug}/images/{slug}_image_{number}"
    kept = Stored(public_id, f"http://x/{public_id}", "1", "0" * 32, 99, 8, 8, "png", created_at=created_at)
    return Asset(kept, slug, number, None, character_id)._replace(**changes)


def submission(image):
    return Submission(f"remote-{image.row}", "http://pod", START, START + 600_000, START + 1_800_000)


async def send(ledger, image, backend="pod"):
    image = await ledger.record(image, law.Submitting(backend, f"ticket-{image.row}-{image.attempts}"))
    return await ledger.record(image, law.Accepted(submission(image)))


async def fetch(ledger, image, tag=None):
    image = await send(ledger, image)
    return await ledger.record(image, law.Fetched(artifact(tag or image.row), gpu_seconds=2.5))


async def make(ledger, image, tag=None):
    """Walk a planned image to `done`."""
    image = await fetch(ledger, image, tag)
    return await ledger.record(image, law.StoredAt(stored(image)))


async def give_up(ledger, image, code="timed_out"):
    """Walk a planned image to `placeholder`."""
    image = await ledger.record(image, law.GaveUp(Fault(code, "it took too long")))
    image = await ledger.record(image, law.Drawn(artifact(10_000 + image.row)))
    return await ledger.record(image, law.StoredAt(stored(image)))


async def adopted(ledger, *owners):
    """Let owners have folders of their own names, with nothing in them."""
    for owner in owners or ("me",):
        await ledger.adopt(owner, owner, [])
