"""How files stand in the local store's folder, and what they say when they are read back."""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pipeline import picture
from pipeline.errors import AttemptFailed
from pipeline.model import Asset, Status, Stored
from pipeline.stores import label
from pipeline.stores.delivery import plain_url
from pipeline.tools import pngtext

FORMAT_OF: Final = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}  # by extension
_WORTH: Final = (Status.REMOVED, Status.PLACEHOLDER, Status.DONE)  # of what stands under one name, the last is told
BESIDE: Final = ".pipeline"  # no owner's slug begins with a dot


def thumbnail_file(root: Path, public_id: str) -> Path:
    """Name the small version of an image; an adopted file has none, then the image itself serves."""
    return root / BESIDE / "thumbnails" / f"{public_id}.webp"


def thumbnail_beside(place: Path, public_id: str) -> Path:
    """Name the small version of the image that stands at `place`, whichever folder the store has now."""
    return thumbnail_file(place.parents[public_id.count("/")], public_id)


def label_file(root: Path, public_id: str) -> Path:
    """Name the label of an image whose bytes must not be touched."""
    return root / BESIDE / "labels" / f"{public_id}.json"


def earlier_root(stored: Stored) -> Path | None:
    """Return the folder that held an image when the store had another one; None where its very file is not there."""
    if stored.path is None or not stored.path.endswith(f"/{stored.public_id}.{stored.path.rpartition('.')[2]}"):
        return None
    data = content(Path(stored.path))
    if data is None or hashlib.md5(data, usedforsecurity=False).hexdigest() != stored.md5:
        return None
    return Path(stored.path).parents[stored.public_id.count("/")]


def content(file: Path) -> bytes | None:
    """Return the bytes of a regular file; links, folders and what is not there have none."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # what a link answers to O_NOFOLLOW
            return None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return None
    with os.fdopen(handle, "rb") as opened:
        return opened.read()


def said_of(root: Path, public_id: str, data: bytes) -> dict[str, Any]:
    """Return an image's label, from its bytes or from beside them; empty where it has none."""
    if label.takes_label(data):
        return label.parsed(pngtext.read_text(data).get(label.KEY))
    beside = content(label_file(root, public_id))
    return label.parsed(None if beside is None else beside.decode("utf-8", "replace"))


def stored_at(
    path: Path, data: bytes, *, public_id: str, public_url: str, size: tuple[int, int], created_at: int
) -> Stored:
    """Describe a file of the store."""
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    kind = FORMAT_OF[path.suffix[1:]]
    return Stored(
        public_id=public_id,
        url=plain_url(public_url, public_id, kind),
        version=md5[:12],
        md5=md5,
        bytes=len(data),
        width=size[0],
        height=size[1],
        format=kind,
        path=str(path),
        created_at=created_at,
    )


def character_folders(root: Path, owner_slug: str) -> list[Path]:
    """Return the folders of an owner's characters, without going through a link."""
    characters = root / owner_slug / "characters"
    if characters.resolve() != root.resolve() / owner_slug / "characters":
        return []
    try:
        with os.scandir(characters) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def all_character_folders(root: Path) -> list[Path]:
    """Return the folders of all owners' characters in the order of their paths."""
    try:
        with os.scandir(root) as entries:
            owners = [e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
    except FileNotFoundError:
        return []
    return sorted(folder for owner in owners for folder in character_folders(root, owner))


def assets(root: Path, folder: Path, public_url: str) -> list[Asset]:
    """Return a character's images in number order; of two files under one public id the image, not the placeholder.

    What stands under such a name and is no picture is told as `removed`: nothing else may have its number.
    """
    found: dict[int, Asset] = {}
    for path, number in _images(folder):
        asset = _asset(root, path, folder.name, number, public_url)
        if number not in found or _WORTH.index(asset.status) > _WORTH.index(found[number].status):
            found[number] = asset
    return [found[number] for number in sorted(found)]


def _images(folder: Path) -> Iterator[tuple[Path, int]]:
    images = folder / "images"
    if images.is_symlink() or not images.is_dir():
        return
    pattern = re.compile(rf"{re.escape(folder.name)}_image_([1-9][0-9]{{0,8}})\.({'|'.join(FORMAT_OF)})")
    with os.scandir(images) as entries:
        for entry in entries:
            named = pattern.fullmatch(entry.name)
            if named is not None:
                yield Path(entry.path), int(named[1])


def _asset(root: Path, path: Path, slug: str, number: int, public_url: str) -> Asset:
    data = content(path) or b""
    try:
        size = picture.size_of(data)
    except AttemptFailed:
        size = None
    public_id = path.relative_to(root).with_suffix("").as_posix()
    said = said_of(root, public_id, data)
    made = label.created_at(said)
    return Asset(
        stored=stored_at(
            path,
            data,
            public_id=public_id,
            public_url=public_url,
            size=size or (0, 0),
            created_at=path.lstat().st_mtime_ns // 1_000_000 if made is None else made,
        ),
        slug=slug,
        number=number,
        owner=label.text_of(said, "owner"),
        character_id=label.text_of(said, "character"),
        character_name=label.text_of(said, "name"),
        status=label.status_of(said) if size is not None else Status.REMOVED,
        job_id=label.text_of(said, "job"),
        seed=label.number_of(said, "seed"),
        prompt=label.text_of(said, "prompt"),
        color=label.text_of(said, "color"),
    )
