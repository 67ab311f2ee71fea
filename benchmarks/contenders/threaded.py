"""One image from order to record in a thread of its own: urllib3, and the Cloudinary SDK. The task of all three queues."""

import time

import cloudinary
import urllib3
from cloudinary import uploader, utils

from benchmarks.contenders import orders

_gpu = urllib3.PoolManager(maxsize=orders.IN_FLIGHT, headers=orders.BEARER)
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
    job = _gpu.request("POST", f"{orders.GPU}/run", json=orders.order(number)).json()
    while True:
        time.sleep(orders.LOOK_EVERY)
        answer = _gpu.request("GET", f"{orders.GPU}/status/{job['id']}")
        if answer.status != 429 and (data := orders.checked_picture(answer.json())) is not None:
            break
    kept = uploader.upload(
        data, public_id=orders.public_id(number), type="authenticated", overwrite=False, tags=["mary"], timeout=60
    )
    orders.record(number, kept)
