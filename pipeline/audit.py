"""What `pipeline verify` looks for beyond the index: files that are missing, changed or nobody's. Nothing is repaired."""

import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

from pipeline.catalogue import Catalogue, GalleryRow, Problem
from pipeline.model import Asset
from pipeline.ports import Store
from pipeline.stores.layout import BESIDE, FORMAT_OF, content, said_of


def audit_files(catalogue: Catalogue, *, images: Path | None, spool: Path, kept: Path, idle: bool) -> Iterator[Problem]:
    """Compare the index with the files beside it.

    Args:
        catalogue: the index.
        images: the local store's folder; None where images are kept elsewhere.
        spool: bytes on their way to the store.
        kept: where paid bytes lie that no store would take.
        idle: no daemon is at work, so nothing in the spool is on its way.
    """
    ours = set()
    for row in catalogue.stored_images():
        place = catalogue.place(row.stored) if row.stored is not None else None
        if place is not None:
            ours.add(os.fspath(place))
            yield from _file_problems(row, place, images)
    if images is not None:
        yield from _strangers(catalogue, images, ours)
    if idle:
        yield from _spool_problems(catalogue, spool)
    for file in _files(kept):
        yield Problem(
            "kept", file.name, f"{file}: paid bytes that no store took; `pipeline retry` uploads them without buying"
        )


def _file_problems(row: GalleryRow, path: Path, images: Path | None) -> Iterator[Problem]:
    assert row.stored is not None
    try:
        data = content(path)
    except OSError as error:
        yield Problem("unreadable", row.public_id, f"{path}: cannot be read ({error.strerror})")
        return
    if data is None:
        again = f"`pipeline gallery {row.character_id} {row.number} --as-job`"
        remedy = f"bring it back from a backup, or make it anew under another number ({again})"
        yield Problem("missing", row.public_id, f"{path}: the file is gone; {remedy}")
        return
    said = said_of(images, row.public_id, data) if images is not None else {}
    same = hashlib.md5(data, usedforsecurity=False).hexdigest() == row.stored.md5
    if same or _is_replacement(row, said.get("job")):
        yield from _contradictions(row, said, str(path))
    else:
        yield Problem("changed", row.public_id, f"{path}: its bytes are not those that were stored")


def _is_replacement(row: GalleryRow, job_id: object) -> bool:
    """Whether another picture than the recorded one may be what its own job has made of it since."""
    return row.retrying and job_id == row.job_id


def _contradictions(row: GalleryRow, said: Mapping[str, object], place: str) -> Iterator[Problem]:
    """An image says of itself how it was made; a row that was edited by hand says otherwise."""
    told: dict[str, object] = {
        "number": row.number,
        "character": row.character_id,
        "job": row.job_id,
        "seed": row.seed,
        "prompt": row.prompt,
        "status": row.status,
    }
    for name, value in told.items():
        own = said.get(name)
        between = name == "status" and row.retrying  # its replacement stands there, and is not recorded yet
        if own is None or value is None or own == value or between:
            continue
        if name == "prompt" and str(value).startswith(str(own)):  # a store cuts it to what fits
            continue
        message = f"{place}: by its own label its {name} is {_short(own)}, the index tells {_short(value)}"
        yield Problem("contradiction", row.public_id, message)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _said(asset: Asset) -> dict[str, object]:
    return {
        "number": asset.number,
        "character": asset.character_id,
        "job": asset.job_id,
        "seed": asset.seed,
        "prompt": asset.prompt,
        "status": asset.status.value if asset.character_id is not None else None,  # else it says nothing of itself
    }


def _strangers(catalogue: Catalogue, images: Path, ours: set[str]) -> Iterator[Problem]:
    for folder, _, names in os.walk(images):
        if BESIDE in Path(folder).relative_to(images).parts:
            continue
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix[1:] not in FORMAT_OF or path.parent.name != "images" or os.fspath(path) in ours:
                continue
            public_id = path.relative_to(images).with_suffix("").as_posix()
            if not _has_come_since(catalogue, public_id, path):
                yield Problem("extra", public_id, f"{path}: an image that the index does not know")


def _has_come_since(catalogue: Catalogue, public_id: str, path: Path | None = None) -> bool:
    """Whether a daemon has stored this image after the index was read, or may be about to record that it has."""
    row = catalogue.named(public_id)
    if row is None or row.stored is None:
        return row is not None and row.status == "running"
    return path is None or catalogue.place(row.stored) == path


def _spool_problems(catalogue: Catalogue, spool: Path) -> Iterator[Problem]:
    needed = catalogue.spool_files()
    there = {file.name: file for file in _files(spool)}
    for name in needed.keys() - there.keys():
        yield Problem(
            "spool_missing", name, f"{spool / name}: bytes that wait for the store are gone; the image is made again"
        )
    for name in sorted(there.keys() - needed.keys()):
        yield Problem("spool_orphan", name, f"{there[name]}: no image needs it; the next start sweeps it away")


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if file.is_file())
    except FileNotFoundError:
        return []


async def audit_store(catalogue: Catalogue, store: Store) -> AsyncIterator[Problem]:
    """Compare the index with what the store lists: missing, extra and changed images.

    Raises:
        StoreUnavailable: the store cannot be listed now.
    """
    known = {row.public_id: row for row in catalogue.stored_images()}
    seen = set()
    folders = tuple(catalogue.folders().values())
    for slug in folders:
        async for asset in store.listing(slug):
            row = known.get(asset.stored.public_id)
            if row is None or row.stored is None:
                if _has_come_since(catalogue, asset.stored.public_id):
                    continue
                yield Problem("extra", asset.stored.public_id, "the store holds it, the index does not know it")
                continue
            if asset.stored.type != row.stored.type:
                what = f"the store holds another one under this name, of the type {asset.stored.type}"
                yield Problem("extra", asset.stored.public_id, what)
                continue
            seen.add(asset.stored.public_id)
            same = (asset.stored.version or "") == (row.stored.version or "")
            if same or _is_replacement(row, asset.job_id):
                for problem in _contradictions(row, _said(asset), "the store"):
                    yield problem
            else:
                yield Problem("changed", row.public_id, "the store holds another version than the index tells")
    ours = tuple(f"{slug}/characters/" for slug in folders)  # what was taken over from elsewhere is in no listing
    for public_id in sorted(name for name in known.keys() - seen if name.startswith(ours)):
        stored = known[public_id].stored
        if stored is not None and catalogue.stands_elsewhere(stored):
            continue
        yield Problem("missing", public_id, "the index tells of it, the store does not list it")
