"""The two Protocols that the world outside is reached through: a Backend makes pictures, a Store keeps them.

Adapters translate what their service says into the exceptions of `errors`, once, at their wall; they keep no
tasks and no state of their own, and never see the index.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.model import Asset, Item, Picture, Recipe, Request, Stored, Submission


@dataclass(frozen=True, slots=True)
class NotThere:
    """The back end was asked and certainly does not have this submission."""


@dataclass(frozen=True, slots=True)
class CannotTell:
    """The back end has no way of saying; making the image again may pay for it twice."""

    reason: str


class Backend(Protocol):
    """A service that turns a request into a picture."""

    async def submit(self, request: Request) -> Submission | Picture:
        """Ask for one image; services that answer at once (A1111, sketch) return the picture itself.

        Raises:
            NotAccepted, Unavailable: nothing was bought.
            AcceptanceUnknown: the request went out and no usable answer came.
            InvalidRequest: the service names a fault in the request.
            AttemptFailed, NotWorthRepeating: services that answer at once, after acceptance.
        """
        ...

    async def find(self, request: Request) -> Submission | NotThere | CannotTell:
        """Look for a submission under `request.ticket` whose acceptance is unknown.

        Raises:
            Unavailable: the service cannot be asked now.
        """
        ...

    async def collect(self, request: Request, submission: Submission) -> Picture:
        """Wait for the result, looking at least once; safe to repeat, also after a restart.

        Raises:
            AttemptFailed: it failed, or the service does not know it any more (code `lost`).
            OutOfTime: it has not ended, and its deadline is over; to cancel it is the caller's.
            NotWorthRepeating, InvalidRequest: as the service's answer shows.
        Passing weather (5xx, resets, 429) is waited out here, within the caller's deadline.
        """
        ...

    async def cancel(self, submission: Submission) -> None:
        """Stop this one submission, by its id alone, as far as the service can; never raises for one already ended."""
        ...

    async def check(self, recipe: Recipe, *, images: int) -> None:
        """Find out before images are queued whether models, samplers, embeddings exist there.

        Raises:
            InvalidRequest: with the missing name and the choices.
            Unavailable: the service cannot be asked now.
        """
        ...

    async def probe(self) -> None:
        """Make one harmless request.

        Raises:
            Unavailable: with the reason in words.
        """
        ...


class Store(Protocol):
    """A place that keeps images under public ids."""

    async def put(self, item: Item, *, replace: Stored | None = None) -> Stored:
        """Keep the bytes under `item.public_id`; the same bytes a second time are no error.

        What is recorded as `replace` (its placeholder) is overwritten where it still stands: the one allowed overwrite.

        Raises:
            StoreUnavailable: wait and try again.
            StoreConflict: a different image stands there.
            StoreRefused: it will never take these bytes.
        """
        ...

    async def remove(self, stored: Stored) -> None:
        """Delete the image; one that is already gone is no error.

        Raises:
            StoreUnavailable: wait and try again.
            StoreRefused: it was put into another store, which was configured before this one.
        """
        ...

    def listing(self, owner_slug: str) -> AsyncIterator[Asset]:
        """Go through all that the store holds under an owner's folder; what only has an image's name is `removed`.

        Raises:
            StoreUnavailable: wait and try again.
        """
        ...

    def everything(self, after: str | None = None) -> AsyncGenerator[tuple[Sequence[Asset], str], None]:
        """Go through all that the store holds likewise, a page at a time, each with a bookmark to go on after it.

        Raises:
            StoreUnavailable: wait, and go on from the last bookmark.
            StoreRefused: it does not know this bookmark any more.
        """
        ...

    async def probe(self) -> None:
        """Make one harmless request.

        Raises:
            StoreUnavailable: with the reason in words.
        """
        ...


@dataclass(frozen=True, slots=True)
class Links:
    """What a gallery shows for a stored image."""

    url: str
    thumbnail_url: str


class Delivery(Protocol):
    """Mints the addresses a gallery answer contains; pure, no network."""

    def links(self, stored: Stored, *, now: int) -> Links:
        """Return addresses that open as they are; equal for 12 h windows of `now` (milliseconds)."""
        ...
