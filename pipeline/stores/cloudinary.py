"""Cloudinary behind the Store port, through its own SDK with the account handed in at every call.

What the SDK does not do is done here: every call has a timeout, answers are checked field by field whatever their HTTP
status was (a 503 whose body is `{}` comes back as success), and no connector sleeps through a `Retry-After` in a thread.
Facts: `docs/cloudinary.md`.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from hashlib import md5
from typing import Any

import structlog
import trio

from pipeline.errors import StoreConflict, StoreError, StoreRefused, StoreUnavailable
from pipeline.model import Asset, Item, Stored
from pipeline.stores.cloudinary_delivery import CloudinaryDelivery
from pipeline.stores.cloudinary_words import Envelope, Reason, reason_of, translated
from pipeline.stores.context import first_stored, moment, read_asset, text_of, written_context
from pipeline.stores.sdk import cloudinary, execute_request, uploader, utils
from pipeline.tools.clock import Clock

log = structlog.get_logger(__name__)

TYPES = ("upload", "private", "authenticated")
_TIMES = 10  # the timeout is the SDK's, for each wait on the socket; a whole call may take so many times as long
PAGE = 500  # assets in one answer of the Admin API, its maximum
_LARGEST = 2**63 - 1  # an integer of the index

# What the answer to the call under way said beside its body.
_heard: ContextVar[list[Envelope]] = ContextVar("heard")

logging.getLogger("Cloudinary").handlers.clear()  # the SDK prints to stderr beside our own log
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it warns of every connection over its pool's size


@dataclass(frozen=True, slots=True)
class Account:
    """Which cloud, as whom, over which host; key and secret stay out of every repr."""

    cloud_name: str
    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)
    upload_prefix: str = "https://api.cloudinary.com"

    def options(self) -> dict[str, str]:
        """Return what every SDK call is given, so that the process-wide configuration is never asked."""
        return {
            "cloud_name": self.cloud_name,
            "api_key": self.api_key,
            "api_secret": self.api_secret,
            "upload_prefix": self.upload_prefix,
        }


class _Connector:
    """The SDK's pool of connections, one for each call that may be under way where its own connector keeps a single one."""

    def __init__(self, calls: int) -> None:
        options = {**cloudinary.CERT_KWARGS, "maxsize": max(calls, 1), "retries": False}
        self._pool = utils.get_http_connector(cloudinary.config(), options)

    def request(self, **words: Any) -> Any:  # noqa: ANN401  # urllib3's, as the SDK calls it
        """Ask, and note what the SDK does not hand on where `_in_thread` finds it."""
        answer = self._pool.request(**words)
        _heard.get().append(Envelope(answer.status, answer.headers.get("Retry-After", "")))
        return answer


class CloudinaryStore:
    """Uploads under our public ids, never replacing another image; lists and removes by the same account.

    `uploads` bounds the parallel calls, `timeout` (seconds) each wait for their answers; a call that is cancelled may still arrive
    there, which the next `put` of the same bytes finds and adopts.
    """

    def __init__(
        self, account: Account, *, delivery_type: str, clock: Clock, uploads: int = 8, timeout: float = 60
    ) -> None:
        self._account = account
        self._delivery = CloudinaryDelivery(account.cloud_name, account.api_secret)
        self._type = delivery_type
        self._clock = clock
        self._timeout = timeout
        self._threads = trio.CapacityLimiter(uploads)
        self._admin = _Connector(1)
        uploader._http = _Connector(uploads)  # noqa: SLF001  # the SDK offers no other way to size its pool

    async def put(self, item: Item, *, replace: Stored | None = None) -> Stored:
        """Upload; an identical image already there is adopted, a different one is a StoreConflict."""
        try:
            answer = await self._upload(item, overwrite=False)
            if replace is not None and answer.get("existing") and answer.get("etag") == replace.md5:
                answer = await self._upload(item, overwrite=True)
        except StoreRefused as refusal:
            answer = await self._taken_before(item, refusal)
        stored = self._checked(answer, item)
        if replace is not None and replace.path is None and replace.type != self._type:
            await self._retire(replace)
        return stored

    async def _taken_before(self, item: Item, refusal: StoreRefused) -> Mapping[str, Any]:
        """Find what an earlier upload has left whose answer was lost; where that cannot be told, the refusal stands."""
        try:
            answer = await self._admin_api(["resources", "image", self._type, item.public_id], context="true")
        except StoreError:
            raise refusal from None
        if answer.get("etag") != md5(item.data, usedforsecurity=False).hexdigest():
            raise refusal
        return {**answer, "existing": True}

    async def _retire(self, old: Stored) -> None:
        """Delete a placeholder that was stored under another `access`, while it is still the one that stands there."""
        try:
            records, _ = await self._page(old.public_id, old.type, "")
            standing = {text_of(record.get("public_id")): text_of(record.get("version")) for record in records}
            if standing.get(old.public_id) == old.version:
                await self.remove(old)
        except StoreError as error:  # the picture is stored; what is left over `verify --store` tells
            log.warning("placeholder_left", public_id=old.public_id, type=old.type, reason=str(error))

    async def _upload(self, item: Item, *, overwrite: bool) -> Mapping[str, Any]:
        name = item.public_id.rsplit("/", 1)[-1]
        call = partial(
            uploader.upload,
            (name, item.data),
            public_id=item.public_id,
            type=self._type,
            overwrite=overwrite,
            invalidate=overwrite,
            unique_filename=False,
            use_filename=False,
            tags=_tags(item),
            context=written_context(item),
        )
        return await self._upload_api(call)

    async def remove(self, stored: Stored) -> None:
        """Delete the asset and its cached copies."""
        if stored.path is not None:
            raise _elsewhere(f"at {stored.path}")
        answer = await self._upload_api(partial(uploader.destroy, stored.public_id, type=stored.type, invalidate=True))
        if answer.get("result") not in ("ok", "not found"):  # what is compared may not be hashable
            raise StoreUnavailable(f"Cloudinary did not say that {stored.public_id} is deleted", code="bad_answer")
        if answer.get("result") == "not found" and not self._delivery.has_minted(stored.url):
            raise _elsewhere("in another cloud")

    async def listing(self, owner_slug: str) -> AsyncIterator[Asset]:
        """Go through the owner's folder in all three delivery types, 500 assets a call."""
        async for resource in self.under(f"{owner_slug}/characters/"):
            if (asset := read_asset(resource, owner_slug, self._stored(resource))) is not None:
                yield asset

    async def elsewhere(self, prefix: str) -> AsyncIterator[Stored]:
        """Go through everything under a prefix, whatever its names mean."""
        async for resource in self.under(prefix):
            yield self._stored(resource)

    async def everything(self, after: str | None = None) -> AsyncGenerator[tuple[Sequence[Asset], str], None]:
        """Go through the whole account, a call for each 500 assets; the bookmark is a type and Cloudinary's cursor."""
        first, _, cursor = (after or TYPES[0]).partition(" ")
        for delivery_type in TYPES[TYPES.index(first) :]:
            while True:
                records, cursor = await self._page("", delivery_type, cursor)
                assets = [self._asset(record) for record in records]
                yield [asset for asset in assets if asset is not None], f"{delivery_type} {cursor}".rstrip()
                if not cursor:
                    break

    def _asset(self, record: Mapping[str, Any]) -> Asset | None:
        stored = self._stored(record)
        return read_asset(record, stored.public_id.partition("/")[0], stored)

    async def under(self, prefix: str) -> AsyncIterator[Mapping[str, Any]]:
        """Go through the raw records of all assets whose public id begins with `prefix`."""
        for delivery_type in TYPES:
            cursor = ""
            while True:
                records, cursor = await self._page(prefix, delivery_type, cursor)
                for record in records:
                    yield record
                if not cursor:
                    break

    async def _page(self, prefix: str, delivery_type: str, cursor: str) -> tuple[list[Mapping[str, Any]], str]:
        page = await self._admin_api(
            ["resources", "image", delivery_type],
            prefix=prefix or None, max_results=PAGE, context="true", tags="true", next_cursor=cursor or None,
        )  # fmt: skip
        resources, following = page.get("resources"), text_of(page.get("next_cursor"))
        if not isinstance(resources, list) or not all(isinstance(record, dict) for record in resources):
            raise StoreUnavailable("Cloudinary answered a listing without `resources`", code="bad_answer")
        if following and following == cursor:
            raise StoreUnavailable(
                "Cloudinary's listing makes no progress: it names the same page again", code="bad_answer"
            )
        return resources, following

    async def probe(self) -> None:
        """Ask the Admin API for one asset's record: the account and the clock are good if it answers.

        It has an hourly quota of its own, which whoever else uses the account may have used up: uploads go on all the same.
        """
        try:
            await self._admin_api(["resources", "image", self._type], max_results=1)
        except StoreUnavailable as error:
            if error.code != "rate_limited":
                raise

    async def _upload_api(self, call: Callable[..., Any]) -> Mapping[str, Any]:
        return await self._in_thread(partial(call, **self._account.options(), timeout=self._timeout, return_error=True))

    async def _admin_api(self, path: list[str], **params: Any) -> Mapping[str, Any]:  # noqa: ANN401  # query values
        account = self._account
        url = utils.base_api_url(path, cloud_name=account.cloud_name, upload_prefix=account.upload_prefix)
        auth = {"key": account.api_key, "secret": account.api_secret}
        query = {name: value for name, value in params.items() if value is not None}
        return await self._in_thread(
            partial(execute_request, self._admin, "GET", query, {}, auth, url, timeout=self._timeout)
        )

    async def _in_thread(self, call: Callable[[], Any]) -> Mapping[str, Any]:
        heard: list[Envelope] = []
        _heard.set(heard)
        whole = _TIMES * self._timeout
        try:
            with trio.fail_after(whole):
                answer = await trio.to_thread.run_sync(call, limiter=self._threads, abandon_on_cancel=True)
        except trio.TooSlowError:
            raise StoreUnavailable(
                f"Cloudinary is not to be had: no whole answer within {whole:g} s", code="store_down"
            ) from None
        except Exception as error:  # noqa: BLE001  # the SDK raises Error, bare Exception and ValueError alike
            raise self._translated(reason_of(error, self._timeout), heard) from None
        if not isinstance(answer, dict):
            raise StoreUnavailable("Cloudinary answered something that is no JSON object", code="bad_answer")
        if isinstance(said := answer.get("error"), dict):
            raise self._translated(Reason(str(said.get("message", ""))), heard)
        if heard and not 200 <= heard[-1].status < 300:  # the SDK takes it for an answer where it has no `error`
            raise self._translated(Reason("it gives no reason", own=False), heard)
        return answer

    def _translated(self, about: Reason, heard: Sequence[Envelope]) -> StoreError:
        account = self._account
        return translated(
            about,
            heard[-1] if heard else None,
            cloud_name=account.cloud_name,
            secrets=(account.api_key, account.api_secret),
            now=self._clock(),
        )

    def _checked(self, answer: Mapping[str, Any], item: Item) -> Stored:
        if answer.get("public_id") != item.public_id or not answer.get("asset_id") or not answer.get("version"):
            raise StoreUnavailable(f"Cloudinary's answer does not confirm {item.public_id}", code="bad_answer")
        stored = self._stored(answer)
        if stored.bytes <= 0 or stored.width <= 0 or stored.height <= 0:
            raise StoreUnavailable(f"Cloudinary's answer names no size for {item.public_id}", code="bad_answer")
        if answer.get("existing") and stored.md5 != md5(item.data, usedforsecurity=False).hexdigest():
            raise StoreConflict(f"a different image stands at {item.public_id} in this account", code="conflict")
        if not answer.get("existing"):  # the moment as our context tells it, also where the answer leaves that out
            return stored._replace(created_at=item.created_at)
        return stored

    def _stored(self, answer: Mapping[str, Any]) -> Stored:
        """Read an upload's answer or a listing's record; what is missing there is 0 or empty here.

        The address is minted here: the answer's own is unsigned for some delivery types.
        """
        stored = Stored(
            public_id=text_of(answer.get("public_id")),
            url="",
            version=text_of(answer.get("version")) or None,
            md5=text_of(answer.get("etag")),
            bytes=_whole(answer.get("bytes")),
            width=_whole(answer.get("width")),
            height=_whole(answer.get("height")),
            format=text_of(answer.get("format")) or "png",
            created_at=first_stored(answer) or moment(answer.get("created_at")),
            type=text_of(answer.get("type")) or "upload",
        )
        return stored._replace(url=self._delivery.url(stored))


def _tags(item: Item) -> list[str]:
    tags = ["pipeline", item.character_id, item.job_id, *item.labels]
    if item.status == "placeholder":
        tags.append("placeholder")
    return [tag.replace(",", " ") for tag in tags if tag]  # a comma would split a tag in two


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int) and 0 <= value <= _LARGEST else 0


def _elsewhere(place: str) -> StoreRefused:
    return StoreRefused(
        f"it stands {place}, and the store is another one now; configure that one while you remove it", code="elsewhere"
    )
