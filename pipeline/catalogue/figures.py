"""Figures that only grow, and what is under way, for `/metrics`; what keeps work from going on, for `status`."""

import sqlite3
from itertools import groupby

from pipeline.catalogue.values import Durations, Figures, TroubleRow, Work
from pipeline.model import DURATION_BOUNDS

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


def troubles(connection: sqlite3.Connection) -> list[TroubleRow]:
    """Read what a daemon last noted to be in trouble, the longest first."""
    if not _current(connection):
        return []
    found = connection.execute("SELECT what, reason, since, next_try FROM troubles ORDER BY since, what")
    return [TroubleRow(*row) for row in found]


def pauses(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Read what people have paused: a kind ("all", "backend", "job") and a name each."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'pauses'").fetchall():
        return []
    return connection.execute("SELECT kind, name FROM pauses ORDER BY kind, name").fetchall()


def _current(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'troubles'").fetchall())
