"""A lost index comes back from what the store and the jobs folder tell."""

import shutil
import signal
import subprocess
import sys
from contextlib import closing

import orjson
import pytest
import trio
from click.testing import CliRunner

from pipeline import daemon
from pipeline.catalogue import Catalogue
from pipeline.catalogue.gallery import Filter
from pipeline.catalogue.jobs import STATUSES
from pipeline.cli import main
from pipeline.cli.reindex import Shown
from pipeline.config import load_config
from pipeline.errors import HeldElsewhere, IndexTrouble, StoreRefused, StoreUnavailable
from pipeline.ledger import open_ledger
from pipeline.ledger.rebuilding import open_rebuild
from pipeline.lifecycle import Removed
from pipeline.reindexing import IndexStands, Progress, reindex
from pipeline.stores.opening import open_store
from pipeline.tools.locks import hold
from tests.support.cloudinary_emulator import CLOUD, KEY, SECRET, CloudinaryEmulator, failing
from tests.support.index import asset
from tests.support.pictures import plain

BACKENDS = "backends: {sketch: {type: sketch, fail_seeds: [13, 66], attempts: 1, concurrency: 2}}"
LOCAL = f"settle: 0\ngallery: {{enabled: false}}\nstore: {{type: local, concurrency: 1}}\n{BACKENDS}\n"
# Of a GalleryRow; `updated_at`, `favorite`, `doubtful` and `used_embedding` are told by nobody: docs/backup.md
TOLD = "character_id public_id number filename status retrying created_at width height color prompt seed backend gpu_seconds attempts labels fault job_id".split()  # noqa: SIM905 - one line
OF_RECIPE = ("negative_prompt", "style", "model", "steps", "cfg_scale", "sampler_name")


def configured(folder, text=LOCAL):
    (folder / "pipeline.yaml").write_text(text)
    (folder / "jobs").mkdir(exist_ok=True)
    return load_config(folder / "pipeline.yaml", environ={})


def cloudinary(cloud):
    place = f"upload_prefix: '{cloud.url}', cloud_name: {CLOUD}, api_key: {KEY}, api_secret: {SECRET}"
    return f"settle: 0\ngallery: {{enabled: false}}\nstore: {{type: cloudinary, concurrency: 1, {place}}}\n{BACKENDS}\n"


def drop(config, name, **keys):
    job = {"prompt": "in a garden", "width": 64, "height": 64} | keys
    (config.jobs / f"{name}.json").write_bytes(orjson.dumps(job))


async def work_off(config):
    return await daemon.run(config, once=True, patience=0.1)


async def with_work_done(config):
    """Two owners, a name that changes, placeholders, failures, labels, an image removed, unnamed seeds."""
    mary = {"id": "123", "name": "Mary", "owner": "alice", "embedding": "mary-v2"}
    drop(config, "a", id="a", character=mary, quantity=3, seed=11, negative_prompt="rain", labels=["spring"])
    await work_off(config)
    drop(config, "b", character={"id": "123", "name": "Mary Ann"}, prompt=["at sea", "in täglich=50%|x"], steps=7)
    drop(config, "c", id="c", character="Jürgen", seed=66, on_failure="fail", style="oil")
    await work_off(config)
    drop(config, "d", id="d", character={"id": "123"}, quantity=2, seed=5)
    await work_off(config)
    store = open_store(config.store, public_url="http://127.0.0.1:8787")
    async with open_ledger(config.state / "index.db") as ledger:
        image = ledger.image_by_number("123", 4)
        await store.remove(image.stored)
        await ledger.record(image, Removed())
        await work_off_results(config, ledger)


async def work_off_results(config, ledger):
    with closing(Catalogue(config.state / "index.db")) as catalogue:
        for job in ledger.to_file(10):
            path = config.jobs / "done" / f"{job}.result.json"
            path.write_bytes(orjson.dumps({"success": True, "data": catalogue.result(job)}))
            await ledger.filed(job)


def dump(config):
    """All that galleries and answers about jobs show."""
    with closing(Catalogue(config.state / "index.db")) as catalogue:
        assert catalogue.verify() == []
        characters = catalogue.characters(None).rows
        everything = Filter(statuses=STATUSES)
        images = {
            one.id: {row.number: shown(row) for row in catalogue.page(one.id, everything).rows} for one in characters
        }
        about = [
            (one.id, one.name, one.owner, one.slug, one.embedding, dict(one.counts), one.newest_at)
            for one in characters
        ]
        jobs = [job._replace(version=0)._asdict() for job in catalogue.jobs(None).rows]
        order = {one.id: [row.number for row in catalogue.page(one.id).rows] for one in characters}
        return {
            "characters": about,
            "order": order,
            "images": images,
            "jobs": jobs,
            "results": [catalogue.result(job["id"]) for job in jobs],
        }


def shown(row):
    values = {name: getattr(row, name) for name in TOLD} | {name: row.recipe.get(name) for name in OF_RECIPE}
    if row.stored:
        values["stored"] = row.stored._replace(md5="", created_at=None)  # Cloudinary's listing tells no checksum
    if row.status == "removed":
        values["created_at"] = values["color"] = None
    return values


def lose(config):
    (config.state / "index.db").rename(config.state / "index.lost")


async def rebuilt(config, **more):
    return await reindex(config, open_store(config.store, public_url="http://127.0.0.1:8787"), **more)


async def test_everything_comes_back_from_local_files(tmp_path):
    config = configured(tmp_path)
    await with_work_done(config)
    before = dump(config)
    lose(config)
    report = await rebuilt(config)
    assert list(differences(dump(config), before)) == []
    assert (report.pieced.characters, report.pieced.jobs, report.pieced.owners) == (2, 4, {"alice", "me"})
    assert report.notes == [] == report.pieced.taken_anew
    assert not (config.state / "reindex.db").exists()


async def test_everything_comes_back_from_the_account(tmp_path):
    with CloudinaryEmulator() as cloud:
        config = configured(tmp_path, cloudinary(cloud))
        await with_work_done(config)
        before = dump(config)
        lose(config)
        await rebuilt(config)
        assert list(differences(dump(config), before)) == []


def differences(one, other, at=""):
    """Name every place where two dumps differ, each with both values."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from differences(one.get(key), other.get(key), f"{at}.{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for n, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{at}[{n}]")
    elif one != other:
        yield f"{at}: {one!r} is not {other!r}"


# -- what goes on afterwards


def results(config):
    found = sorted((config.jobs / "done").glob("*.result.json"))
    return {path.name.removesuffix(".result.json"): orjson.loads(path.read_bytes())["data"] for path in found}


async def test_numbers_and_ids_go_on_where_they_were(tmp_path):
    config = configured(tmp_path)
    drop(config, "a", id="a", character="Mary", quantity=3, seed=1)
    await work_off(config)
    lose(config)
    await rebuilt(config)
    drop(config, "again", id="a", character="Mary", quantity=3, seed=1)
    drop(config, "other", id="a", character="Mary", quantity=4, seed=1)
    drop(config, "b", id="b", character="Mary", quantity=2, seed=9)
    assert (await work_off(config)).rejected == 1
    assert [image["number"] for image in results(config)["b"]["images"]] == [4, 5]
    assert [path.name for path in (config.jobs / "duplicate").iterdir()] == ["again.json"]
    assert [image["number"] for image in results(config)["a"]["images"]] == [1, 2, 3]


async def test_a_number_under_which_a_damaged_file_stands_is_held(tmp_path):
    config = configured(tmp_path)
    drop(config, "a", id="a", character="Mary", quantity=2, seed=1)
    await work_off(config)
    (config.images / "me/characters/mary/images/mary_image_2.png").write_bytes(b"damaged")
    shutil.rmtree(config.jobs / "done")  # as `keep_done` leaves it
    lose(config)
    await rebuilt(config)
    drop(config, "b", id="b", character="Mary", seed=9)
    assert (await work_off(config)).exit_code == 0
    images = dump(config)["images"]["mary"]
    assert {number: image["status"] for number, image in images.items()} == {1: "done", 2: "removed", 3: "done"}


async def test_a_placeholder_that_came_back_can_be_made_again(tmp_path):
    config = configured(tmp_path)
    drop(config, "a", id="a", character="Mary", quantity=2, seed=12)
    await work_off(config)
    lose(config)
    await rebuilt(config)
    async with open_ledger(config.state / "index.db") as ledger:
        image = ledger.image_by_number("mary", 2)
        assert (image.state, image.seed, image.recipe.width, image.job_id) == ("placeholder", 13, 64, "a")
        assert image.fault.message == "sketch was told to fail on seed 13"


async def test_unfinished_jobs_are_taken_anew_and_wholly_stored_ones_are_filed(tmp_path):
    config = configured(tmp_path)
    for name, seed in (("whole", 1), ("part", 20)):
        drop(config, name, id=name, character="Mary", quantity=3, seed=seed)
    await work_off(config)
    for path in (config.jobs / "done").glob("*.json"):
        if path.name.endswith(".result.json"):
            path.unlink()
        else:
            path.rename(config.jobs / "active" / path.name)
    images = config.store.folder / "me/characters/mary/images"
    (images / "mary_image_5.png").unlink()
    lose(config)
    report = await rebuilt(config)
    assert report.pieced.taken_anew == ["part"]
    assert report.pieced.jobs == 1
    await work_off(config)
    told = results(config)
    assert [image["number"] for image in told["whole"]["images"]] == [1, 2, 3]
    assert [image["number"] for image in told["part"]["images"]] == [7, 8, 9]
    assert len(list(images.iterdir())) == 8
    with closing(Catalogue(config.state / "index.db")) as catalogue:
        assert catalogue.image("mary", 5).status == "removed"
        assert catalogue.verify() == []


# -- what other hands have done


async def test_assets_of_another_tool_become_characters_of_their_folders(tmp_path):
    with CloudinaryEmulator() as cloud:
        config = configured(tmp_path, cloudinary(cloud))
        for number in (3, 12):
            cloud.plant(
                f"al-ice/characters/mary/images/mary_image_{number}", plain(), created_at="2024-05-06T07:08:09Z"
            )
        cloud.plant("bob/characters/mary/images/mary_image_1", plain(), type="private")
        cloud.plant("bob/characters/zoe/images/zoe_image_9999999", plain())
        cloud.plant("bob/characters/zoe/images/holiday", plain())
        cloud.plant("logo", plain())
        report = await rebuilt(config)
        assert dict(report.pieced.images) == {"done": 3, "removed": 10}
        with closing(Catalogue(config.state / "index.db")) as catalogue:
            assert {(one.id, one.owner, one.slug) for one in catalogue.characters(None).rows} == {
                ("mary", "al-ice", "mary"), ("mary-2", "bob", "mary"),
            }  # fmt: skip
            assert [row.number for row in catalogue.page("mary").rows] == [12, 3]
            assert catalogue.verify() == []
        drop(config, "a", id="a", character={"name": "Mary", "owner": "bob"}, seed=1)
        await work_off(config)
        assert results(config)["a"]["images"][0]["publicId"] == "bob/characters/mary/images/mary_image_2"


async def test_of_two_under_one_public_id_the_picture_comes_back_not_the_placeholder(tmp_path):
    with CloudinaryEmulator() as cloud:
        config = configured(tmp_path, cloudinary(cloud))
        drop(config, "a", id="a", character="Mary", quantity=2, seed=1)
        await work_off(config)
        cloud.plant(
            "me/characters/mary/images/mary_image_1", plain(shade=9), context={"status": "placeholder", "job": "a"}
        )
        lose(config)
        await rebuilt(config)
        with closing(Catalogue(config.state / "index.db")) as catalogue:
            rows = catalogue.page("mary").rows
            assert {(row.number, row.status, row.stored.type, row.job_id) for row in rows} == {
                (1, "done", "authenticated", "a"), (2, "done", "authenticated", "a"),
            }  # fmt: skip


async def test_an_id_that_our_results_give_stays_ours_in_an_account_that_others_use_too(tmp_path):
    with CloudinaryEmulator() as cloud:
        config = configured(tmp_path, cloudinary(cloud))
        drop(config, "a", id="a", character="Mary", owner="zoe", seed=1)
        await work_off(config)
        cloud.plant(
            "aaron/characters/mary/images/mary_image_1", plain(shade=9), context={"character": "mary", "owner": "aaron"}
        )
        lose(config)
        await rebuilt(config)
        with closing(Catalogue(config.state / "index.db")) as catalogue:
            assert {(one.id, one.owner) for one in catalogue.characters(None).rows} == {
                ("mary", "zoe"),
                ("mary-2", "aaron"),
            }


async def test_a_folder_named_like_the_default_owner_is_that_owners(tmp_path):
    with CloudinaryEmulator() as cloud:
        config = configured(tmp_path, cloudinary(cloud) + "default_owner: Al@ice\n")
        cloud.plant("al-ice/characters/mary/images/mary_image_1", plain())
        cloud.plant(
            "second/characters/eve/images/eve_image_1", plain(), context={"owner": "Al@ice", "character": "eve"}
        )
        cloud.plant(
            "third/characters/ann/images/ann_image_1", plain(), context={"owner": "Al@ice", "character": "mary"}
        )
        report = await rebuilt(config)
    assert report.pieced.owners == {"Al@ice"}
    assert report.pieced.characters == 1
    assert len(report.notes) == 2
    assert "its owner has another folder already" in report.notes[0]


# -- files of ended jobs that say too little, or the wrong thing


async def test_jobs_whose_files_are_gone_are_told_by_their_images(tmp_path):
    config = configured(tmp_path)
    drop(config, "a", id="a", character="Mary", quantity=3, seed=12)
    drop(config, "b", id="b", character="Mary", quantity=2, seed=20)
    await work_off(config)
    for path in (config.jobs / "done").iterdir():
        path.unlink()
    (config.store.folder / "me/characters/mary/images/mary_image_2.png").unlink()
    lose(config)
    await rebuilt(config)
    with closing(Catalogue(config.state / "index.db")) as catalogue:
        assert catalogue.verify() == []
        told = catalogue.result("a")
        assert [(image["number"], image["status"], image["seed"]) for image in told["images"]] == [
            (1, "done", 12), (2, "removed", None), (3, "done", 14),
        ]  # fmt: skip
        assert catalogue.job("b").counts["done"] == 2


async def test_a_job_without_a_result_is_told_by_its_images_or_keeps_its_id(tmp_path):
    config = configured(tmp_path)
    drop(config, "a", id="a", character="Mary", quantity=2, seed=1, labels=["x"])
    drop(config, "lost", id="lost", character="Anna", seed=66, on_failure="fail")
    await work_off(config)
    for path in (config.jobs / "done").glob("*.result.json"):
        path.write_bytes(b'{"success": tr') if path.name.startswith("a.") else path.unlink()
    lose(config)
    await rebuilt(config)
    with closing(Catalogue(config.state / "index.db")) as catalogue:
        assert catalogue.verify() == []
        assert (catalogue.job("a").labels, catalogue.job("a").counts["done"]) == (("x",), 2)
        assert (catalogue.job("lost").status, catalogue.job("lost").quantity) == ("cancelled", 1)
    drop(config, "again", id="lost", character="Anna", seed=66, on_failure="fail")
    await work_off(config)
    assert [path.name for path in (config.jobs / "duplicate").iterdir()] == ["again.json"]


def result_file(config, job_id, numbers, **changes):
    images = [{"number": n, "status": "done", "publicId": f"me/characters/mary/images/mary_image_{n}"} for n in numbers]
    data = {
        "jobId": job_id, "status": "done", "characterId": "mary", "requestedCount": 2, "prompt": ["one", "two"],
        "style": "oil", "labels": ["l"], "createdAt": "2025-07-28T10:00:00.123Z", "images": images,
    }  # fmt: skip
    (config.jobs / "done").mkdir(exist_ok=True)
    (config.jobs / "done" / f"{job_id}.result.json").write_bytes(
        orjson.dumps({"success": True, "data": data | changes})
    )


async def test_results_that_claim_what_is_not_theirs_give_their_ids_alone(tmp_path):
    config = configured(tmp_path)
    drop(config, "a", id="a", character="Mary", quantity=2, seed=1)
    await work_off(config)
    result_file(config, "thief", [2, 3])
    result_file(config, "torn", [5, 7])
    result_file(config, "early", [], status="cancelled", characterId="zoe")
    result_file(config, "odd", [8], images=[{"number": 8, "status": "done", "publicId": "elsewhere/8"}])
    result_file(config, "copy", [1], jobId="a")
    lose(config)
    report = await rebuilt(config)
    assert len(report.notes) == 1
    assert "thief.result.json: other jobs made images that it claims" in report.notes[0]
    with closing(Catalogue(config.state / "index.db")) as catalogue:
        assert catalogue.verify() == []
        assert sorted(row.number for row in catalogue.page("mary").rows) == [1, 2]
        assert {job.id: job.status for job in catalogue.jobs(None).rows} == {
            "a": "done", "thief": "cancelled", "early": "cancelled", "odd": "cancelled",
        }  # fmt: skip
        assert catalogue.character("zoe").owner == "me"
        assert catalogue.result("early")["prompt"] == ["one", "two"]


async def test_images_that_only_a_result_tells_of_are_removed_ones_and_their_character_comes_back(tmp_path):
    config = configured(tmp_path)
    result_file(config, "a", [1, 2], maybePaidTwice=2, usedEmbedding=True)
    (config.jobs / "done/a.yaml").write_text(
        "id: a\ncharacter: {id: mary, name: Mary}\nowner: ann\nprompt: x\nstyle: oil\nbackend: gone\n"
    )
    configured(tmp_path, LOCAL + "styles: {ink: {steps: 3}}\n")
    config = load_config(tmp_path / "pipeline.yaml", environ={})
    report = await rebuilt(config)
    assert (report.pieced.owners, dict(report.pieced.images)) == ({"ann"}, {"removed": 2})
    with closing(Catalogue(config.state / "index.db")) as catalogue:
        assert catalogue.verify() == []
        assert (catalogue.character("mary").name, catalogue.character("mary").slug) == ("Mary", "mary")
        assert (catalogue.job("a").style, catalogue.job("a").backends) == ("oil", ("gone",))
        assert catalogue.result("a")["maybePaidTwice"] == 2


async def test_what_stands_under_a_number_by_another_hand_stays_a_failed_one(tmp_path):
    config = configured(tmp_path)
    stranger = config.store.folder / "me/characters/mary/images/mary_image_1.png"
    drop(config, "a", id="a", character="Mary", quantity=2, seed=1)
    await work_off(config)
    stranger.write_bytes(plain())
    fault = {"code": "conflict", "message": "a different image stands there"}
    images = results(config)["a"]["images"]
    images[0] |= {"status": "failed", "error": fault}
    result_file(config, "a", [], images=images)
    (config.jobs / "done/a.json").write_bytes(b"{")
    lose(config)
    await rebuilt(config)
    with closing(Catalogue(config.state / "index.db")) as catalogue:
        assert catalogue.verify() == []
        image = catalogue.image("mary", 1)
        assert (image.status, image.stored, image.error.code, image.job_id) == ("failed", None, "conflict", "a")
        assert (catalogue.job("a").style, catalogue.job("a").labels) == ("oil", ("l",))


def test_a_file_that_cannot_be_written_is_told_and_nothing_of_the_page_stays(tmp_path):
    def collect():
        with open_rebuild(tmp_path / "reindex.db", "here", 5) as rebuild:
            rebuild._connection.execute(
                "CREATE TRIGGER full BEFORE UPDATE ON listed BEGIN SELECT raise(ABORT, 'full'); END"
            )
            rebuild.finds.collect(page(1), "0")

    with pytest.raises(IndexTrouble, match=r"reindex\.db"):
        collect()
    with open_rebuild(tmp_path / "reindex.db", "here", 6) as rebuild:
        assert (rebuild.finds.collected, rebuild.finds.bookmark) == (0, None)


# -- the old index, and what is left of it


async def test_an_index_that_knows_anything_is_not_replaced(tmp_path):
    config = configured(tmp_path)
    drop(config, "a", character="Mary")
    await work_off(config)
    (config.state / "reindex.db").write_bytes(b"from an earlier try")
    before = (config.state / "index.db").read_bytes()
    with pytest.raises(IndexStands, match=r"holds what is known already; .* && mv .*index\.db\* "):
        await rebuilt(config)
    assert (config.state / "index.db").read_bytes() == before
    assert not (config.state / "reindex.db").exists()
    (config.state / "index.db").write_bytes(b"nonsense" * 999)
    with pytest.raises(IndexStands, match="cannot be read"):
        await rebuilt(config)


async def test_it_refuses_while_a_daemon_runs(tmp_path):
    config = configured(tmp_path)
    with hold(config.jobs, process="pipeline run"), pytest.raises(HeldElsewhere, match="pipeline run"):
        await rebuilt(config)


async def test_what_the_old_index_alone_could_name_is_put_aside(tmp_path):
    config = configured(tmp_path)
    config.state.mkdir()
    async with open_ledger(config.state / "index.db"):
        pass
    (config.state / "index.db-wal").write_bytes(b"a log of something else")
    (config.state / "spool").mkdir()
    (config.state / "spool/7-x.img").write_bytes(b"bytes")
    (config.state / "kept").mkdir()
    report = await rebuilt(config)
    assert {path.name for path in report.aside.iterdir()} >= {"index.db", "index.db-wal", "spool"}
    assert (report.aside / "spool/7-x.img").read_bytes() == b"bytes"
    assert list((config.state / "kept").iterdir()) == []
    drop(config, "a", character="Mary")
    assert (await work_off(config)).exit_code == 0


# -- a listing with obstacles


class Pages:
    """A store that is asked for nothing but its pages; `troubles` are raised before the page of that place."""

    def __init__(self, *pages, troubles=None):
        self.pages = pages
        self.troubles = troubles or {}
        self.asked = []

    async def everything(self, after=None):
        self.asked.append(after)
        for n in range(0 if after is None else int(after) + 1, len(self.pages)):
            if self.troubles.get(n):
                raise self.troubles[n].pop(0)
            await trio.lowlevel.checkpoint()
            yield self.pages[n], str(n)


def page(*numbers):
    return [asset("mary", number, character_id="mary", owner="me") for number in numbers]


def away(code="store_down", **more):
    return StoreUnavailable("not now", code=code, **more)


async def test_a_rate_limit_is_waited_out_and_told(tmp_path, autojump_clock):
    config = configured(tmp_path)
    store = Pages(page(1), page(2, 3), troubles={1: [away("rate_limited", retry_after=1800)] * 9 + [away()] * 4})
    told = []
    began = trio.current_time()
    report = await reindex(config, store, told=told.append)
    assert 9 * 1800 <= trio.current_time() - began < 9 * 1800 + 240
    assert dict(report.pieced.images) == {"done": 3}
    assert store.asked == [None] + ["0"] * 13
    waits = [step for step in told if step.stage == "waiting"]
    assert (len(waits), waits[0].done, waits[0].note) == (13, 1, "not now; going on in 1800 s")
    assert [(step.stage, step.done, step.total) for step in told if step.stage != "waiting"] == [
        ("listing", 1, None), ("listing", 3, None), ("restoring", 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("trouble", [[away(credentials=True)], [away()] * 5])
async def test_what_was_listed_is_kept_for_the_next_try(tmp_path, autojump_clock, trouble):
    config = configured(tmp_path)
    with pytest.raises(StoreUnavailable):
        await reindex(config, Pages(page(1), page(2), troubles={1: trouble}))
    assert not (config.state / "index.db").exists()
    again = Pages(page(1), page(2))
    report = await reindex(config, again)
    assert again.asked == ["0"]
    assert dict(report.pieced.images) == {"done": 2}


async def test_a_listing_begun_long_ago_or_of_another_store_is_begun_anew(tmp_path, autojump_clock):
    config = configured(tmp_path)
    day = 24 * 60 * 60 * 1000
    for moment, text in ((0, LOCAL), (day, LOCAL), (day + 5, LOCAL.replace("local,", "local, folder: other,"))):
        config = configured(tmp_path, text)
        store = Pages(page(1), page(2), troubles={1: [away(credentials=True)]})
        with pytest.raises(StoreUnavailable):
            await reindex(config, store, clock=lambda moment=moment: moment)
        assert store.asked == [None]


async def test_a_forgotten_bookmark_starts_the_listing_over(tmp_path, autojump_clock):
    config = configured(tmp_path)
    refused = StoreRefused("Invalid value for parameter next_cursor", code="store_refused")
    store = Pages(page(1), page(2), troubles={1: [away(), refused]})
    assert dict((await reindex(config, store)).pieced.images) == {"done": 2}
    assert store.asked == [None, "0", None]
    lose(config)
    with pytest.raises(StoreRefused):
        await reindex(config, Pages(page(1), troubles={0: [refused]}))


async def test_a_restoring_that_broke_off_is_begun_anew(tmp_path, autojump_clock):
    config = configured(tmp_path)
    seen = []

    def break_off(step):
        seen.append(step.stage)
        if step.stage == "restoring":
            raise IndexTrouble("database or disk is full")

    with pytest.raises(IndexTrouble):
        await reindex(config, Pages(page(1), page(2)), told=break_off)
    assert seen == ["listing", "listing", "restoring"]
    again = Pages()
    assert dict((await reindex(config, again)).pieced.images) == {"done": 2}
    assert again.asked == []
    with closing(Catalogue(config.state / "index.db")) as catalogue:
        assert catalogue.verify() == []


async def test_an_account_of_many_pages_is_listed_whole_and_goes_on_within_a_page(tmp_path):
    with CloudinaryEmulator() as cloud:
        config = configured(tmp_path, cloudinary(cloud))
        data = plain()
        for number in range(1, 1_203):
            cloud.plant(
                f"me/characters/mary/images/mary_image_{number}", data, type="upload" if number % 2 else "private"
            )
        cloud.weather += [lambda _, serve: serve(), failing(503)]
        report = await rebuilt(config)
        assert dict(report.pieced.images) == {"done": 1_202}
        assert len([call for call in cloud.calls if "/resources/" in call]) == 6  # 2 + 2 + 1 pages, one of them twice


# -- the command


def call(*words):
    return CliRunner().invoke(main, list(words), prog_name="pipeline")


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("PIPELINE_CONFIG", "CLOUDINARY_URL"):
        monkeypatch.delenv(name, raising=False)
    return configured(tmp_path)


def test_the_command_tells_what_came_back(at_home):
    drop(at_home, "a", id="a", character="Mary", quantity=2, seed=12)
    call("run", "--once")
    (at_home.jobs / "active/b.yaml").write_text("id: b\ncharacter: Mary\nprompt: x\n")
    (at_home.state / "spool/1-x.img").write_bytes(b"x")
    assert call("reindex").exit_code == 2
    lose(at_home)
    result_file(at_home, "thief", [1])
    answer = call("reindex")
    assert answer.exit_code == 0, answer.output
    assert "owners 1  characters 1  jobs 2  images: 1 done, 1 placeholder" in answer.output
    assert "1 unfinished in jobs/active" in answer.output
    assert "pictures that only it could name, lie in" in answer.output
    assert "note: " in answer.output
    assert "all is well" in call("verify").output
    lose(at_home)
    told = orjson.loads(call("reindex", "--json").stdout)
    assert (told["characters"], told["takenAnew"], told["aside"]) == (1, ["b"], None)


def test_the_command_shows_bars_in_a_terminal(at_home, monkeypatch):
    drop(at_home, "a", id="a", character="Mary", quantity=2, seed=1)
    call("run", "--once")
    lose(at_home)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    shown = call("reindex").stderr
    assert "images listed" in shown
    assert "characters restored" in shown


def test_a_store_that_cannot_be_listed_is_told_with_what_to_do(at_home, monkeypatch):
    with CloudinaryEmulator() as cloud:
        configured(at_home.root, cloudinary(cloud).replace(SECRET, "another-secret"))
        for color in ("", "1"):
            monkeypatch.setenv("FORCE_COLOR", color)
            answer = call("reindex")
            assert answer.exit_code == 1
            assert "what was listed so far is kept; call `pipeline reindex` again" in answer.output
            assert "another-secret" not in answer.output


def test_waiting_is_told_in_a_line_or_beside_the_bar(monkeypatch, capsys):
    for color in ("", "1"):
        monkeypatch.setenv("FORCE_COLOR", color)
        with Shown() as shown:
            shown.step(Progress("listing", 5))
            shown.step(Progress("waiting", 5, note="the store rests"))
        assert "the store rests" in capsys.readouterr().err


@pytest.mark.long
def test_interrupted_it_says_that_nothing_is_lost(at_home):
    with CloudinaryEmulator() as cloud:
        cloud.weather += [failing(503)] * 99
        configured(at_home.root, cloudinary(cloud))
        command = [sys.executable, "-m", "pipeline", "reindex"]
        with subprocess.Popen(command, cwd=at_home.root, stderr=subprocess.PIPE, text=True) as process:
            assert "going on in" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            assert "call `pipeline reindex` again" in process.stderr.read()
    assert process.returncode == 1
    assert not (at_home.state / "index.db").exists()
