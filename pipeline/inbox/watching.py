"""Ears: the system's file notification, so that a dropped file need not wait for the next scan.

Nothing depends on what is heard here. Events get lost (overflow), never come (network file systems), or cannot be
had (no inotify instances left); the scan finds everything anyway.
"""

import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio
from watchdog.events import FileClosedEvent, FileCreatedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers.api import BaseObserver

from pipeline.inbox.names import is_job_file

_log = structlog.get_logger("pipeline.inbox")

if sys.platform == "linux":
    from watchdog.observers.inotify import InotifyObserver
else:
    from watchdog.observers import Observer

_EVENTS: list[type[FileSystemEvent]] = [FileClosedEvent, FileCreatedEvent, FileMovedEvent]
MOST_HEARD = 32  # names kept; a flood is the scan's business


if sys.platform == "linux":

    def make_observer() -> BaseObserver:
        """Make the system's own observer; full events tell a rename into the folder from a file just begun.

        Raises:
            OSError: no notification to be had, such as when all inotify instances are in use.
        """
        return InotifyObserver(generate_full_events=True)

else:

    def make_observer() -> BaseObserver:
        """Make the system's own observer."""
        return Observer()


@dataclass(slots=True)
class Heard:
    """The names of which something was heard since the last time."""

    names: set[str]
    finished: set[str]  # of these, closed after writing, or renamed into the folder
    flood: bool  # more than can be listed: look at everything


class Ears:
    """Listens to one folder and hands names to a trio task; to be made inside trio."""

    def __init__(self, folder: Path, make: Callable[[], BaseObserver]) -> None:
        self._folder = folder
        self._make = make
        self._observer: BaseObserver | None = None
        self._watched: tuple[int, int] | None = None
        self._heard: deque[tuple[str, bool]] = deque(maxlen=MOST_HEARD)
        self._something = trio.Event()
        self._trio = trio.lowlevel.current_trio_token()
        self.reason: str | None = None  # why nothing can be heard, where it was tried

    @property
    def listening(self) -> bool:
        """Whether dropped files are heard of; the scan finds them in either case."""
        return self._observer is not None

    def open(self) -> None:
        """Begin to listen, or to the folder that stands there now; where that fails, `reason` says why."""
        self.close()
        observer: BaseObserver | None = None
        try:
            status = self._folder.stat()
            observer = self._make()
            # Watched with its subfolders: else a rename out of it is half an event, and delays the next by 0.5 s.
            observer.schedule(_Handler(self), str(self._folder), recursive=True, event_filter=_EVENTS)
            observer.start()
        except OSError as error:
            if observer is not None:
                _stop(observer)
            if isinstance(error, FileNotFoundError):
                return  # the folder has just gone; the next pass makes it anew
            self._tell(f"file notification cannot be had: {error.strerror or error}")
            return
        self._observer = observer
        self._watched = (status.st_dev, status.st_ino)
        self._tell(None)

    def close(self) -> None:
        """Stop listening; takes milliseconds."""
        if self._observer is not None:
            _stop(self._observer)
        self._observer = self._watched = None

    def deaf(self) -> bool:
        """Whether nothing is heard: never opened, the listener died, or another folder stands there now."""
        if self._observer is None:
            return True
        try:
            status = self._folder.stat()
        except OSError:
            return True
        alive = self._observer.is_alive() and all(emitter.is_alive() for emitter in self._observer.emitters)
        return not alive or (status.st_dev, status.st_ino) != self._watched

    async def wait(self) -> None:
        """Return when something was heard."""
        await self._something.wait()

    def take(self) -> Heard:
        """Hand over what was heard, and begin anew."""
        self._something = trio.Event()
        flood = len(self._heard) == MOST_HEARD
        heard = Heard(set(), set(), flood)
        while self._heard:
            name, finished = self._heard.popleft()
            heard.names.add(name)
            if finished:
                heard.finished.add(name)
        return heard

    def hear(self, event: FileSystemEvent) -> None:
        """Note an event; called in the observer's thread."""
        moved = isinstance(event, FileMovedEvent)
        folder, name = os.path.split(os.fsdecode(event.dest_path if moved else event.src_path))
        if folder == str(self._folder) and is_job_file(name):
            self._heard.append((name, moved or isinstance(event, FileClosedEvent)))
            with contextlib.suppress(trio.RunFinishedError):  # after the end there is nobody to wake
                self._trio.run_sync_soon(self._ring, idempotent=True)

    def _ring(self) -> None:
        self._something.set()
        if len(self._heard) == MOST_HEARD:  # to hear of more, and of our own renames, costs as much as taking files
            self.close()

    def _tell(self, reason: str | None) -> None:
        if reason is not None and reason != self.reason:
            _log.warning("new files are found by scanning alone", folder=str(self._folder), reason=reason)
        elif reason is None and self.reason is not None:
            _log.info("file notification works again", folder=str(self._folder))
        self.reason = reason


class _Handler(FileSystemEventHandler):
    def __init__(self, ears: Ears) -> None:
        self._ears = ears

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._ears.hear(event)


def _stop(observer: BaseObserver) -> None:
    observer.stop()
    if observer.is_alive():
        observer.join()
