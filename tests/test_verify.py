"""`pipeline verify`: each kind of damage is planted and has to be named; nothing is repaired."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.audit import audit_files, audit_store
from pipeline.catalogue import Catalogue
from pipeline.cli import main
from pipeline.stores import label
from pipeline.stores.opening import open_store
from pipeline.tools.locks import hold
from pipeline.tools.pngtext import read_text
from tests.support.cloudinary_emulator import CloudinaryEmulator
from tests.support.pictures import plain
from tests.test_reindex import LOCAL, cloudinary, configured, drop, work_off

MARY = "images/me/characters/mary/images"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two images and a placeholder of Mary, a failed one of Anna; made once, each test damages a copy."""
    folder = tmp_path_factory.mktemp("made") / "work"
    folder.mkdir()
    (folder / "pipeline.yaml").write_text(LOCAL)
    (folder / "jobs").mkdir()
    size = "width: 64\nheight: 64\n"
    (folder / "jobs/a.yaml").write_text(f"id: a\ncharacter: Mary\nprompt: in a garden\nquantity: 3\nseed: 11\n{size}")
    (folder / "jobs/b.yaml").write_text(f"id: b\ncharacter: Anna\nprompt: x\nseed: 66\non_failure: fail\n{size}")
    CliRunner().invoke(main, ["--config", str(folder / "pipeline.yaml"), "run", "--once"])
    return folder


@pytest.fixture
def work(made, tmp_path, monkeypatch):
    """A copy of its own; the index names files by their absolute paths, so they are moved along."""
    folder = tmp_path / "work"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PIPELINE_CONFIG", raising=False)
    edit(folder, f"UPDATE images SET path = replace(path, '{made}', '{folder}')")
    return folder


def edit(folder: Path, sql: str) -> None:
    with closing(sqlite3.connect(folder / ".pipeline/index.db")) as index:
        index.executescript(sql)


def verify(*options):
    answer = CliRunner().invoke(main, ["verify", "--json", *options])
    found = json.loads(answer.stdout)
    assert answer.exit_code == bool(found)
    return {(one["kind"], one["subject"]) for one in found}


def snapshot(folder):
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith((".lock", "-shm", "-wal"))
    }


def gone(folder):
    (folder / MARY / "mary_image_1.png").unlink()


def overwritten(folder):
    (folder / MARY / "mary_image_1.png").write_bytes(plain())


def link(folder):
    overwritten_by = folder / MARY / "mary_image_1.png"
    overwritten_by.rename(folder / "elsewhere.png")
    overwritten_by.symlink_to(folder / "elsewhere.png")


def stranger(folder):
    (folder / MARY / "mary_image_9.png").write_bytes(plain())


def swapped(folder):
    one, two = (folder / MARY / f"mary_image_{n}.png" for n in (1, 2))
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)
    md5s = "SELECT md5 FROM images WHERE public_id LIKE '%mary_image_"
    edit(folder, f"CREATE TEMP TABLE t AS SELECT ({md5s}1') AS a, ({md5s}2') AS b;"
                 "UPDATE images SET md5 = iif(number = 1, (SELECT b FROM t), (SELECT a FROM t)) WHERE number < 3 AND md5 IS NOT NULL")  # fmt: skip


def kept(folder):
    (folder / ".pipeline/kept").mkdir(exist_ok=True)
    (folder / ".pipeline/kept/3-t.img").write_bytes(plain())


def left_in_the_spool(folder):
    (folder / ".pipeline/spool/77-x.img").write_bytes(plain())


def by_hand(sql):
    return lambda folder: edit(folder, sql)


ONE = "me/characters/mary/images/mary_image_1"
TWO = ONE[:-1] + "2"
DAMAGES = [
    (gone, {("missing", ONE)}),
    (overwritten, {("changed", ONE)}),
    (link, {("missing", ONE)}),
    (stranger, {("extra", ONE[:-1] + "9")}),
    (swapped, {("contradiction", ONE), ("contradiction", TWO)}),
    (kept, {("kept", "3-t.img")}),
    (left_in_the_spool, {("spool_orphan", "77-x.img")}),
    (by_hand(f"UPDATE images SET md5 = '{'0' * 32}' WHERE public_id = '{ONE}'"), {("changed", ONE)}),
    (by_hand(f"UPDATE images SET seed = 8 WHERE public_id = '{ONE}'"), {("contradiction", ONE)}),
    (
        by_hand("UPDATE prompts SET text = 'on the moon' WHERE text = 'in a garden'"),
        {("contradiction", ONE[:-1] + str(n)) for n in (1, 2, 3)},
    ),
    (
        by_hand(f"UPDATE images SET state = 'placeholder', status = 'placeholder' WHERE public_id = '{ONE}'"),
        {("contradiction", ONE), ("wrong_tally", "mary"), ("wrong_count", "a")},
    ),
    (by_hand("UPDATE images SET path = '/dev/null' WHERE number = 2"), {("missing", TWO), ("extra", TWO)}),
    (
        by_hand(f"DELETE FROM events WHERE image = 2; DELETE FROM images WHERE public_id = '{TWO}'"),
        {("gap", "mary"), ("wrong_tally", "mary"), ("job_numbers", "a"), ("extra", TWO)},
    ),
    (by_hand("UPDATE images SET character = 77 WHERE number = 2"), {("orphan", "images 2"), ("extra", TWO)}),
    (
        by_hand("UPDATE images SET state = 'fetched', status = 'running', spool_file = 'x.img' WHERE status = 'failed'"),
        {("wrong_tally", "anna"), ("wrong_count", "b"), ("wrong_job_status", "b"), ("spool_missing", "x.img")},
    ),
]  # fmt: skip


def test_nothing_is_found_where_nothing_is_wrong(work):
    shutil.rmtree(work / ".pipeline/kept", ignore_errors=True)
    assert verify() == set()
    assert verify("--store") == set()


@pytest.mark.parametrize(("damage", "named"), DAMAGES)
def test_damage_is_named_and_left_as_it_is(work, damage, named):
    damage(work)
    before = snapshot(work)
    assert {(kind, subject) for kind, subject in verify()} == named
    assert snapshot(work) == before


def test_a_number_given_twice_is_named(work):
    edit(work, """
        PRAGMA writable_schema = 1;
        UPDATE sqlite_master SET sql = replace(sql, 'UNIQUE (character, number)', 'CHECK (number > 0)') WHERE name = 'images';
        DELETE FROM sqlite_master WHERE name = 'sqlite_autoindex_images_2';
    """)  # fmt: skip
    edit(work, f"UPDATE images SET number = 3 WHERE public_id = '{TWO}'; VACUUM")
    assert {("repeated_number", "mary 3"), ("wrong_name", TWO)} <= verify()


def test_a_file_that_cannot_be_read_is_named(work):
    gone(work)
    edit(work, f"UPDATE images SET path = '/proc/self/mem' WHERE public_id = '{ONE}'")
    assert ("unreadable", ONE) in verify()


def test_what_a_daemon_is_working_on_is_no_orphan(work):
    left_in_the_spool(work)
    with hold(work / ".pipeline", process="pipeline run"):
        assert verify() == set()


def test_a_replacement_that_was_stored_and_is_not_recorded_yet_is_no_damage(work):
    file = work / MARY / "mary_image_3.png"
    said = json.loads(read_text(file.read_bytes())[label.KEY])
    file.write_bytes(label.labelled(plain(), json.dumps({**said, "status": "done"})))
    (work / ".pipeline/spool/3-t.img").write_bytes(plain())
    state = "state = 'fetched', standing = 'placeholder', spool_file = '3-t.img'"
    edit(work, f"UPDATE images SET {state} WHERE status = 'placeholder'")
    assert verify() == set()
    file.write_bytes(plain())
    assert verify() == {("changed", ONE[:-1] + "3")}


def test_an_image_that_was_stored_and_is_not_recorded_yet_is_no_stranger(work):
    (work / ".pipeline/spool/2-t.img").write_bytes(plain())
    state = "state = 'fetched', status = 'running', spool_file = '2-t.img', url = NULL"
    edit(work, f"UPDATE images SET {state} WHERE public_id = '{TWO}'")
    assert ("extra", TWO) not in verify("--store")
    edit(work, f"UPDATE images SET state = 'planned', status = 'queued' WHERE public_id = '{TWO}'")
    assert ("extra", TWO) in verify("--store")


def test_an_image_that_is_recorded_while_its_folder_is_gone_through_is_no_stranger(work):
    (work / MARY / "mary_image_0.png").write_bytes(plain())
    edit(work, f"CREATE TABLE before AS SELECT url FROM images WHERE public_id = '{TWO}'")
    edit(work, f"UPDATE images SET url = NULL WHERE public_id = '{TWO}'")
    images, state = work / "images", work / ".pipeline"
    with closing(Catalogue(state / "index.db", images=images)) as catalogue:
        found = audit_files(catalogue, images=images, spool=state / "spool", kept=state / "kept", idle=False)
        assert next(found).subject == ONE[:-1] + "0"
        edit(work, f"UPDATE images SET url = (SELECT url FROM before) WHERE public_id = '{TWO}'")
        assert [one for one in found if one.kind == "extra"] == []


def test_each_kind_is_a_line_for_people(work):
    gone(work)
    answer = CliRunner().invoke(main, ["verify"])
    assert answer.output.startswith(f"missing: {ONE}: {work}/{MARY}/mary_image_1.png: the file is gone; bring it back")
    assert answer.output.endswith("1 problem\n")
    assert CliRunner().invoke(main, ["verify", "--store"]).output == answer.output
    stranger(work)
    assert CliRunner().invoke(main, ["verify"]).output.endswith("2 problems\n")
    assert CliRunner().invoke(main, ["verify", "--store"]).output.endswith("2 problems\n")  # each is told once


def test_what_cannot_be_looked_at_is_no_problem_found_but_a_failure(work):
    shutil.rmtree(work / "images")
    (work / "images").write_text("a file where the folder was")
    answer = CliRunner().invoke(main, ["verify", "--store"])
    assert answer.exit_code == 1
    assert "see that" in answer.output
    (work / ".pipeline/index.db").unlink()
    assert "`pipeline reindex` brings back a lost one" in CliRunner().invoke(main, ["verify"]).output


async def test_an_account_that_has_drifted_is_named(tmp_path):
    with CloudinaryEmulator() as cloud:
        config = configured(tmp_path, cloudinary(cloud))
        drop(config, "a", id="a", character="Mary", quantity=4, seed=1, prompt="in a garden" + " with roses" * 200)
        await work_off(config)

        async def drift():
            store = open_store(config.store, public_url="")
            with closing(Catalogue(config.state / "index.db")) as catalogue:
                return {(one.kind, one.subject) async for one in audit_store(catalogue, store)}

        assert await drift() == set()
        del cloud.assets["authenticated", ONE]
        cloud.assets["authenticated", TWO].version += 1
        cloud.assets["authenticated", ONE[:-1] + "3"].context["seed"] = "99"
        cloud.plant(ONE[:-1] + "8", plain(), type="private")
        cloud.plant(ONE[:-1] + "4", plain(), type="private")
        assert await drift() == {
            ("missing", ONE), ("changed", TWO), ("contradiction", ONE[:-1] + "3"), ("extra", ONE[:-1] + "8"), ("extra", ONE[:-1] + "4"),
        }  # fmt: skip
