"""Dramatiq with Redis; it acknowledges when the work is done."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.contenders import orders, threaded

dramatiq.set_broker(RedisBroker(url=orders.REDIS))
order = dramatiq.actor(threaded.make).send
