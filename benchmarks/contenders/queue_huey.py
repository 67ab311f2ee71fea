"""Huey with Redis, its consumer's threads waiting in Redis itself."""

from huey import RedisHuey

from benchmarks.contenders import orders, threaded

huey = RedisHuey("bench", url=orders.REDIS, results=False)
order = huey.task()(threaded.make)
