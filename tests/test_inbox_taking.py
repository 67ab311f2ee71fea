import errno
import os
import re
import resource
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
import trio

from pipeline.errors import IndexTrouble
from pipeline.inbox.disk import Disk
from pipeline.inbox.stuck import TRIED_AGAIN
from pipeline.inbox.telling import NAMED
from pipeline.model import Job
from pipeline.spec.keys import Rules
from tests.support.door import open_stand, someone_writing, spec

BAD = "character: Mary\nprompt: x\nquantty: 3\n"
JOB = re.compile(r"[0-9]{8}-[0-9]{6}-mary-[a-z0-9]{4}\.yaml")


@pytest.fixture
def log():
    with structlog.testing.capture_logs() as lines:
        yield lines


async def test_a_dropped_file_is_taken_under_its_jobs_name(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        stand.put("mary.yaml")
        result = await stand.inbox.scan()
        assert (result.taken, result.left, result.trouble) == (1, 0, None)
        [file] = stand.lies_in("active")
        assert JOB.fullmatch(file)
        assert stand.ids() == stand.accepted == [file.removesuffix(".yaml")]
        assert (stand.jobs / "active" / file).read_text() == spec()
        assert stand.waiting() == []


@pytest.mark.parametrize("name", ["Mary.yml", "mary.json"])
async def test_a_file_keeps_its_extension(autojump_clock, tmp_path, name):
    async with open_stand(tmp_path) as stand:
        stand.put(name, '{"character": "Mary", "prompt": "x"}')
        await stand.inbox.scan()
        [file] = stand.lies_in("active")
        assert file.endswith(name[-4:])


async def test_a_spec_with_an_id_is_called_by_it(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        stand.put("mary.yaml", spec(id="Spring.2025_v1"))
        await stand.inbox.scan()
        assert stand.lies_in("active") == ["Spring.2025_v1.yaml"]
        assert stand.accepted == ["Spring.2025_v1"]


async def test_a_name_of_a_jobs_shape_is_kept_while_the_index_does_not_know_it(autojump_clock, tmp_path):
    name = "20250728-120000-mary-ab12.yaml"
    async with open_stand(tmp_path) as stand:
        stand.put(name)
        await stand.inbox.scan()
        assert stand.lies_in("active") == [name]
        stand.put(name)
        await stand.inbox.scan()
        first, second = stand.ids()
        assert first + ".yaml" == name
        assert re.fullmatch(r"[0-9]{8}-[0-9]{6}-20250728-120000-mary-ab12-[a-z0-9]{4}", second)


async def test_without_an_id_every_drop_is_a_new_job(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        for _ in range(3):
            stand.put("mary.yaml")
            await stand.inbox.scan()
        assert len(set(stand.ids())) == 3


async def test_files_are_taken_in_order_of_date_then_name(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        for name, seconds in {"c": 5, "b": 7, "a": 7, "d": 1}.items():
            os.utime(stand.put(f"{name}.yaml", spec(name)), (seconds, seconds))
        await stand.inbox.scan()
        assert stand.prompts() == ["d", "c", "a", "b"]


async def test_a_bad_file_is_set_aside_with_its_reason_once_it_has_settled(autojump_clock, tmp_path, log):
    async with open_stand(tmp_path, settle=0.5) as stand:
        stand.put("mary.yaml", BAD)
        assert (await stand.inbox.scan()).settling == 1
        await trio.sleep(0.4)
        assert (await stand.inbox.scan()).settling == 1
        await trio.sleep(0.1)
        assert (await stand.inbox.scan()).rejected == 1
        assert stand.lies_in("rejected") == ["mary.error.txt", "mary.yaml"]
        error = (stand.jobs / "rejected/mary.error.txt").read_text()
        assert error.startswith('mary.yaml:3:1: unknown key "quantty"; did you mean "quantity"?\nquantty: 3\n^\n')
        assert stand.ids() == []
        assert [line["file"] for line in log if line["event"] == "rejected"] == ["mary.yaml"]


async def test_a_file_that_grows_line_by_line_is_not_judged_by_its_first_line(autojump_clock, tmp_path):
    """`echo … >> file` closes it after every line, so nobody has it open in between."""
    async with open_stand(tmp_path, settle=0.5) as stand:
        path = stand.jobs / "mary.yaml"
        for line in ("character: Mary\n", "width: 512\n", "prompt: a garden\n"):
            with path.open("a") as file:
                file.write(line)
            await trio.sleep(0.4)
            await stand.inbox.scan()
        await trio.sleep(0.5)
        assert (await stand.inbox.scan()).taken == 1
        assert stand.prompts() == ["a garden"]
        assert stand.lies_in("rejected") == []


async def test_what_grew_line_by_line_is_taken_whole_though_it_was_a_job_before_its_end(autojump_clock, tmp_path):
    async with open_stand(tmp_path, settle=0.5) as stand:
        path = stand.jobs / "mary.yaml"
        for line in ("character: Mary\n", "prompt: a garden\n", "quantity: 2\n"):
            with someone_writing(path, line):
                await stand.inbox.scan()  # while it is open again
            await trio.sleep(0.2)
            assert (await stand.inbox.scan()).taken == 0
        await trio.sleep(0.5)
        assert (await stand.inbox.scan()).taken == 1
        (taken,) = stand.lies_in("active")
        assert (stand.jobs / "active" / taken).read_text().endswith("quantity: 2\n")


async def test_an_empty_file_is_rejected_once_it_has_settled_and_not_before(autojump_clock, tmp_path):
    async with open_stand(tmp_path, settle=0.5) as stand:
        path = stand.put("mary.yaml", "")
        await stand.inbox.scan()
        await trio.sleep(0.49)
        assert (await stand.inbox.scan()).rejected == 0
        path.write_text(spec())
        assert (await stand.inbox.scan()).taken == 1
        stand.put("empty.yaml", "")
        assert (await stand.inbox.drain(patience=9)).rejected == 1
        assert "empty" in (stand.jobs / "rejected/empty.error.txt").read_text()


async def test_a_mended_file_is_taken_when_it_is_moved_back(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        stand.put("mary.yaml", BAD)
        await stand.inbox.drain(patience=9)
        aside = stand.jobs / "rejected/mary.yaml"
        aside.write_text(spec())
        aside.rename(stand.jobs / "mary.yaml")
        assert (await stand.inbox.scan()).taken == 1


async def test_a_file_that_is_mended_badly_comes_back_under_its_name_with_its_new_fault(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        stand.put("mary.yaml", BAD)
        await stand.inbox.drain(patience=9)
        (stand.jobs / "rejected/mary.yaml").unlink()
        stand.put("mary.yaml", "character: Mary\nprompt: x\ncolour: red\n")
        await stand.inbox.drain(patience=9)
        assert stand.lies_in("rejected") == ["mary.error.txt", "mary.yaml"]
        assert "colour" in (stand.jobs / "rejected/mary.error.txt").read_text()


async def test_nothing_in_rejected_is_ever_replaced_and_the_reason_follows_its_file(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        for n in range(3):
            stand.put("mary.yaml", BAD + f"colour{n}: x\n")
            await stand.inbox.drain(patience=9)
        stand.put("mary.json", "{}")
        await stand.inbox.drain(patience=9)
        stems = ["mary", "mary-2", "mary-3", "mary-4"]
        files = [f"{s}.yaml" for s in stems[:3]] + ["mary-4.json"] + [f"{s}.error.txt" for s in stems]
        assert stand.lies_in("rejected") == sorted(files)
        for n, stem in enumerate(stems[:3]):
            assert f"colour{n}" in (stand.jobs / f"rejected/{stem}.error.txt").read_text()
            assert f"colour{n}" in (stand.jobs / f"rejected/{stem}.yaml").read_text()


async def test_the_same_id_and_content_is_a_duplicate_and_makes_nothing(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        stand.put("mary.yaml", spec(id="one"))
        await stand.inbox.scan()
        for _ in range(2):
            stand.put("mary.yaml", "prompt: a garden\nid: one\ncharacter: Mary\n")
            assert (await stand.inbox.scan()).duplicates == 1
        assert stand.ids() == ["one"]
        assert stand.lies_in("duplicate") == ["mary-2.yaml", "mary.yaml"]
        assert stand.lies_in("active") == ["one.yaml"]


async def test_the_same_id_with_other_content_is_rejected(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        stand.put("mary.yaml", spec(id="one"))
        await stand.inbox.scan()
        stand.put("other.yaml", spec("something else", id="one"))
        assert (await stand.inbox.scan()).rejected == 1
        assert stand.lies_in("rejected") == ["other.error.txt", "other.yaml"]
        reason = (stand.jobs / "rejected/other.error.txt").read_text()
        assert reason.startswith("other.yaml: ")
        assert '"one" was used before' in reason


async def test_one_id_in_several_files_dropped_at_once_is_one_job(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        for n, name in enumerate(["a.yaml", "b.yaml", "c.yml", "d.yaml"]):
            os.utime(stand.put(name, spec("other" if name == "d.yaml" else "same", id="one")), (n, n))
        result = await stand.inbox.scan()
        assert (result.taken, result.duplicates, result.rejected) == (1, 2, 1)
        assert stand.lies_in("active") == ["one.yaml"]
        assert stand.lies_in("duplicate") == ["b.yaml", "c.yml"]
        assert stand.lies_in("rejected") == ["d.error.txt", "d.yaml"]


async def test_a_known_id_is_recognised_after_its_file_has_left_active(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        stand.put("mary.yaml", spec(id="one"))
        await stand.inbox.scan()
        (stand.jobs / "active/one.yaml").unlink()  # removing it changes nothing
        assert (await stand.inbox.scan()).taken == 0
        stand.put("mary.yaml", spec(id="one"))
        assert (await stand.inbox.scan()).duplicates == 1


async def test_a_stolen_character_is_rejected_after_the_file_was_taken(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        stand.put("a.yaml", "character: {id: c1, owner: alice}\nprompt: x\n")
        await stand.inbox.scan()
        stand.put("b.yaml", "character: {id: c1, owner: bob}\nprompt: x\n")
        assert (await stand.inbox.scan()).rejected == 1
        assert stand.lies_in("rejected") == ["b.error.txt", "b.yaml"]
        assert len(stand.lies_in("active")) == 1


async def test_a_style_nobody_knows_is_rejected_with_the_place(autojump_clock, tmp_path):
    async with open_stand(tmp_path, rules=Rules(backends=("pod",))) as stand:
        stand.put("a.yaml", spec(backend="pot"))
        await stand.inbox.drain(patience=9)
        assert (stand.jobs / "rejected/a.error.txt").read_text().startswith("a.yaml:3:")


async def test_a_file_somebody_is_writing_is_left_until_it_is_closed(autojump_clock, tmp_path):
    async with open_stand(tmp_path, settle=0.5) as stand:
        path = stand.jobs / "mary.yaml"
        with someone_writing(path, spec("half a sen")):
            for _ in range(4):
                result = await stand.inbox.scan()
                assert (result.taken, result.written, result.left) == (0, 1, 1)
                await trio.sleep(1)
        assert (await stand.inbox.scan()).taken == 1


async def test_where_nothing_tells_the_file_has_to_stand_still(autojump_clock, tmp_path):
    async with open_stand(tmp_path, settle=0.5, disk=Disk(leases=False)) as stand:
        path = stand.jobs / "mary.yaml"
        text = spec()
        for end in range(0, len(text) + 5, 5):
            path.write_text(text[:end])
            assert (await stand.inbox.scan()).taken == 0
            await trio.sleep(0.45)
        assert (await stand.inbox.scan()).taken == 0
        await trio.sleep(0.5)
        assert (await stand.inbox.scan()).taken == 1
        assert stand.prompts() == ["a garden"]


async def test_an_old_date_is_no_proof_that_a_copy_is_finished(autojump_clock, tmp_path):
    async with open_stand(tmp_path, settle=0.5, disk=Disk(leases=False)) as stand:
        os.utime(stand.put("mary.yaml"), (1, 1))
        assert (await stand.inbox.scan()).settling == 1


ODD = {
    "a directory": lambda path: path.mkdir(),
    "a fifo": os.mkfifo,
    "a link": lambda path: path.symlink_to(path.parent / "elsewhere/good.yaml"),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
}


@pytest.mark.parametrize("kind", ODD)
async def test_what_is_no_regular_file_is_left_alone_and_stops_nothing(autojump_clock, tmp_path, kind):
    async with open_stand(tmp_path) as stand:
        (stand.jobs / "elsewhere").mkdir()
        (stand.jobs / "elsewhere/good.yaml").write_text(spec())
        odd = stand.jobs / "a.yaml"
        ODD[kind](odd)
        before = odd.lstat()
        stand.put("b.yaml")
        result = await stand.inbox.scan()
        assert (result.taken, result.left, result.stuck) == (1, 0, 0)
        assert (odd.lstat().st_ino, odd.lstat().st_mode) == (before.st_ino, before.st_mode)
        assert (stand.jobs / "elsewhere/good.yaml").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"\xff\xfe\x00", "UTF-"),
        (b"prompt: caf\xe9\n", "UTF-8"),
        (b"[" * 100_000, "deep"),
        (b"character: Mary\nprompt: " + b"x" * (1 << 20), "large"),
        (b"a: &x 1\nb: *x\n", "a.yaml:1:"),
        (b"\x00" * 4096, "a.yaml:1:1"),
    ],
)
async def test_whatever_the_bytes_are_the_reason_is_told(autojump_clock, tmp_path, text, says):
    async with open_stand(tmp_path) as stand:
        stand.put("a.yaml", text)
        stand.put("b.yaml")
        result = await stand.inbox.drain(patience=9)
        assert (result.taken, result.rejected) == (1, 1)
        assert says in (stand.jobs / "rejected/a.error.txt").read_text()
        assert (stand.jobs / "rejected/a.yaml").read_bytes() == text


async def test_a_gigabyte_is_refused_without_reading_it(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        huge = stand.put("huge.yaml", "")
        os.truncate(huge, 1 << 30)
        assert (await stand.inbox.drain(patience=9)).rejected == 1
        assert (stand.jobs / "rejected/huge.yaml").stat().st_size == 1 << 30


HOSTILE = [
    "..yaml", "a_image_1.yaml", "CON.yaml", "a\nb.yaml", "\u202egnp.yaml", "🌸 🌸.yaml", "世界.yaml", "-rf.yaml",
    "caf\udce9.yaml", "x" * 250 + ".yaml", "世" * 83 + ".yaml", "$(reboot).yaml", "a'b\"c.yaml", "%00.yaml",
]  # fmt: skip


@pytest.mark.parametrize("text", [spec(), BAD, spec(id="one")])
async def test_hostile_names_are_taken_or_set_aside_like_others(autojump_clock, tmp_path, text):
    async with open_stand(tmp_path) as stand:
        taken = [name for name in HOSTILE if name != "..yaml"]  # that one is a dotfile
        for name in HOSTILE:
            stand.put(name, text)
        result = await stand.inbox.drain(patience=9)
        assert stand.waiting() == []
        assert result.taken + result.rejected + result.duplicates == len(taken)
        for folder in ("active", "rejected", "duplicate"):
            for name in stand.lies_in(folder):
                assert len(os.fsencode(name)) <= 255
        assert len([n for n in stand.lies_in("rejected") if n.endswith(".error.txt")]) == result.rejected


async def test_a_file_may_vanish_between_being_seen_and_being_read(autojump_clock, tmp_path):
    async def vanishing(call, *args):
        answer = call(*args)
        if call.__name__ == "_list":
            (tmp_path / "jobs/b.yaml").unlink()
        return answer

    async with open_stand(tmp_path, run_sync=vanishing) as stand:
        for name in "abc":
            stand.put(f"{name}.yaml", spec(name))
        assert (await stand.inbox.scan()).taken == 2
        assert stand.prompts() == ["a", "c"]


@pytest.mark.parametrize("leases", [True, False])
async def test_a_file_that_changes_between_being_read_and_being_taken_is_read_anew(autojump_clock, tmp_path, leases):
    changed = []

    def rename(source, target):
        if not changed:
            changed.append(source)
            Path(source).write_text(spec("second thoughts, longer"))
        Disk().rename(source, target)

    async with open_stand(tmp_path, disk=Disk(leases=leases, rename=rename), settle=0.5) as stand:
        stand.put("mary.yaml", spec("first"))
        result = await stand.inbox.drain(patience=9)
        assert (result.taken, len(changed)) == (1, 1)
        assert stand.prompts() == ["second thoughts, longer"]
        assert len(stand.lies_in("active")) == 1


async def test_a_file_replaced_between_being_read_and_being_set_aside_is_read_anew(autojump_clock, tmp_path):
    async def replacing(call, *args):
        if call.__name__ == "set_aside" and not replaced:
            replaced.append(stand.put("mary.yaml", spec("mended")))
        return call(*args)

    replaced = []
    async with open_stand(tmp_path, run_sync=replacing) as stand:
        stand.put("mary.yaml", BAD)
        result = await stand.inbox.drain(patience=9)
        assert (result.taken, result.rejected) == (1, 0)
        assert stand.prompts() == ["mended"]


async def test_what_lies_in_active_unknown_to_the_index_is_taken_anew(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        active = stand.jobs / "active"
        active.mkdir()
        (active / "20250728-120000-mary-ab12.yaml").write_text(spec("kept"))
        (active / "by-hand.yaml").write_text(spec("named"))
        (active / "wrong-name.yaml").write_text(spec("own", id="own"))
        (active / "bad.yaml").write_text(BAD)
        result = await stand.inbox.drain(patience=9)
        assert (result.taken, result.rejected) == (3, 1)
        files = stand.lies_in("active")
        assert {"20250728-120000-mary-ab12.yaml", "own.yaml"} < set(files)
        assert any(re.fullmatch(r"[0-9]{8}-[0-9]{6}-by-hand-[a-z0-9]{4}\.yaml", file) for file in files)
        assert stand.lies_in("rejected") == ["bad.error.txt", "bad.yaml"]
        assert (await stand.inbox.scan()).taken == 0


async def test_what_the_index_knows_is_left_in_active_however_often_it_is_looked_at(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        stand.put("mary.yaml")
        await stand.inbox.scan()
    async with open_stand(tmp_path) as stand:
        for _ in range(3):
            assert (await stand.inbox.scan()).taken == 0
        assert len(stand.lies_in("active")) == 1


async def test_an_unknown_file_under_the_id_of_a_new_one_goes_first(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        (stand.jobs / "active").mkdir()
        claimed = stand.jobs / "active/one.yaml"
        claimed.write_text(spec(id="one"))
        os.utime(stand.put("again.yaml", spec(id="one")), (1, 1))  # the older one by date
        result = await stand.inbox.drain(patience=9)
        assert (result.taken, result.duplicates) == (1, 1)
        assert stand.lies_in("active") == ["one.yaml"]
        assert stand.ids() == ["one"]


async def test_a_file_that_cannot_be_moved_is_told_once_and_tried_again_later(autojump_clock, tmp_path, log):
    refused = []

    def rename(source, target):
        if Path(source).name == "a.yaml" and len(refused) < 2:
            refused.append(source)
            raise PermissionError(errno.EPERM, "Operation not permitted", source)
        Disk().rename(source, target)

    async with open_stand(tmp_path, disk=Disk(leases=True, rename=rename)) as stand:
        stand.put("a.yaml", spec("a"))
        stand.put("b.yaml", spec("b"))
        result = await stand.inbox.drain(patience=9)
        assert (result.taken, result.stuck, result.left) == (1, 1, 0)
        assert stand.inbox.stuck.startswith("a.yaml cannot be taken (Operation not permitted); ")
        assert (await stand.inbox.scan()).stuck == 1
        assert len(refused) == 1  # an unchanged file is not tried at every pass
        (stand.jobs / "a.yaml").chmod(0o600)
        assert (await stand.inbox.scan()).stuck == 1
        assert len(refused) == 2
        await trio.sleep(TRIED_AGAIN)
        result = await stand.inbox.scan()
        assert (result.taken, result.stuck) == (1, 0)
        assert stand.inbox.stuck is None
        told = [line for line in log if "cannot be taken" in line["event"]]
        assert [line["file"] for line in told] == ["a.yaml", "a.yaml"]
        assert told[0]["reason"] == "Operation not permitted"


async def test_a_folder_that_takes_no_rejected_file_is_named(autojump_clock, tmp_path, log):
    async with open_stand(tmp_path) as stand:
        (stand.jobs / "rejected").write_text("a file where the folder belongs")
        stand.put("a.yaml", BAD)
        assert (await stand.inbox.drain(patience=9)).stuck == 1
        (told,) = [line["reason"] for line in log if "cannot be taken" in line["event"]]
        assert told.startswith(f"{stand.jobs / 'rejected'}")


@pytest.mark.parametrize("occupy", [Path.mkdir, lambda place: place.symlink_to("nowhere")])
async def test_what_is_no_file_and_has_the_jobs_name_in_active_is_named(autojump_clock, tmp_path, occupy):
    async with open_stand(tmp_path) as stand:
        place = stand.jobs / "active" / "A.yaml"
        place.parent.mkdir(exist_ok=True)
        occupy(place)
        stand.put("A.yaml", spec(id="A"))
        stand.put("b.yaml", spec("b"))
        result = await stand.inbox.drain(patience=9)
        assert (result.taken, result.stuck, result.left) == (1, 1, 0)
        assert stand.inbox.stuck.startswith(f"A.yaml cannot be taken ({place}: File exists); ")


async def test_a_rejected_file_that_cannot_be_moved_is_told_once_too(autojump_clock, tmp_path):
    def rename(source, target):
        raise PermissionError(errno.EPERM, "Operation not permitted", source)

    async with open_stand(tmp_path, disk=Disk(leases=True, rename=rename)) as stand:
        stand.put("a.yaml", BAD)
        result = await stand.inbox.drain(patience=9)
        assert (result.rejected, result.stuck, result.left) == (0, 1, 0)
        assert stand.waiting() == ["a.yaml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
async def test_an_unreadable_file_stops_nothing_and_is_taken_when_it_is_readable(autojump_clock, tmp_path, log):
    for parent in [tmp_path, *tmp_path.parents[:3]]:
        parent.chmod(parent.stat().st_mode | 0o755)
    async with open_stand(tmp_path) as stand:
        for folder in (stand.jobs, *(stand.jobs / name for name in ("active", "rejected", "duplicate", "done"))):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o777)
        locked = stand.put("a.yaml", spec("a"))
        locked.chmod(0)
        stand.put("b.yaml", spec("b"))
        os.seteuid(65534)
        try:
            result = await stand.inbox.drain(patience=9)
        finally:
            os.seteuid(0)
        assert (result.taken, result.stuck) == (1, 1)
        assert [line["reason"] for line in log if line.get("file") == "a.yaml"] == ["Permission denied"]
        locked.chmod(0o644)
        assert (await stand.inbox.scan()).taken == 1


async def test_ten_thousand_bad_files_do_not_make_ten_thousand_lines_of_log(autojump_clock, tmp_path, log):
    async with open_stand(tmp_path, settle=0) as stand:
        for n in range(NAMED + 7):
            stand.put(f"{n}.yaml", BAD)
        assert (await stand.inbox.scan()).rejected == NAMED + 7
    assert len([line for line in log if line["event"] == "rejected"]) == NAMED
    assert [line["files"] for line in log if "files" in line] == [7]


async def test_a_file_that_breaks_the_parser_stops_nothing_else(autojump_clock, tmp_path, log):
    async with open_stand(tmp_path, settle=0, rules=_BreaksOn("break")) as stand:
        stand.put("a.yaml", spec(style="break"))
        stand.put("b.yaml")
        result = await stand.inbox.scan()
        assert (result.taken, result.rejected) == (1, 1)
        assert "RecursionError" in (stand.jobs / "rejected/a.error.txt").read_text()
    assert [line for line in log if line.get("exc_info")]


class _BreaksOn:
    """Rules whose table of styles breaks for one style."""

    def __init__(self, style):
        self._style = style
        self._rules = Rules()

    def __getattr__(self, name):
        return self if name == "styles" else getattr(self._rules, name)

    def get(self, style):
        if style == self._style:
            raise RecursionError

    def __bool__(self):
        return False


@pytest.mark.parametrize("step", ["rename", "flush", "write"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EMFILE, errno.EIO])
async def test_a_full_or_broken_disk_loses_nothing_and_work_goes_on_by_itself(
    autojump_clock, tmp_path, log, step, code
):
    ails = [True]

    def ailing(*args):
        if ails[0]:
            raise OSError(code, os.strerror(code), str(args[0]))
        return getattr(Disk(), step)(*args)

    async with open_stand(tmp_path, disk=replace(Disk(leases=True), **{step: ailing})) as stand:
        stand.put("bad.yaml", BAD)
        stand.put("good.yaml")
        result = await stand.inbox.drain(patience=3)
        assert os.strerror(code) in result.trouble
        assert stand.inbox.hindrance == result.trouble
        assert result.rejected == 0
        ails[0] = False
        result = result.then(await stand.inbox.drain(patience=3))
        assert (result.taken, result.rejected, result.trouble) == (1, 1, None)
        assert stand.inbox.hindrance is None
        assert len(stand.ids()) == 1
        assert stand.lies_in("rejected") == ["bad.error.txt", "bad.yaml"]
    assert [line["log_level"] for line in log if "no job files are taken" in line["event"]] == ["error"]
    assert [line for line in log if "taken again" in line["event"]]


async def test_an_index_in_trouble_loses_nothing(autojump_clock, tmp_path):
    class Register:
        full = True

        def __init__(self, ledger):
            self._ledger = ledger
            self.known_among = ledger.known_among

        async def accept(self, jobs: list[Job]):
            if self.full:
                raise IndexTrouble("index.db: database or disk is full")
            return await self._ledger.accept(jobs)

    async with open_stand(tmp_path, register=Register) as stand:
        for name in "abc":
            stand.put(f"{name}.yaml", spec(name))
        assert (await stand.inbox.drain(patience=3)).trouble == "index.db: database or disk is full"
        Register.full = False
        assert (await stand.inbox.drain(patience=3)).taken == 3
        assert sorted(stand.prompts()) == ["a", "b", "c"]
        assert stand.waiting() == []


async def test_a_missing_folder_is_made_at_start_and_made_again_when_it_is_deleted(autojump_clock, tmp_path, log):
    async with open_stand(tmp_path) as stand:
        stand.jobs.rmdir()
        assert (await stand.inbox.scan()).trouble is None
        for folder in stand.jobs.iterdir():
            folder.rmdir()
        stand.jobs.rmdir()
        await stand.inbox.scan()
        stand.put("a.yaml")
        assert (await stand.inbox.scan()).taken == 1
    assert len([line for line in log if "was missing" in line["event"]]) == 2


async def test_a_file_in_the_place_of_a_folder_is_told_and_waited_out(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        blocker = stand.jobs / "active"
        blocker.write_text("in the way")
        stand.put("a.yaml")
        result = await stand.inbox.scan()
        assert str(blocker) in result.trouble
        blocker.unlink()
        assert (await stand.inbox.scan()).taken == 1


async def test_totals_add_up_and_tell_how_long_the_last_file_had_lain_there(autojump_clock, tmp_path):
    async with open_stand(tmp_path, settle=0, clock=lambda: 0) as stand:
        stand.put("a.yaml", spec(id="one"))
        stand.put("b.yaml", BAD)
        await stand.inbox.scan()
        stand.put("c.yaml", spec(id="one"))
        await stand.inbox.scan()
        totals = stand.inbox.totals
        assert (totals.taken, totals.rejected, totals.duplicates, totals.passes) == (1, 1, 1, 2)
        assert totals.lag == 0  # a clock set back makes no negative waits
        assert totals.passed_at == 0


async def test_how_long_a_duplicate_had_lain_there_is_not_told_of_the_file_taken_last(autojump_clock, tmp_path):
    async with open_stand(tmp_path, settle=0, clock=lambda: 4_000_000_000_000) as stand:
        stand.put("a.yaml", spec(id="one"))
        await stand.inbox.scan()
        taken = stand.put("b.yaml", spec(id="two"))
        dated = taken.stat().st_ctime_ns
        known = stand.put("c.yaml", spec(id="one"))
        while known.stat().st_ctime_ns == dated:
            known.touch()
        assert (await stand.inbox.scan()).duplicates == 1
        assert stand.inbox.totals.lag == 4e9 - dated / 1e9


async def test_by_default_leases_are_believed_on_a_local_disk(autojump_clock, tmp_path):
    async with open_stand(tmp_path, disk=Disk(), settle=0.1) as stand:
        with someone_writing(stand.jobs / "a.yaml", spec()):
            await stand.inbox.scan()
            await trio.sleep(1)
            assert (await stand.inbox.scan()).written == 1


async def test_when_file_descriptors_run_out_nothing_is_lost(autojump_clock, tmp_path):
    async def starved(call, *args):
        if call.__name__ != "draft" or not starving[0]:
            return call(*args)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            return call(*args)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    starving = [True]
    async with open_stand(tmp_path, run_sync=starved) as stand:
        stand.put("a.yaml")
        result = await stand.inbox.scan()
        assert (result.taken, result.stuck) == (0, 0)
        assert "Too many open files" in result.trouble
        starving[0] = False
        assert (await stand.inbox.scan()).taken == 1


@pytest.mark.parametrize(("step", "folder"), [("take", "active"), ("set_aside", "rejected")])
async def test_a_folder_deleted_in_the_middle_of_a_pass_is_made_again(autojump_clock, tmp_path, step, folder):
    async def deleting(call, *args):
        if call.__name__ == step and not deleted:
            deleted.append(step)
            (tmp_path / "jobs" / folder).rmdir()
        return call(*args)

    deleted = []
    async with open_stand(tmp_path, run_sync=deleting, settle=0) as stand:
        stand.put("good.yaml")
        stand.put("bad.yaml", BAD)
        assert folder in (await stand.inbox.scan()).trouble
        result = await stand.inbox.scan()
        assert result.trouble is None
        assert (stand.inbox.totals.taken, stand.inbox.totals.rejected) == (1, 1)


async def test_a_file_put_into_rejected_at_the_same_moment_is_not_replaced(autojump_clock, tmp_path):
    def rename(source, target):
        if not theirs:
            theirs.append(Path(target))
            theirs[0].write_text("theirs")
        Disk().rename(source, target)

    theirs = []
    async with open_stand(tmp_path, disk=Disk(leases=True, rename=rename), settle=0) as stand:
        stand.put("mary.yaml", BAD)
        assert (await stand.inbox.scan()).rejected == 1
        assert theirs[0].read_text() == "theirs"
        assert (stand.jobs / "rejected/mary-2.yaml").read_text() == BAD
        assert "quantty" in (stand.jobs / "rejected/mary-2.error.txt").read_text()


async def test_a_link_in_the_place_of_a_reason_is_neither_followed_nor_replaced(autojump_clock, tmp_path):
    async with open_stand(tmp_path, settle=0) as stand:
        await stand.inbox.scan()
        link = stand.jobs / "rejected/mary.error.txt"
        link.symlink_to(tmp_path / "elsewhere")
        stand.put("mary.yaml", BAD)
        assert (await stand.inbox.scan()).rejected == 1
        assert link.is_symlink()
        assert not (tmp_path / "elsewhere").exists()
        assert "mary-2.error.txt" in stand.lies_in("rejected")


async def test_a_file_that_was_stuck_is_forgotten_when_it_is_gone(autojump_clock, tmp_path):
    def rename(source, target):
        raise PermissionError(errno.EPERM, "Operation not permitted", source)

    async with open_stand(tmp_path, disk=Disk(leases=True, rename=rename)) as stand:
        path = stand.put("a.yaml")
        assert (await stand.inbox.scan()).stuck == 1
        path.unlink()
        assert (await stand.inbox.scan()).stuck == 0
