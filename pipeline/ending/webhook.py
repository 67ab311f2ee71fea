"""One message to one receiver, signed as Standard Webhooks 1.0 says (https://www.standardwebhooks.com).

The address may hold a key in its path or query, so it stands in no message: only its host does. No redirect is
followed: a signed message goes where it was told to go, or nowhere.
"""

import base64
import hashlib
import hmac
from collections.abc import Collection

import httpcore
import httpx
import trio

from pipeline.backends.answers import Answer
from pipeline.backends.connecting import quieten, tls
from pipeline.errors import PipelineError
from pipeline.tools.clock import Clock, now
from pipeline.tools.guard import FAILURES, Guard, PrivateAddress, Resolve, resolve

TIMEOUT = 20.0  # seconds for one message, connecting included


class NotDelivered(PipelineError):
    """A receiver did not take a message; `for_good` is true where it wants none ever again."""

    def __init__(self, message: str, *, retry_after: float | None = None, for_good: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds the receiver asked us to wait
        self.for_good = for_good


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Sign a message, as the header `webhook-signature` says it."""
    signed = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


class Poster:
    """Posts messages, signed where there is a key; private addresses are for `allow_hosts` alone."""

    def __init__(
        self,
        key: bytes | None = None,
        allow_hosts: Collection[str] = (),
        *,
        resolve: Resolve = resolve,
        clock: Clock = now,
        timeout: float = TIMEOUT,
    ) -> None:
        quieten()
        self._key = key
        self._guard = Guard(allow_hosts, resolve=resolve)
        self._clock = clock
        self._timeout = timeout

    async def post(self, url: str, message_id: str, body: bytes) -> None:
        """Post a JSON body; return once the receiver has taken it.

        Raises:
            NotDelivered: it has not, as far as we know.
        """
        try:
            to = httpx.URL(url)
        except httpx.InvalidURL:
            raise NotDelivered("the job's `notify` is no web address", for_good=True) from None
        try:
            with trio.fail_after(self._timeout):
                answer = await self._send(to, message_id, body)
        except trio.TooSlowError:
            raise NotDelivered(f"{to.host} did not answer in {self._timeout:g} s") from None
        except PrivateAddress:
            raise NotDelivered(
                f"{to.host} is a private address: list it in `notify.allow_hosts` if it may be told"
            ) from None
        except FAILURES:
            # Not chained: the cause may quote the address.
            raise NotDelivered(f"{to.host} broke off or could not be reached") from None
        if 300 <= answer.status < 400:
            raise NotDelivered(f"{to.host} redirects ({answer.status}), which is not followed: name the final address")
        if not 200 <= answer.status < 300:
            raise NotDelivered(
                f"{to.host} answered {answer.status}",
                retry_after=answer.pause(self._clock()),
                for_good=answer.status == 410,
            )

    async def _send(self, to: httpx.URL, message_id: str, body: bytes) -> Answer:
        timestamp = self._clock() // 1000
        headers = {
            b"Host": to.netloc,
            b"User-Agent": b"pipeline",
            b"Content-Type": b"application/json",
            b"Content-Length": str(len(body)).encode(),
            b"webhook-id": message_id.encode(),
            b"webhook-timestamp": str(timestamp).encode(),
        }
        if self._key is not None:
            headers[b"webhook-signature"] = signature(self._key, message_id, timestamp, body).encode()
        target = httpcore.URL(scheme=to.raw_scheme, host=to.raw_host, port=to.port, target=to.raw_path)
        async with (
            httpcore.AsyncConnectionPool(ssl_context=tls(), network_backend=self._guard) as pool,
            pool.stream("POST", target, headers=list(headers.items()), content=body) as response,
        ):
            # What it says beyond the status is of no use, and may be without end.
            told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            return Answer(response.status, b"", told)
