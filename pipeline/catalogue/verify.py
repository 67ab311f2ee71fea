"""What must hold in the index whatever happened; files and stores are compared elsewhere."""

import sqlite3
from collections.abc import Callable, Iterator

from pipeline import naming
from pipeline.catalogue.jobs import STATUSES
from pipeline.catalogue.values import Problem
from pipeline.lifecycle import ENDS, status_of
from pipeline.model import State

Check = Callable[[sqlite3.Connection], Iterator[Problem]]


def problems(connection: sqlite3.Connection) -> list[Problem]:
    """Return all that is wrong, in the order of the checks; a damaged file ends the looking early."""
    for look in (_damage, _orphans):
        if found := list(look(connection)):
            return found
    return [problem for check in _CHECKS for problem in check(connection)]


def _damage(connection: sqlite3.Connection) -> Iterator[Problem]:
    try:
        lines = [line for (line,) in connection.execute("PRAGMA integrity_check(20)")]
    except sqlite3.DatabaseError as error:
        lines = [str(error)]
    for line in lines:
        if line != "ok":
            yield Problem("damaged", "index", f"SQLite finds the file damaged: {line}")


def _orphans(connection: sqlite3.Connection) -> Iterator[Problem]:
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield Problem("orphan", f"{table} {row}", f"row {row} of {table} names a row of {parent} that is not there")


def _states(connection: sqlite3.Connection) -> Iterator[Problem]:
    known = {state.value for state in State}
    stands = {State.PLACEHOLDER.value, State.FAILED.value}
    kinds = connection.execute("SELECT state, standing, status, min(public_id), count(*) FROM images GROUP BY 1, 2, 3")
    for state, standing, status, subject, n in kinds:
        if state not in known or (standing is not None and standing not in stands):
            yield Problem("unknown_state", subject, f'{n} images in the unknown state "{state}" (standing: {standing})')
        elif standing is not None and State(state) in ENDS:
            yield Problem("wrong_state", subject, f"{n} images have ended as {state} and are still being made again")
        elif status != status_of(State(state), State(standing) if standing else None):
            yield Problem("wrong_status", subject, f'{n} images in state {state} are shown as "{status}"')


def _numbers(connection: sqlite3.Connection) -> Iterator[Problem]:
    rows = connection.execute(
        "SELECT id, highest, n, least, most FROM characters LEFT JOIN (SELECT character, count(*) AS n, "
        "min(number) AS least, max(number) AS most FROM images GROUP BY character) ON character = row "
        "WHERE highest <> coalesce(most, 0) OR n <> most OR least <> 1"
    )
    for character, highest, n, least, most in rows:
        told = f"{n or 0} images, numbers {least} to {most}, last one given out {highest}"
        yield Problem("gap", character, f"numbers are not 1, 2, 3 … without a gap: {told}")
    for character, number, n in connection.execute(
        "SELECT characters.id, number, count(*) FROM images NOT INDEXED JOIN characters ON characters.row = character "
        "GROUP BY character, number HAVING count(*) > 1"
    ):
        yield Problem("repeated_number", f"{character} {number}", f"number {number} is there {n} times")


def _names(connection: sqlite3.Connection) -> Iterator[Problem]:
    rows = connection.execute(
        "SELECT public_id, number, characters.slug, owners.slug FROM images "
        "JOIN characters ON characters.row = images.character JOIN owners ON owners.row = characters.owner "
        "WHERE images.job IS NOT NULL"
    )
    for public_id, number, slug, owner_slug in rows:
        expected = naming.public_id(owner_slug or "", slug or "", number)
        if public_id != expected:
            yield Problem("wrong_name", public_id, f"by its number and folders it should be {expected}")


def _moments(connection: sqlite3.Connection) -> Iterator[Problem]:
    for public_id, status in connection.execute(
        "SELECT public_id, status FROM images WHERE status IN ('done', 'placeholder') "
        "AND (url IS NULL OR created_at IS NULL)"
    ):
        yield Problem(
            "not_stored", public_id, f"{status}, but the index does not tell where it is stored, or since when"
        )
    for (public_id,) in connection.execute(
        "SELECT public_id FROM images JOIN characters ON characters.row = character "
        "WHERE coalesce(images.created_at, shown_at) <> shown_at OR images.created_at > newest_at"
    ):
        yield Problem("wrong_moment", public_id, "its place in the gallery is not by the moment it was stored")


def _tallies(connection: sqlite3.Connection) -> Iterator[Problem]:
    rows = connection.execute(
        "SELECT characters.id, status, sum(counted), sum(told) FROM ("
        "SELECT character, status, count(*) AS counted, 0 AS told FROM images GROUP BY 1, 2 "
        "UNION ALL SELECT character, status, 0, n FROM tallies) JOIN characters ON characters.row = character "
        "GROUP BY character, status HAVING sum(counted) <> sum(told)"
    )
    for character, status, counted, told in rows:
        yield Problem("wrong_tally", character, f"{counted} images are {status}, the index counts {told}")


def _jobs(connection: sqlite3.Connection) -> Iterator[Problem]:
    counts = ", ".join(f"sum(status = '{status}') AS {status}" for status in STATUSES)
    rows = connection.execute(
        f"SELECT jobs.id, jobs.status, quantity, first_number, plan IS NOT NULL, jobs.planned, "
        f"{', '.join(f'jobs.{status}' for status in STATUSES)}, coalesce(n, 0), least, most, in_plan, "
        f"{', '.join(f'made.{status}' for status in STATUSES)} FROM jobs LEFT JOIN (SELECT job, character, "
        f"count(*) AS n, min(number) AS least, max(number) AS most, sum(state = 'planned') AS in_plan, {counts} "
        "FROM images WHERE job IS NOT NULL GROUP BY job, character) AS made "
        "ON made.job = jobs.seq AND made.character = jobs.character"
    )
    for job, status, quantity, first, waits, planned, *rest in rows:
        told, (n, least, most, in_plan), counted = rest[:7], rest[7:11], rest[11:]
        if first is None:
            if n or (not waits and status != "cancelled"):
                yield Problem("lost_plan", job, "the job has no numbers and nothing that could be numbered")
            continue
        if (n, least, most) != (quantity, first, first + quantity - 1):
            yield Problem("job_numbers", job, f"{n} images, {least} to {most}; expected {quantity} from {first} on")
        elif told != counted or planned != in_plan:
            yield Problem("wrong_count", job, "its counters are not what its images are")
        ended = status in {"done", "cancelled"}
        if ended == bool(counted[0] or counted[1]):
            yield Problem("wrong_job_status", job, f"it is {status}, with {counted[0]} queued and {counted[1]} running")


def _submissions(connection: sqlite3.Connection) -> Iterator[Problem]:
    for public_id, state in connection.execute(
        "SELECT public_id, state FROM images WHERE (state = 'submitted' AND remote_id IS NULL) "
        "OR (state IN ('submitting', 'unclear') AND ticket IS NULL) "
        "OR (state IN ('fetched', 'drawn') AND spool_file IS NULL)"
    ):
        yield Problem("lost_trace", public_id, f"it is {state}, but the index does not tell where to look for it")
    for ticket, n in connection.execute(
        "SELECT ticket, count(*) FROM images WHERE state IN ('submitting', 'unclear', 'submitted') "
        "GROUP BY ticket HAVING count(*) > 1"
    ):
        yield Problem("shared_ticket", ticket, f"{n} images are at a back end under one ticket")


_CHECKS: tuple[Check, ...] = (_states, _numbers, _names, _moments, _tallies, _jobs, _submissions)
