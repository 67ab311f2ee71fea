"""What `/metrics` tells is what has happened, in figures that only grow where they should."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline import lifecycle as law
from pipeline.catalogue import Catalogue
from pipeline.gallery.metrics import exposition
from pipeline.ledger.opening import open_for_writing
from pipeline.model import DURATION_BOUNDS, Fault, LaneState, Pulse, Trouble
from tests.support.index import (
    START,
    HandClock,
    adopted,
    artifact,
    give_up,
    images_of,
    job,
    make,
    open_index,
    send,
    stored,
)
from tests.support.windows import house


class Told:
    """An exposition, read by Prometheus' own parser."""

    def __init__(self, text):
        self.types = {}
        self.values = {}
        for family in text_string_to_metric_families(text):
            self.types[family.name] = family.type
            for sample in family.samples:
                self.values[sample.name, *sorted(sample.labels.items())] = sample.value

    def __call__(self, name, **labels):
        return self.values["pipeline_" + name, *sorted(labels.items())]


def told(folder, now=START, **more):
    catalogue = Catalogue(folder / "index.db")
    try:
        return Told(exposition(catalogue, now=now, **more).decode())
    finally:
        catalogue.close()


@pytest.fixture
async def index(tmp_path):
    clock = HandClock()
    async with open_index(tmp_path, clock) as ledger:
        await adopted(ledger, "me")
        ledger.hands = clock
        yield ledger


async def test_work_is_counted_once_for_the_back_end_that_did_it(index, tmp_path):
    await index.accept([job("j1", quantity=3)])
    one, two, three = images_of(index, "j1")
    lost = await index.record(await send(index, one, "pod"), law.AttemptLost(Fault("failed", "x"), 3, gpu_seconds=4.0))
    again = await index.record(await send(index, lost, "xl"), law.Fetched(artifact(1), gpu_seconds=2.5))
    await index.record(again, law.StoredAt(stored(again)))
    doubt = await index.record(two, law.Submitting("pod", "t"))
    doubt = await index.record(doubt, law.Doubtful(Fault("unknown", "x"), 3))
    await index.record(await send(index, doubt), law.Cancelled())
    await index.record(await send(index, three), law.GaveUp(Fault("blank", "x"), paid=True, gpu_seconds=1.0))
    seen = told(tmp_path)
    assert [seen("attempts_total", backend=name) for name in ("pod", "xl")] == [3, 1]
    assert [seen("attempts_failed_total", backend=name) for name in ("pod", "xl")] == [2, 0]
    assert [seen("gpu_seconds_total", backend=name) for name in ("pod", "xl")] == [5.0, 2.5]
    assert [seen("maybe_paid_twice_total", backend=name) for name in ("pod", "xl")] == [1, 0]
    assert seen("images_ended_total", backend="xl", status="done") == 1
    assert seen("images_in_progress", state="given_up", backend="pod") == 1
    assert seen("images", status="cancelled") == 1


async def test_an_image_that_is_made_again_adds_what_that_cost_and_nothing_more(index, tmp_path):
    await index.accept([job("j1")])
    (image,) = images_of(index, "j1")
    image = await index.record(await send(index, image), law.GaveUp(Fault("blank", "x"), paid=True, gpu_seconds=10.0))
    image = await index.record(await index.record(image, law.Drawn(artifact(7))), law.StoredAt(stored(image)))
    image = await index.record(image, law.Retried())
    await make(index, image)
    seen = told(tmp_path)
    assert (seen("gpu_seconds_total", backend="pod"), seen("attempts_total", backend="pod")) == (12.5, 2)
    assert Catalogue(tmp_path / "index.db").summary(now=START).today[0].gpu_seconds == 12.5


async def test_durations_are_a_histogram_from_the_submission_to_the_picture(index, tmp_path):
    await index.accept([job("j1", quantity=3)])
    for image, seconds in zip(images_of(index, "j1"), (0.4, 12.0, 9_000.0), strict=True):
        at_work = await send(index, image)
        index.hands.at += round(seconds * 1000)
        await index.record(at_work, law.Fetched(artifact(image.row)))
    seen = told(tmp_path)
    assert seen.types["pipeline_image_duration_seconds"] == "histogram"
    buckets = [
        seen("image_duration_seconds_bucket", backend="pod", le="+Inf" if bound > 1e9 else str(bound))
        for bound in DURATION_BOUNDS
    ]
    assert buckets == [1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 3]
    assert seen("image_duration_seconds_count", backend="pod") == 3
    assert seen("image_duration_seconds_sum", backend="pod") == pytest.approx(9_012.4)


async def test_what_waits_and_what_is_in_trouble(index, tmp_path):
    await index.accept([job("old")])
    (image,) = images_of(index, "old")
    await send(index, image)
    index.hands.at += 5_000
    await index.accept([job("young")])
    await index.notes.lane(LaneState("pod", "down", 2, 0, 1, reason="gone"))
    await index.notes.lane(LaneState("xl", "paused", 2, 0))
    there = ("store", "disk", "results")
    await index.notes.troubles([Trouble(what, "refuses us", START + 1) for what in there])
    seen = told(tmp_path, now=START + 60_000)
    assert (seen("oldest_unfinished_job_age_seconds"), seen("oldest_waiting_image_age_seconds")) == (60, 55)
    assert [seen("backend_circuit_open", backend=name) for name in ("pod", "xl")] == [1, 0]
    assert [seen("backend_ready", backend=name) for name in ("pod", "xl")] == [0, 0]
    assert [seen("trouble", what=what) for what in ("store", "spool", "disk", "intake", "results")] == [1, 0, 1, 0, 1]
    await index.notes.troubles([Trouble("disk", "still full")])
    (left,) = Catalogue(tmp_path / "index.db").troubles()
    assert (left.what, left.reason, left.since) == ("disk", "still full", START + 5_000)
    await index.notes.forget(["xl"])
    assert ("pipeline_backend_ready", ("backend", "pod")) not in told(tmp_path).values


async def test_the_daemon_s_own_figures(index, tmp_path):
    pulse = Pulse(None, None, taken=5, rejected=2, duplicates=1, lag=0.25, passed_at=START + 500, free_bytes=9)
    seen = told(tmp_path, pulse=pulse)
    assert [seen("intake_files_total", outcome=name) for name in ("taken", "rejected", "duplicate")] == [5, 2, 1]
    assert (seen("intake_lag_seconds"), seen("state_free_bytes")) == (0.25, 9)
    assert seen("intake_last_pass_timestamp_seconds") == START / 1000 + 0.5
    before = told(tmp_path, pulse=pulse._replace(passed_at=None))
    assert ("pipeline_intake_last_pass_timestamp_seconds",) not in before.values
    full = told(tmp_path, pulse=pulse._replace(disk="full"))
    assert [full("trouble", what=what) for what in ("disk", "intake")] == [1, 0]
    assert ("pipeline_intake_lag_seconds",) not in told(tmp_path).values
    assert told(tmp_path).types["process_resident_memory_bytes"] == "gauge"


async def test_requests_are_counted_by_route_and_code_and_strangers_paths_make_no_labels(tmp_path):
    async with house(tmp_path) as home:
        await home.studio.made(n=1)
        for path in ("/readyz", "/readyz", "/no/such/place", "/another"):
            await home.client.get(path)
        await home.get("/api/image-generation/character/mary")
        await home.client.get("/api/image-generation/character/nobody")
        await home.client.post("/api/jobs", json={})
        seen = Told((await home.client.get("/metrics")).text)
        gallery = "/api/image-generation/character/{character_id}"
        counted = {
            (dict(labels)["route"], dict(labels)["code"]): value
            for (name, *labels), value in seen.values.items()
            if name == "pipeline_http_requests_total"
        }
        assert counted == {
            ("/readyz", "200"): 2, ("other", "404"): 2, (gallery, "200"): 1, (gallery, "401"): 1, ("other", "405"): 1,
        }  # fmt: skip


async def test_an_index_that_this_version_has_not_opened_yet_is_told_as_far_as_it_goes(index, tmp_path):
    await index.accept([job("j1")])
    await give_up(index, images_of(index, "j1")[0])
    with_old = open_for_writing(tmp_path / "index.db")
    with_old.execute("DROP TABLE troubles")
    with_old.close()
    seen = told(tmp_path)
    assert seen("images", status="placeholder") == 1
    assert seen("trouble", what="store") == 0
    assert not [name for name, *_ in seen.values if name.startswith("pipeline_image_duration")]
