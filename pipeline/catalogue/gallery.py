"""Pages of a character's images: the same cost for the first and the last, however many there are."""

import re
import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from pipeline.catalogue import cursor
from pipeline.catalogue.images import COLUMNS, JOINED, GalleryRow
from pipeline.catalogue.values import Page
from pipeline.tools.clock import NOT_YET

SHOWN = ("done", "placeholder")
_WORD = re.compile(r"\w+")
# Thai, Lao, Burmese, Khmer, Chinese and Japanese put no spaces between words, by which FTS5 would know them
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


class Filter(NamedTuple):
    """Which of a character's images are asked for; None and empty: no condition."""

    statuses: tuple[str, ...] = SHOWN
    job: str | None = None
    label: str | None = None
    since: int | None = None  # first stored at or after this moment
    until: int | None = None  # … and before this one
    seed: int | None = None
    favorite: bool | None = None
    q: str | None = None  # words of the prompt, the last one may be unfinished


def page(
    connection: sqlite3.Connection, character: int, wanted: Filter, limit: int, after: str | None
) -> Page[GalleryRow]:
    """Return images newest first: what is not stored yet by number, then by date and number."""
    among, conditions, values = _conditions(character, wanted)
    total = _total(connection, among, conditions, values)
    if after is not None:
        conditions.append("(images.shown_at, images.number) < (:shown_at, :last)")
        values["shown_at"], values["last"] = cursor.decode(after, 2)
    index = "images_favorite" if wanted.favorite else "images_page"
    (text,) = connection.execute(_newest(among, index, conditions), {**values, "limit": limit + 1}).fetchone()
    found = orjson.loads(text)
    rows = [GalleryRow._make(row) for row in found[:limit]]
    rows.sort(key=_place, reverse=True)  # they come so; but SQL promises it for the inner query alone
    return Page(tuple(rows), total, cursor.encode(*_place(rows[-1])) if len(found) > limit else None)


def _newest(among: list[str], index: str, conditions: list[str]) -> str:
    """Each status has its own stretch of the index, already in order; they are merged, and only what is shown is read.

    All rows come in one, as JSON: beside a daemon, every further one would be a moment at which its threads take over.
    """
    further = "".join(f" AND {condition}" for condition in conditions)
    stretches = " UNION ALL ".join(
        f"SELECT id, shown_at, number FROM images INDEXED BY {index} "
        f"WHERE character = :character AND status = {status}{further}"
        for status in among
    )
    return (
        f"SELECT json_group_array(json_array({COLUMNS})) FROM ({stretches} ORDER BY shown_at DESC, number DESC LIMIT :limit) AS shown "
        f"CROSS JOIN images ON images.id = shown.id {JOINED}"
    )


def _place(row: GalleryRow) -> tuple[int, int]:
    return (NOT_YET if row.created_at is None else row.created_at, row.number)


def _total(connection: sqlite3.Connection, among: list[str], conditions: list[str], values: Mapping[str, Any]) -> int:
    shown = f"character = :character AND status IN ({', '.join(among)})"
    if not conditions:
        sql = f"SELECT coalesce(sum(n), 0) FROM tallies WHERE {shown}"
    else:
        sql = f"SELECT count(*) FROM images WHERE {shown} AND {' AND '.join(conditions)}"
    return int(connection.execute(sql, values).fetchone()[0])


def _conditions(character: int, wanted: Filter) -> tuple[list[str], list[str], dict[str, Any]]:
    """Return the statuses' parameters, what else must hold, and the values of all parameters."""
    values: dict[str, Any] = {f"status{n}": status for n, status in enumerate(dict.fromkeys(wanted.statuses))}
    among = [f":{name}" for name in values]
    conditions: list[str] = []
    values["character"] = character
    if wanted.job is not None:
        conditions.append("images.job = (SELECT seq FROM jobs WHERE id = :job)")
        values["job"] = wanted.job
    if wanted.label is not None:
        conditions.append("images.job IN (SELECT job FROM labels WHERE character = :character AND label = :label)")
        values["label"] = wanted.label
    if wanted.since is not None:
        conditions.append(f"images.shown_at >= :since AND images.shown_at < {NOT_YET}")
        values["since"] = wanted.since
    if wanted.until is not None:
        conditions.append("images.shown_at < :until")
        values["until"] = wanted.until
    if wanted.seed is not None:
        conditions.append("images.seed = :seed")
        values["seed"] = wanted.seed
    if wanted.favorite is not None:
        conditions.append("images.favorite = 1" if wanted.favorite else "images.favorite = 0")
    words = _WORD.findall(wanted.q or "")
    within = {f"within{n}": word for n, word in enumerate(filter(_UNSPACED.search, words))}
    for name in within:
        holds = f"instr(lower(text), lower(:{name}))"
        conditions.append(f"EXISTS (SELECT 1 FROM prompts WHERE prompts.id = images.prompt AND {holds})")
    values |= within
    if spaced := [word for word in words if not _UNSPACED.search(word)]:
        conditions.append("images.prompt IN (SELECT rowid FROM prompts_fts WHERE prompts_fts MATCH :query)")
        values["query"] = _match(character, spaced)
    return among, conditions, values


def _match(character: int, words: list[str]) -> str:
    """Words as FTS5 takes them, each quoted so that none is an operator."""
    quoted = " ".join(f'"{word}"' for word in words)
    return f'character : "{character}" AND text : ({quoted}*)'
