"""What must hold once everything is worked off, whatever happened: seen with plain SQL and the file system alone."""

import hashlib
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.audit import audit_files
from pipeline.catalogue import Catalogue

_IMAGES = """
SELECT jobs.id AS job, jobs.prompt AS said, images.number, images.public_id, images.seed, images.status, images.state,
    images.path, images.md5, images.attempts, images.doubtful, images.failures, characters.id AS character,
    characters.slug AS slug, owners.slug AS folder
FROM images JOIN characters ON characters.row = images.character JOIN owners ON owners.row = characters.owner
LEFT JOIN jobs ON jobs.seq = images.job ORDER BY images.character, images.number
"""
TERMINAL = frozenset({"done", "placeholder", "failed", "cancelled"})


@dataclass(frozen=True)
class Dropped:
    """What was put into `jobs/`, and what is to become of it."""

    jobs: Mapping[str, tuple[str, ...] | int]  # by prompt: how its images end, in number order; or how many there are
    rejected: int = 0
    duplicates: int = 0


def rows(folder, sql=_IMAGES):
    connection = sqlite3.connect(f"{(folder / '.pipeline/index.db').as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def first_numbers(folder):
    """By prompt: the character, and the first number that the job was given."""
    return {
        json.loads(row["prompt"]): (row["id"], row["first_number"])
        for row in rows(
            folder, "SELECT prompt, characters.id, first_number FROM jobs JOIN characters ON row = character"
        )
    }


def wrongs(folder, dropped, *, local=True):
    """Return sentences; none where nothing was lost, doubled or left lying about."""
    images = rows(folder)
    found = [*_counts(folder, images, dropped), *_names(images), *_job_files(folder, dropped), *_litter(folder)]
    found += _results(folder)
    if local:
        found += _pictures(folder, images)
    catalogue = Catalogue(folder / ".pipeline/index.db")
    try:
        places = {"spool": folder / ".pipeline/spool", "kept": folder / ".pipeline/kept"}
        found += map(str, catalogue.verify())
        found += map(str, audit_files(catalogue, images=folder / "images" if local else None, idle=True, **places))
    finally:
        catalogue.close()
    return found


def _counts(folder, images, dropped):
    jobs = rows(folder, "SELECT id, prompt, status, quantity, first_number, filed FROM jobs")
    told = Counter(json.loads(job["prompt"]) for job in jobs)
    expected = Counter(dropped.jobs.keys())
    if told != expected:
        yield f"jobs lost: {dict(expected - told)}, too many: {dict(told - expected)}"
    by_job = _by_job(images)
    for job in jobs:
        mine = by_job[job["id"]]
        if job["first_number"] is None and job["status"] == "cancelled" and not mine:
            continue  # withdrawn before there were numbers
        numbers = [image["number"] for image in mine]
        if numbers != list(range(job["first_number"], job["first_number"] + job["quantity"])):
            yield f"{job['id']}: numbers {numbers}"
        if len({image["character"] for image in mine}) != 1:
            yield f"{job['id']}: images of several characters"
        ends = tuple(image["status"] for image in mine)
        wanted = dropped.jobs.get(json.loads(job["prompt"]), ())
        if wanted == len(ends):
            wanted = tuple(status if status in TERMINAL else "ended" for status in ends)
        if ends != wanted:
            yield f"{job['id']}: {job['prompt']} ended as {ends}, not as {wanted}"
        if (job["status"], job["filed"]) != ("cancelled" if "cancelled" in ends else "done", 1):
            yield f"{job['id']}: is {job['status']}, filed {job['filed']}"


def _by_job(images):
    found = defaultdict(list)
    for image in images:
        found[image["job"]].append(image)
    return found


def _names(images):
    by_character = {}
    for image in images:
        by_character.setdefault(image["character"], []).append(image["number"])
        name = f"{image['slug']}_image_{image['number']}"
        expected = f"{image['folder']}/characters/{image['slug']}/images/{name}"
        if image["public_id"] != expected:
            yield f"{image['public_id']} should be {expected}"
    for character, numbers in by_character.items():
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{character}: numbers {numbers}"
    if len({image["public_id"] for image in images}) != len(images):
        yield "a public id is there twice"


def _job_files(folder, dropped):
    jobs = folder / "jobs"
    taken = {job["file"] for job in rows(folder, "SELECT file FROM jobs")}
    ids = {job["id"] for job in rows(folder, "SELECT id FROM jobs")}
    if _plain(jobs) or _plain(jobs / "active"):
        yield f"left: {_plain(jobs)} {_plain(jobs / 'active')}"
    if _plain(jobs / "done") != taken | {f"{job}.result.json" for job in ids}:
        yield f"done/ holds {sorted(_plain(jobs / 'done'))}"
    refused = _plain(jobs / "rejected")
    reasons = {name for name in refused if name.endswith(".error.txt")}
    if len(refused - reasons) != dropped.rejected or {Path(name).stem for name in refused - reasons} != {
        name.removesuffix(".error.txt") for name in reasons
    }:
        yield f"rejected/ holds {sorted(refused)}"
    if len(_plain(jobs / "duplicate")) != dropped.duplicates:
        yield f"duplicate/ holds {sorted(_plain(jobs / 'duplicate'))}"


def _plain(folder):
    if not folder.is_dir():
        return set()
    return {path.name for path in folder.iterdir() if path.is_file() and path.name != ".pipeline.lock"}


def _litter(folder):
    """No file that a write left half-done, and nothing in the spool."""
    for path in folder.rglob("*"):
        if path.name.endswith((".tmp", "-journal")):
            yield f"left lying: {path.relative_to(folder)}"
    yield from (f"in the spool: {path.name}" for path in (folder / ".pipeline/spool").iterdir())


def _results(folder):
    catalogue = Catalogue(folder / ".pipeline/index.db")
    by_job = _by_job(rows(folder))
    try:
        for job in rows(folder, "SELECT id FROM jobs"):
            told = json.loads((folder / f"jobs/done/{job['id']}.result.json").read_bytes())
            if told["data"] != json.loads(json.dumps(catalogue.result(job["id"]))):
                yield f"{job['id']}: the result file is not what the index tells"
            mine = by_job[job["id"]]
            if [(image["number"], image["status"]) for image in told["data"]["images"]] != [
                (row["number"], row["status"]) for row in mine
            ]:
                yield f"{job['id']}: the result file tells of other images"
    finally:
        catalogue.close()


def _pictures(folder, images):
    there = {
        path: hashlib.md5(path.read_bytes()).hexdigest()
        for path in (folder / "images").rglob("*")
        if path.is_file() and ".pipeline" not in path.parts[len(folder.parts) :]
    }
    told = {Path(image["path"]): image["md5"] for image in images if image["path"] is not None}
    if there != told:
        yield f"pictures: {sorted(there.items() ^ told.items())}"
    stored = sum(image["status"] in {"done", "placeholder"} for image in images)
    if len(told) != stored:
        yield f"{stored} images are stored, {len(told)} have a file"
