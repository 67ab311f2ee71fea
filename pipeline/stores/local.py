"""The store on this machine's disk: one visible file an image, beside small versions that it makes itself.

    images/alice/characters/mary/images/mary_image_5.png                 the image, its label inside
    images/.pipeline/thumbnails/alice/characters/…/mary_image_5.webp     a small version
    images/.pipeline/labels/alice/characters/…/mary_image_5.json         the label of what must not be rewritten

A file is taken for ours by its label, never by its name. Two files are one image when they are equal apart from
their labels, so a repeat after a crash finds its own work although it was made at another moment.
"""

import contextlib
import errno
import os
import re
import tempfile
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Final

import trio

from pipeline import picture
from pipeline.errors import AttemptFailed, StoreConflict, StoreRefused, StoreUnavailable
from pipeline.model import Asset, Item, Stored
from pipeline.naming import extension
from pipeline.stores import label, layout
from pipeline.tools.files import fsync_folder, make_folder, sweep_drafts, write_durably
from pipeline.tools.threads import RunSync

_PUBLIC_ID: Final = re.compile(r"[a-z0-9-]+/characters/[a-z0-9-]+/images/[a-z0-9_-]+")
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN: Final = {errno.EROFS, errno.EACCES, errno.EPERM}


class LocalStore:
    """A Store in a folder.

    Args:
        folder: made where it is missing, also later.
        public_url: where the gallery serves it from, for the plain addresses in results.
        run_sync: runs the blocking work; tests under a virtual clock pass an inline one.
    """

    def __init__(self, folder: Path, *, public_url: str = "", run_sync: RunSync = trio.to_thread.run_sync) -> None:
        self.folder = folder.absolute()
        self._public_url = public_url
        self._run_sync = run_sync
        self._swept: set[Path] = set()
        self._sweeping = threading.Lock()

    async def put(self, item: Item, *, replace: Stored | None = None) -> Stored:
        with self._telling():
            stored: Stored = await self._run_sync(self._put, item, replace is not None)
        return stored

    async def remove(self, stored: Stored) -> None:
        if stored.path is None:
            raise StoreRefused(
                "it stands at Cloudinary, and the store is another one now; configure that one while you remove it",
                code="elsewhere",
            )
        with self._telling():
            await self._run_sync(self._remove, stored)

    async def listing(self, owner_slug: str) -> AsyncIterator[Asset]:
        with self._telling():
            folders: list[Path] = await self._run_sync(layout.character_folders, self.folder, owner_slug)
        for folder in folders:
            with self._telling():
                assets: list[Asset] = await self._run_sync(layout.assets, self.folder, folder, self._public_url)
            for asset in assets:
                yield asset

    async def everything(self, after: str | None = None) -> AsyncGenerator[tuple[Sequence[Asset], str], None]:
        """Go through the whole folder, a character at a time; the bookmark is the character's folder."""
        with self._telling():
            folders: list[Path] = await self._run_sync(layout.all_character_folders, self.folder)
        for folder in folders:
            if after is None or folder > self.folder / after:
                with self._telling():
                    assets: list[Asset] = await self._run_sync(layout.assets, self.folder, folder, self._public_url)
                yield assets, folder.relative_to(self.folder).as_posix()

    async def probe(self) -> None:
        with self._telling():
            await self._run_sync(self._probe)

    def _probe(self) -> None:
        make_folder(self.folder)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            file.write(b"room for an image?")

    def _put(self, item: Item, replace: bool) -> Stored:
        path = self._path(item)
        said = label.written(item)
        standing = self._standing(item.public_id)
        same = next((file for file in standing if self._is_same(file, item)), None)
        if same is not None:
            path, data = same, layout.content(same) or b""
        else:
            data = label.labelled(item.data, said)
            if standing and not (replace and all(self._is_ours(file, item.public_id) for file in standing)):
                raise _conflict(standing[0])
            make_folder(path.parent)
            self._keep_inside(path.parent)
            try:
                self._write(path, data, replace=path in standing)
            except FileExistsError:  # somebody was quicker: perhaps with the same image
                return self._put(item, replace)
        self._accompany(path, item, said)
        for outdated in standing if replace else ():  # a placeholder of another format
            if outdated != path:
                outdated.unlink(missing_ok=True)
        return self._stored(item, path, data)

    def _path(self, item: Item) -> Path:
        if not _PUBLIC_ID.fullmatch(item.public_id):
            raise StoreRefused(f"{item.public_id!r} is no name that the local store gives", code="bad_name")
        return self.folder / f"{item.public_id}.{extension(item.artifact.format)}"

    def _keep_inside(self, folder: Path) -> None:
        if folder.resolve() != self.folder.resolve() / folder.relative_to(self.folder):
            raise StoreRefused(f"{folder} is reached through a link; the store follows none, remove it", code="link")

    def _standing(self, public_id: str) -> list[Path]:
        """Return all that has this name under any extension, dangling links included."""
        files = [self.folder / f"{public_id}.{ending}" for ending in layout.FORMAT_OF]
        return [file for file in files if os.path.lexists(file)]

    def _is_same(self, file: Path, item: Item) -> bool:
        """Compare apart from the labels."""
        data = layout.content(file)
        return data is not None and label.bare(data) == label.bare(item.data)

    def _is_ours(self, file: Path, public_id: str) -> bool:
        data = layout.content(file)
        return data is not None and layout.said_of(self.folder, public_id, data).get("publicId") == public_id

    def _accompany(self, path: Path, item: Item, said: str) -> None:
        """Write what stands beside the image; a repeat mends what a crash left out."""
        beside, small = (
            layout.label_file(self.folder, item.public_id),
            layout.thumbnail_file(self.folder, item.public_id),
        )
        if label.takes_label(item.data):
            beside.unlink(missing_ok=True)
        elif label.parsed(_text(beside)).get("pixels") != item.artifact.pixels:
            self._write(beside, said.encode(), replace=True)
        with contextlib.suppress(AttemptFailed):  # what cannot be shrunk is shown as it is
            self._write(small, picture.thumbnail(item.data), replace=True)

    def _write(self, path: Path, data: bytes, *, replace: bool) -> None:
        """Write durably; at the first time in a folder, what a crash left half-written there is removed."""
        make_folder(path.parent)
        with self._sweeping:
            if path.parent not in self._swept:
                sweep_drafts(path.parent)
                self._swept.add(path.parent)
        write_durably(path, data, replace=replace)

    def _stored(self, item: Item, path: Path, data: bytes) -> Stored:
        made = label.created_at(layout.said_of(self.folder, item.public_id, data))
        return layout.stored_at(
            path,
            data,
            public_id=item.public_id,
            public_url=self._public_url,
            size=(item.artifact.width, item.artifact.height),
            created_at=item.created_at if made is None else made,
        )

    def _remove(self, stored: Stored) -> None:
        public_id = stored.public_id
        if not _PUBLIC_ID.fullmatch(public_id):
            return
        standing = self._standing(public_id)
        root = self.folder
        if not standing and (earlier := layout.earlier_root(stored)) is not None:
            standing, root = [Path(stored.path or "")], earlier
        for file in standing:
            file.unlink(missing_ok=True)
            fsync_folder(file.parent)
        for beside in (layout.thumbnail_file(root, public_id), layout.label_file(root, public_id)):
            beside.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Translate what the file system says."""
        try:
            yield
        except OSError as error:
            place = f"{error.filename2 or error.filename or self.folder}: {error.strerror}"
            if error.errno in _FULL:
                message, code = f"{place}; free some space, storing goes on by itself", "disk_full"
            elif error.errno in _FORBIDDEN:
                message, code = f"{place}; make {self.folder} writable, storing goes on by itself", "read_only"
            else:
                message, code = f"{place}; see that {self.folder} is a folder on a working disk", "store_error"
            raise StoreUnavailable(message, code=code) from error


def _conflict(file: Path) -> StoreConflict:
    return StoreConflict(
        f"{file} is a different image and is never overwritten; move it away, then retry", code="conflict"
    )


def _text(file: Path) -> str | None:
    data = layout.content(file)
    return None if data is None else data.decode("utf-8", "replace")
