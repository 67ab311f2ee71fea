"""Celery with Redis, its task in threads."""

from celery import Celery

from benchmarks.contenders import orders, threaded

app = Celery("bench", broker=orders.REDIS)
app.conf.update(task_ignore_result=True, task_acks_late=True, worker_prefetch_multiplier=1)
order = app.task(name="make")(threaded.make).delay
