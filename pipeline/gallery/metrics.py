"""`/metrics` in Prometheus' text format, from what the catalogue counts; no label names an owner, character or job."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from math import isinf

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from pipeline import __version__
from pipeline.catalogue import Catalogue, Figures
from pipeline.model import LaneState, Pulse, Status

Samples = Iterable[tuple[tuple[str, ...], float]]  # values of the labels, and the figure


def exposition(
    catalogue: Catalogue,
    *,
    now: int,
    held: int = 0,
    requests: Mapping[tuple[str, str], int] | None = None,
    pulse: Pulse | None = None,
) -> bytes:
    """Return all metrics as they are now; `pulse` where a daemon runs in this process.

    Raises:
        IndexTrouble: the index cannot be read.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(families(catalogue, now=now, held=held, requests=requests or {}, pulse=pulse)))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def families(
    catalogue: Catalogue, *, now: int, held: int, requests: Mapping[tuple[str, str], int], pulse: Pulse | None
) -> list[Metric]:
    """Return all metrics of our own."""
    figures = catalogue.figures()
    return [
        *_of_images(catalogue, figures, now),
        *_of_work(figures),
        *_of_lanes(catalogue),
        *_of_troubles(catalogue, pulse),
        *(_of_pulse(pulse) if pulse is not None else ()),
        _grows("http_requests", "HTTP requests answered since the start.", requests.items(), "route", "code"),
        _one("http_held_requests", "Requests held by ?wait= now.", held),
        _by("build_info", "1; the version that runs is its label.", [((__version__,), 1)], "version"),
    ]


class _Snapshot:
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _of_images(catalogue: Catalogue, figures: Figures, now: int) -> Iterator[Metric]:
    summary = catalogue.summary(now=now)
    by_status = {(status.value,): summary.images.get(status.value, 0) for status in Status}
    yield _by("images", "Images in the index by status.", by_status.items(), "status")
    under_way = {(state, backend): n for state, backend, n in figures.in_progress}
    yield _by("images_in_progress", "Images under way by step and back end.", under_way.items(), "state", "backend")
    unfinished = {("queued",): summary.jobs_queued, ("running",): summary.jobs_running}
    yield _by("jobs_unfinished", "Jobs that have not ended, by status.", unfinished.items(), "status")
    yield _one("oldest_unfinished_job_age_seconds", "Age of the oldest job that has not ended.", _age(summary.oldest_waiting, now))  # fmt: skip
    yield _one("oldest_waiting_image_age_seconds", "Age of the oldest image that waits for its turn.", _age(figures.oldest_waiting, now))  # fmt: skip
    yield _one("images_made_again", "Ended images that are being made again.", summary.retrying)
    yield _one("images_to_store", "Images that wait for the store.", summary.to_store)
    yield _one("spool_bytes", "Bytes that wait for the store.", summary.spool_bytes)


def _of_work(figures: Figures) -> Iterator[Metric]:
    work = figures.work
    ended = {(one.backend, name): getattr(one, name) for one in work for name in ("done", "placeholder", "failed")}
    yield _grows("images_ended", "Images that ended, by back end and status.", ended.items(), "backend", "status")
    told = (
        ("attempts", "Submissions that a back end accepted.", "attempts"),
        ("attempts_failed", "Accepted submissions that failed, timed out or vanished.", "attempts_failed"),
        ("maybe_paid_twice", "Submissions that may have been paid twice.", "doubtful"),
        ("gpu_seconds", "GPU time used.", "gpu_seconds"),
    )
    for name, text, field in told:
        yield _grows(name, text, {(one.backend,): getattr(one, field) for one in work}.items(), "backend")
    durations = HistogramMetricFamily(
        "pipeline_image_duration_seconds", "From the submission of an image to its picture.", labels=("backend",)
    )
    for one in figures.durations:
        sums = accumulate(n for _, n in one.buckets)
        buckets = [("+Inf" if isinf(bound) else str(bound), n) for (bound, _), n in zip(one.buckets, sums, strict=True)]
        durations.add_metric([one.backend], buckets, one.seconds)
    yield durations


def _of_lanes(catalogue: Catalogue) -> Iterator[Metric]:
    lanes = catalogue.lanes()
    told: tuple[tuple[str, str, Callable[[LaneState], float]], ...] = (
        (
            "ready",
            "1 where the back end takes images, 0 where it is down, held or paused.",
            lambda lane: lane.state == "ready",
        ),
        ("circuit_open", "1 while the back end is left alone because it is down.", lambda lane: lane.state == "down"),
        ("slots", "Images that may be in progress there at once.", lambda lane: lane.slots),
        ("busy", "Images in progress there.", lambda lane: lane.busy),
        ("waiting", "Images that could start there.", lambda lane: lane.waiting),
    )
    for name, text, value in told:
        yield _by(f"backend_{name}", text, {(lane.name,): value(lane) for lane in lanes}.items(), "backend")
    typical = {(lane.name,): lane.typical for lane in lanes if lane.typical is not None}
    yield _by("backend_typical_seconds", "What one image takes there.", typical.items(), "backend")


def _of_troubles(catalogue: Catalogue, pulse: Pulse | None) -> Iterator[Metric]:
    there = {trouble.what for trouble in catalogue.troubles()}
    if pulse is not None:  # knows better: the index cannot note that nothing can be written to it
        there |= {what for what, reason in (("disk", pulse.disk), ("intake", pulse.intake)) if reason is not None}
    states = {(what,): float(what in there) for what in ("store", "spool", "disk", "intake", "results")}
    yield _by("trouble", "1 while it keeps work from going on.", states.items(), "what")


def _of_pulse(pulse: Pulse) -> Iterator[Metric]:
    files = {("taken",): pulse.taken, ("rejected",): pulse.rejected, ("duplicate",): pulse.duplicates}
    yield _grows("intake_files", "Job files since the start, by what became of them.", files.items(), "outcome")
    yield _one("intake_lag_seconds", "How long the job file taken last had lain there.", pulse.lag)
    if pulse.passed_at is not None:
        text = "When the jobs folder was last looked through."
        yield _one("intake_last_pass_timestamp_seconds", text, pulse.passed_at / 1000)
    yield _one("state_free_bytes", "Room on the disk of the state folder.", pulse.free_bytes)


def _age(since: int | None, now: int) -> float:
    return 0.0 if since is None else max(0, now - since) / 1000


def _by(name: str, text: str, values: Samples, *labels: str) -> Metric:
    metric = GaugeMetricFamily(f"pipeline_{name}", text, labels=labels)
    for told, value in values:
        metric.add_metric(told, value)
    return metric


def _grows(name: str, text: str, values: Samples, *labels: str) -> Metric:
    metric = CounterMetricFamily(f"pipeline_{name}", text, labels=labels)
    for told, value in values:
        metric.add_metric(told, value)
    return metric


def _one(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"pipeline_{name}", text, value=value)
