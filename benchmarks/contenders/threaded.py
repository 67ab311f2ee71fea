"""One image from order to record in a thread of its own: requests, and the Cloudinary SDK. The task of all three queues."""

import threading
import time

import cloudinary
import requests
from cloudinary import uploader, utils

from benchmarks.contenders import orders

_mine = threading.local()
cloudinary.config(
    cloud_name=orders.CLOUD,
    api_key=orders.CLOUD_KEY,
    api_secret=orders.CLOUD_SECRET,
    upload_prefix=orders.CLOUD_URL,
)
# As the SDK comes it keeps one connection; with a connection for each thread it costs less.
uploader._http = utils.get_http_connector(  # noqa: SLF001  # the SDK offers no other way
    cloudinary.config(), {**cloudinary.CERT_KWARGS, "maxsize": orders.IN_FLIGHT}
)


def make(number: int) -> None:
    session = _session()
    job = session.post(f"{orders.GPU}/run", json=orders.order(number), timeout=60).json()
    while True:
        time.sleep(orders.LOOK_EVERY)
        answer = session.get(f"{orders.GPU}/status/{job['id']}", timeout=60)
        if answer.status_code != 429 and (data := orders.checked_picture(answer.json())) is not None:
            break
    kept = uploader.upload(
        data, public_id=orders.public_id(number), type="authenticated", overwrite=False, tags=["mary"], timeout=60
    )
    orders.record(number, kept)


def _session() -> requests.Session:
    """The thread's own, which keeps its connection."""
    if not hasattr(_mine, "session"):
        _mine.session = requests.Session()
        _mine.session.headers.update(orders.BEARER)
    return _mine.session
