"""A lost index comes back from what the store and the jobs folder tell."""

import os
from contextlib import closing
from dataclasses import asdict, replace

import orjson
import pytest
import trio

from pipeline import daemon
from pipeline.catalogue import Catalogue
from pipeline.catalogue.gallery import Filter
from pipeline.catalogue.jobs import STATUSES
from pipeline.config import load_config
from pipeline.errors import HeldElsewhere, IndexTrouble, StoreRefused, StoreUnavailable
from pipeline.ledger import open_ledger
from pipeline.lifecycle import Removed
from pipeline.locks import hold
from pipeline.reindexing import IndexStands, reindex
from pipeline.stores.opening import open_store
from tests.support.cloudinary_emulator import CLOUD, KEY, SECRET, CloudinaryEmulator, failing
from tests.support.pictures import plain

BACKENDS = "backends: {sketch: {type: sketch, fail_seeds: [13, 66], attempts: 1, concurrency: 2}}"
LOCAL = f"settle: 0\ngallery: {{enabled: false}}\nstore: {{type: local, concurrency: 1}}\n{BACKENDS}\n"
NOT_TOLD = ("row", "updated_at", "favorite", "doubtful", "used_embedding")  # of a GalleryRow; docs/backup.md


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
        jobs = [asdict(replace(job, version=0)) for job in catalogue.jobs(None).rows]
        order = {one.id: [row.number for row in catalogue.page(one.id).rows] for one in characters}
        return {
            "characters": about,
            "order": order,
            "images": images,
            "jobs": jobs,
            "results": [catalogue.result(job["id"]) for job in jobs],
        }


def shown(row):
    values = {name: value for name, value in asdict(row).items() if name not in NOT_TOLD}
    if values["stored"]:
        del values["stored"]["md5"]  # Cloudinary's listing does not tell it
        values["stored"]["created_at"] = None
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
