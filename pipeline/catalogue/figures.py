"""The whole in a few figures: what only grows and what is under way, for `/metrics`; what goes on now, for `status`."""

import sqlite3
from itertools import groupby
from typing import Any

from pipeline.catalogue import jobs
from pipeline.catalogue.values import Day, Durations, Figures, Summary, TroubleRow, Work
from pipeline.model import DURATION_BOUNDS, LaneState, Paused

_UNDER_WAY = """
SELECT state, backend, count(*) FROM images WHERE state IN ('submitting', 'unclear', 'submitted') GROUP BY 1, 2
UNION ALL
SELECT state, backend, count(*) FROM images WHERE state IN ('fetched', 'given_up', 'drawn') GROUP BY 1, 2
"""


def read(connection: sqlite3.Connection) -> Figures:
    """Read all of them; an index that no daemon of this version has opened yet tells of none."""
    if not _current(connection):
        return Figures((), (), (), None)
    work = connection.execute(
        "SELECT backend, sum(done), sum(placeholder), sum(failed), sum(attempts), sum(attempts_failed), sum(doubtful), "
        "sum(gpu_seconds) FROM days GROUP BY backend ORDER BY backend"
    )
    found = connection.execute("SELECT backend, bound, n, seconds FROM durations ORDER BY backend").fetchall()
    durations = []
    for backend, rows in groupby(found, key=lambda row: str(row[0])):
        known = {bound: (n, seconds) for _, bound, n, seconds in rows}
        buckets = tuple((bound, known.get(bound, (0, 0.0))[0]) for bound in DURATION_BOUNDS)
        durations.append(Durations(backend, buckets, sum(seconds for _, seconds in known.values())))
    under_way = [(state, backend or "", n) for state, backend, n in connection.execute(_UNDER_WAY)]
    (oldest,) = connection.execute(
        "SELECT min(created_at) FROM jobs WHERE status IN ('queued', 'running') AND queued > 0"
    ).fetchone()
    return Figures(tuple(Work(*row) for row in work), tuple(durations), tuple(under_way), oldest)


def summary(connection: sqlite3.Connection, day: str) -> Summary:
    """Read the whole index in a few numbers; `day` is a UTC date."""
    statuses = jobs.unfinished_counts(connection, None)
    to_store, spool_bytes = connection.execute(
        "SELECT count(*), coalesce(sum(spool_bytes), 0) FROM images WHERE state IN ('fetched', 'given_up', 'drawn')"
    ).fetchone()
    today = connection.execute(
        "SELECT backend, done, placeholder, failed, gpu_seconds FROM days WHERE day = ? ORDER BY backend", (day,)
    )
    return Summary(
        jobs_running=statuses.get("running", 0),
        jobs_queued=statuses.get("queued", 0),
        images=dict(connection.execute("SELECT status, sum(n) FROM tallies GROUP BY status").fetchall()),
        retrying=_one(connection, "SELECT coalesce(sum(planned - queued), 0) FROM jobs WHERE planned > 0"),
        to_store=to_store,
        spool_bytes=spool_bytes,
        today=tuple(Day(*row) for row in today),
        oldest_waiting=_one(connection, "SELECT min(created_at) FROM jobs WHERE status IN ('queued', 'running')"),
    )


def lanes(connection: sqlite3.Connection) -> list[LaneState]:
    """Read the back ends as they were last noted, by name."""
    found = connection.execute(
        "SELECT name, state, slots, busy, waiting, typical, reason, next_try FROM lanes ORDER BY name"
    )
    return [LaneState(*row) for row in found]


def troubles(connection: sqlite3.Connection) -> list[TroubleRow]:
    """Read what a daemon last noted to be in trouble, the longest first."""
    if not _current(connection):
        return []
    found = connection.execute("SELECT what, reason, since, next_try FROM troubles ORDER BY since, what")
    return [TroubleRow(*row) for row in found]


def pauses(connection: sqlite3.Connection) -> list[Paused]:
    """Read what people have paused."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'pauses'").fetchall():
        return []
    return [Paused(*row) for row in connection.execute("SELECT kind, name FROM pauses ORDER BY kind, name")]


def _one(connection: sqlite3.Connection, sql: str) -> Any:  # noqa: ANN401  # as the column is
    return connection.execute(sql).fetchone()[0]


def _current(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'troubles'").fetchall())
