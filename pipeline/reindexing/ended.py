"""What `jobs/done` and `jobs/active` still tell of jobs when the index is lost."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from pipeline.ending.filing import RESULT
from pipeline.errors import SpecError
from pipeline.inbox.looking import list_names
from pipeline.inbox.names import split
from pipeline.ledger.rebuilding import ImageTold, JobTold
from pipeline.model import CharacterRef, Fault, Job, PlannedImage, Recipe, Status
from pipeline.naming import EXTENSIONS
from pipeline.plan import make_job
from pipeline.spec.job import JobSpec, parse_job
from pipeline.spec.keys import Rules

_STORED = {Status.DONE, Status.PLACEHOLDER}
Place = tuple[str, str]  # owner's folder, character's slug


class _Said(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)


class _Error(_Said):
    code: str
    message: str


class _Image(_Said):
    number: int
    status: Status
    public_id: str
    prompt: str | None = None
    seed: int | None = None
    backend: str | None = None
    attempts: int = 0
    gpu_seconds: float = 0.0
    error: _Error | None = None


class _Data(_Said):
    job_id: str
    status: str
    character_id: str
    requested_count: int
    prompt: str | tuple[str, ...]
    style: str | None = None
    labels: tuple[str, ...] = ()
    maybe_paid_twice: int = 0
    used_embedding: bool = False
    created_at: AwareDatetime
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    images: tuple[_Image, ...] = ()


class _Result(_Said):
    data: _Data


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that has ended, and where its files lie; what a large folder of them costs in memory is this."""

    job_id: str
    character_id: str | None
    created_at: int
    result: Path | None
    spec: Path | None
    place: Place | None = None
    numbers: tuple[int, ...] = field(default=(), repr=False)
    arrived: int = 0  # the job file's own date in nanoseconds: the order within one batch
    stored: frozenset[int] = field(default=frozenset(), repr=False)  # those that a store should hold


def ended_jobs(done: Path) -> Iterator[Ended]:
    """Go through the results in `jobs/done`, then through the job files that have none."""
    told: set[str] = set()
    for path in sorted(done.glob(f"*{RESULT}")):
        data = _read(path)
        if data is None or data.job_id in told:
            continue
        told.add(data.job_id)
        numbers = tuple(sorted(image.number for image in data.images))
        spec = next((file for end in EXTENSIONS if (file := done / (data.job_id + end)).is_file()), None)
        yield Ended(
            job_id=data.job_id,
            character_id=data.character_id,
            created_at=_moment(data.created_at),
            result=path,
            spec=spec,
            place=_place(data.images[0].public_id) if data.images else None,
            numbers=numbers,
            arrived=spec.stat().st_mtime_ns if spec is not None else 0,
            stored=frozenset(image.number for image in data.images if image.status in _STORED),
        )
    for job_id, path in spec_files(done).items():
        if job_id not in told:
            yield unresolved(job_id, path)


def unresolved(job_id: str, spec: Path) -> Ended:
    """A job of which only its file is left; that file's date is the nearest to its arrival."""
    arrived = spec.stat().st_mtime_ns
    return Ended(job_id, None, arrived // 1_000_000, None, spec, arrived=arrived)


def arrival(ended: Ended) -> tuple[int, int, int, str]:
    """Sort jobs as they arrived, as far as their files tell."""
    return (ended.created_at, ended.arrived, min(ended.numbers, default=0), ended.job_id)


def spec_files(folder: Path) -> dict[str, Path]:
    """Return the job files of `active` or `done` by the jobs' ids, which are their names."""
    if not folder.is_dir():
        return {}
    names = [name for name in list_names(folder) if not name.endswith(RESULT)]
    return {split(name)[0]: folder / name for name in sorted(names)}


def retold(ended: Ended, rules: Rules, seq: int, *, numbers: tuple[int, ...], filed: bool) -> JobTold:
    """Put together what the index knew of a job.

    Args:
        ended: where its files lie.
        rules: of the configuration, as far as the job's file needs them today.
        seq: its place in the order of arrival.
        numbers: those that it holds, contiguous; none where it was cancelled before it had any.
        filed: its result file is there and right.
    """
    data = _read(ended.result) if ended.result is not None else None
    job = job_of(ended, rules, data)
    images: dict[int, ImageTold] = {}
    if data is not None:
        images = {image.number: _image(image, data, first=n == 0) for n, image in enumerate(data.images)}
    unknown = ImageTold(Status.DONE, None, None)
    cancelled = not numbers or (data is not None and data.status == "cancelled")
    return JobTold(
        seq=seq,
        job=job,
        images={number: images.get(number, unknown) for number in numbers},
        quantity=len(numbers) or (data.requested_count if data is not None else max(len(job.images), 1)),
        created_at=ended.created_at,
        started_at=_moment(data.started_at) if data is not None and data.started_at else None,
        finished_at=_moment(data.finished_at) if data is not None and data.finished_at else ended.created_at,
        cancelled=cancelled,
        filed=filed,
    )


def job_of(ended: Ended, rules: Rules, data: _Data | None = None) -> Job:
    """Read a job's file as it is read at acceptance; what the configuration no longer knows is let pass."""
    if ended.spec is not None:
        with suppress(SpecError, OSError):  # edited since: then the result, or the store, tells enough
            spec = parse_job(ended.spec.read_bytes(), file=ended.spec.name)
            return _under_rules(spec, ended.spec.name, rules)._replace(id=ended.job_id)
    return Job(
        id=ended.job_id,
        own_id=True,
        character=CharacterRef(ended.character_id, None),
        owner=None,
        default_owner=rules.default_owner,
        prompt=data.prompt if data is not None else "",
        images=(PlannedImage("", 0),),
        recipe=Recipe(style=data.style if data is not None else None),
        backends=rules.default_backend or rules.backends,
        labels=data.labels if data is not None else (),
        file=ended.spec.name if ended.spec is not None else f"{ended.job_id}.yaml",
    )


def _under_rules(spec: JobSpec, file: str, rules: Rules) -> Job:
    try:
        return make_job(spec, file=file, rules=rules)
    except SpecError:
        known = tuple(dict.fromkeys((*rules.backends, *(spec.backend or ()))))
        return make_job(spec, file=file, rules=replace(rules, styles={}, backends=known))


def _read(path: Path) -> _Data | None:
    """Read a result; None where it is none of ours, or no whole one."""
    try:
        data = _Result.model_validate_json(path.read_bytes()).data
    except (ValidationError, OSError):
        return None
    numbers = [image.number for image in data.images]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))) if numbers else False:
        return None
    return data


def _image(said: _Image, data: _Data, *, first: bool) -> ImageTold:
    """A result counts what was maybe paid twice for the job as a whole; its first image carries it."""
    return ImageTold(
        status=said.status,
        prompt=said.prompt,
        seed=said.seed,
        backend=said.backend,
        attempts=said.attempts,
        gpu_seconds=said.gpu_seconds,
        doubtful=data.maybe_paid_twice if first else 0,
        used_embedding=data.used_embedding,
        fault=Fault(said.error.code, said.error.message) if said.error is not None else None,
    )


def _place(public_id: str) -> Place | None:
    parts = public_id.split("/")
    return (parts[0], parts[2]) if len(parts) == 5 and parts[1] == "characters" and parts[3] == "images" else None


def _moment(at: datetime) -> int:
    return round(at.timestamp() * 1000)
