"""Pausing: nothing new starts; what is under way goes on. The index keeps it over restarts."""

from pipeline.model import Paused
from pipeline.orders.kinds import Pause, Reply, Resume
from pipeline.orders.named import known_job
from pipeline.stages import Parts, Stages


def put_in_force(what: Paused, parts: Parts, stages: Stages) -> None:
    """Hold what is paused; images under way are left alone."""
    match what.kind:
        case "all":
            parts.brake.put("pause", what.reason)
        case "backend":
            if what.name in parts.lanes:
                parts.lanes[what.name].pause(what.reason)
        case "job":
            stages.runner.rest(what.name)


def _release(what: Paused, parts: Parts, stages: Stages) -> None:
    match what.kind:
        case "all":
            parts.brake.put("pause", None)
        case "backend":
            if what.name in parts.lanes:
                parts.lanes[what.name].pause(None)
        case "job":
            stages.runner.wake(what.name)


async def pause(order: Pause, parts: Parts, stages: Stages) -> Reply:
    """Pause a job, a back end or everything, until it is resumed."""
    what = _meant(order, parts)
    fresh = await parts.ledger.pause(what)
    put_in_force(what, parts, stages)
    return Reply(lines=(f"{_named(what)} {'is paused' if fresh else 'was paused already'}",), data=_told([what]))


async def resume(order: Resume, parts: Parts, stages: Stages) -> Reply:
    """Undo one pause, or all of them."""
    there = parts.ledger.pauses()
    wanted = there if order.job is None and order.backend is None else [_meant(order, parts)]
    lines = []
    for what in wanted:
        gone = await parts.ledger.resume(what)
        _release(what, parts, stages)
        lines.append(f"{_named(what)} {'goes on' if gone else 'was not paused'}")
    lines += [f"but {what.reason}" for what in parts.ledger.pauses() if what.kind == "all"]
    return Reply(lines=tuple(lines) or ("nothing is paused",), data=_told(wanted))


def _meant(order: Pause | Resume, parts: Parts) -> Paused:
    if order.backend is not None:
        return Paused("backend", order.backend)
    if order.job is None:
        return Paused("all")
    return Paused("job", known_job(order.job, parts.ledger))


def _named(what: Paused) -> str:
    return {"all": "everything", "backend": f"back end {what.name}", "job": f"job {what.name}"}[what.kind]


def _told(pauses: list[Paused]) -> dict[str, object]:
    return {"pauses": [{"kind": what.kind, "name": what.name or None} for what in pauses]}
