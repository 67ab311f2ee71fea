"""Dropping a job file into the folder for a program: whole at once, and with an id to ask for it by."""

import os
import random
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SpecError, UserError
from pipeline.inbox.names import first_free, is_job_file, new_job_id, numbered, split
from pipeline.spec.job import parse_job, read_root
from pipeline.spec.nodes import Mapping, Node, Scalar
from pipeline.tools import clock as clocks
from pipeline.tools.clock import Clock
from pipeline.tools.files import make_folder, write_durably

_ENDING = 8  # random characters: several programs may submit the same name in the same second


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file that was put into the folder."""

    path: Path
    job_id: str
    at: int  # milliseconds: older files of its name are not this one


def drop(
    jobs: Path, data: bytes, name: str, *, clock: Clock = clocks.now, draw: random.Random | None = None
) -> Dropped:
    """Write a job file into the folder under its name or the next free one; it is never seen half-written.

    A job without an id gets one, written into its text; everything else stays as it is. With the id, the same text
    submitted again makes nothing a second time.

    Raises:
        SpecError: it is no job.
        UserError: it has no id and none can be written into it.
        OSError: nothing was left in the folder.
    """
    file = _job_file_name(name)
    at = clock()
    spec = parse_job(data, file=file)
    job_id = spec.id
    if job_id is None:
        job_id = new_job_id(split(file)[0], now=at, draw=draw or random.Random(), ending=_ENDING)
        data = with_id(data, job_id, file=file)
    make_folder(jobs)
    return Dropped(_write(jobs, file, data), job_id, at)


def with_id(data: bytes, job_id: str, *, file: str) -> bytes:
    """Write an id into the text of a job that has none, keeping every other character.

    Raises:
        UserError: the text takes no id; the message asks for it to be written by hand.
    """
    root, source = read_root(data, file=file)
    assert isinstance(root, Mapping)  # it was parsed as a job
    said = root.entries.get("id")
    at = source.offset(*_place(said[1] if said else root))
    text = source.text
    if said:  # `id: null` says that there is none
        null = said[1].text if isinstance(said[1], Scalar) else ""
        changed = f'{text[:at].rstrip()} "{job_id}"{text[at + len(null) :]}'
    elif text[at] == "{":
        changed = f'{text[: at + 1]}"id": "{job_id}", {text[at + 1 :].lstrip(" ")}'
    else:
        changed = f"{text[:at]}id: {job_id}\n{' ' * (root.column - 1)}{text[at:]}"
    result = changed.encode()
    try:
        written = parse_job(result, file=file).id
    except SpecError:
        written = None
    if written != job_id:
        raise UserError(f"{file}: no id could be written into this text; write `id: {job_id}` and submit it again")
    return result


def _place(node: Node) -> tuple[int, int]:
    return node.line, node.column


def _job_file_name(name: str) -> str:
    plain = Path(name).name.lstrip(".") or "job"
    return plain if is_job_file(plain) else f"{plain}.yaml"


def _write(jobs: Path, file: str, data: bytes) -> Path:
    stem, extension = split(file)

    def place(n: int) -> Path:
        return jobs / (numbered(stem, n, longest_suffix=len(extension)) + extension)

    while True:
        path = place(first_free(lambda n: os.path.lexists(place(n))))
        try:
            write_durably(path, data, replace=False)
        except FileExistsError:  # somebody else was quicker
            continue
        return path
