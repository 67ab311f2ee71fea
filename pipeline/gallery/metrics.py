"""`/metrics` in Prometheus' text format, from what the catalogue counts; no label names an owner, character or job."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from pipeline.catalogue import Catalogue
from pipeline.model import Status


def exposition(catalogue: Catalogue, *, now: int, held: int) -> bytes:
    """Return all metrics as they are now."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(
        _Snapshot(
            [
                *_of_index(catalogue, now),
                *_of_lanes(catalogue),
                _one("held_answers", "Requests held by ?wait= now.", held),
            ]
        )
    )
    return generate_latest(registry)


class _Snapshot:
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _of_index(catalogue: Catalogue, now: int) -> Iterable[Metric]:
    summary = catalogue.summary(now=now)
    images = _by("images", "Images in the index by status.", "status")
    for status in Status:
        images.add_metric([status.value], summary.images.get(status.value, 0))
    yield images
    jobs = _by("jobs_unfinished", "Jobs that have not ended, by status.", "status")
    jobs.add_metric(["queued"], summary.jobs_queued)
    jobs.add_metric(["running"], summary.jobs_running)
    yield jobs
    waited = 0.0 if summary.oldest_waiting is None else max(0, now - summary.oldest_waiting) / 1000
    yield _one("oldest_unfinished_job_seconds", "Age of the oldest job that has not ended.", waited)
    yield _one("images_made_again", "Ended images that are being made again.", summary.retrying)
    yield _one("images_to_store", "Images that wait for the store.", summary.to_store)
    yield _one("spool_bytes", "Bytes that wait for the store.", summary.spool_bytes)
    ended = _by("today_images", "Images that ended today (UTC), by back end and status.", "backend", "status")
    gpu = _by("today_gpu_seconds", "GPU seconds of today (UTC) by back end.", "backend")
    for day in summary.today:
        for ending, n in (("done", day.done), ("placeholder", day.placeholder), ("failed", day.failed)):
            ended.add_metric([day.backend, ending], n)
        gpu.add_metric([day.backend], day.gpu_seconds)
    yield ended
    yield gpu


def _of_lanes(catalogue: Catalogue) -> Iterable[Metric]:
    ready = _by("backend_ready", "1 where the back end takes images, 0 where it is down or paused.", "backend")
    slots = _by("backend_slots", "Images that may be in progress there at once.", "backend")
    busy = _by("backend_busy", "Images in progress there.", "backend")
    waiting = _by("backend_waiting", "Images that could start there.", "backend")
    typical = _by("backend_typical_seconds", "What one image takes there.", "backend")
    for lane in catalogue.lanes():
        ready.add_metric([lane.name], 1 if lane.state == "ready" else 0)
        slots.add_metric([lane.name], lane.slots)
        busy.add_metric([lane.name], lane.busy)
        waiting.add_metric([lane.name], lane.waiting)
        if lane.typical is not None:
            typical.add_metric([lane.name], lane.typical)
    return (ready, slots, busy, waiting, typical)


def _by(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"pipeline_{name}", text, labels=labels)


def _one(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"pipeline_{name}", text, value=value)
