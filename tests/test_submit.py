import os
import re
import threading

import pytest

from pipeline.cli.waiting import follow
from pipeline.config import load_config
from pipeline.errors import SpecError, UserError
from pipeline.spec.job import parse_job
from pipeline.submit import Dropped, drop, with_id
from tests.support.door import open_stand, spec
from tests.support.index import adopted, job, make, open_index

NOON = 1_753_704_000_123  # 2025-07-28 12:00:00.123 UTC
ID = "20250728-120000-mary-ab12cd34"


def test_a_job_is_dropped_whole_under_its_name_with_an_id(tmp_path):
    dropped = drop(tmp_path / "jobs", spec().encode(), "mary.yaml", clock=lambda: NOON)
    assert dropped.path == tmp_path / "jobs/mary.yaml"
    assert re.fullmatch(r"20250728-120000-mary-[a-z0-9]{8}", dropped.job_id)
    assert dropped.path.read_text() == f"id: {dropped.job_id}\n{spec()}"
    assert [path.name for path in dropped.path.parent.iterdir()] == ["mary.yaml"]


def test_an_id_of_its_own_is_kept_and_the_text_untouched(tmp_path):
    text = b"# mine\nid: spring\r\ncharacter: Mary\nprompt: x"
    dropped = drop(tmp_path, text, "mary.yaml")
    assert dropped.job_id == "spring"
    assert dropped.path.read_bytes() == text


def test_nothing_in_the_folder_is_replaced(tmp_path):
    paths = [drop(tmp_path, spec().encode(), "mary.yaml").path.name for _ in range(3)]
    assert paths == ["mary.yaml", "mary-2.yaml", "mary-3.yaml"]


def test_several_programs_may_drop_the_same_name_at_once(tmp_path):
    dropped = []
    threads = [
        threading.Thread(target=lambda: dropped.append(drop(tmp_path, spec().encode(), "mary.yaml"))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({d.job_id for d in dropped}) == len({d.path for d in dropped}) == len(list(tmp_path.iterdir())) == 16


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mary.json", "mary.json"),
        ("mary.txt", "mary.txt.yaml"),
        ("mary", "mary.yaml"),
        (".mary.yaml", "mary.yaml"),
        ("/etc/../mary.yml", "mary.yml"),
        ("..", "job.yaml"),
        ("", "job.yaml"),
        ("x" * 300 + ".yaml", "x" * 250 + ".yaml"),
    ],
)
def test_the_file_gets_a_name_that_the_front_door_looks_at(tmp_path, name, file):
    dropped = drop(tmp_path, b'{"character": "Mary", "prompt": "x"}', name)
    assert dropped.path == tmp_path / file


def test_what_is_no_job_is_told_at_once_and_leaves_nothing(tmp_path):
    with pytest.raises(SpecError, match=r'mary.yaml:1:1: unknown key "charcter"; did you mean "character"'):
        drop(tmp_path / "jobs", b"charcter: Mary\n", "mary.yaml")
    assert not (tmp_path / "jobs").exists()


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    tmp_path.joinpath("jobs").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="jobs"):
        drop(tmp_path / "jobs", spec().encode(), "mary.yaml")


async def test_a_submitted_job_is_taken_once_however_often_it_is_submitted(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        first = drop(stand.jobs, spec().encode(), "mary.yaml")
        text = first.path.read_bytes()
        await stand.inbox.scan()
        assert stand.ids() == [first.job_id]
        drop(stand.jobs, text, "mary.yaml")
        assert (await stand.inbox.scan()).duplicates == 1


TEXTS = {
    "block": ("a.yaml", "character: Mary\nprompt: x\n", f"id: {ID}\ncharacter: Mary\nprompt: x\n"),
    "no line end": ("a.yaml", "character: Mary\nprompt: x", f"id: {ID}\ncharacter: Mary\nprompt: x"),
    "comment and marker": (
        "a.yaml",
        "%YAML 1.2\n---\n# hello\ncharacter: Mary\nprompt: |\n  x\n...\n",
        f"%YAML 1.2\n---\n# hello\nid: {ID}\ncharacter: Mary\nprompt: |\n  x\n...\n",
    ),
    "indented": ("a.yaml", "  character: Mary\n  prompt: x\n", f"  id: {ID}\n  character: Mary\n  prompt: x\n"),
    "explicit keys": ("a.yaml", "? character\n: Mary\n? prompt\n: x\n", f"id: {ID}\n? character\n: Mary\n? prompt\n: x\n"),
    "flow": ("a.yaml", "{character: Mary, prompt: x}", f'{{"id": "{ID}", character: Mary, prompt: x}}'),
    "json": ("a.json", '\n{ "character": "Mary", "prompt": "x"}', f'\n{{"id": "{ID}", "character": "Mary", "prompt": "x"}}'),
    "json in yaml": ("a.yaml", '{"character": "M", "prompt": "\\ud83c\\udf38"}', None),
    "null": ("a.yaml", "character: Mary\nid: null # none\nprompt: x\n", f'character: Mary\nid: "{ID}" # none\nprompt: x\n'),
    "tilde, dos": ("a.yaml", "character: Mary\r\nid: ~\r\nprompt: x\r\n", f'character: Mary\r\nid: "{ID}"\r\nprompt: x\r\n'),
    "nothing": ("a.yaml", "character: Mary\nid:\nprompt: x\n", f'character: Mary\nid: "{ID}"\nprompt: x\n'),
    "null in json": ("a.json", '{"id": null, "character": "M", "prompt": "x"}', f'{{"id": "{ID}", "character": "M", "prompt": "x"}}'),
    "byte order mark": ("a.yaml", "\ufeffcharacter: Mary\nprompt: x\n", f"id: {ID}\ncharacter: Mary\nprompt: x\n"),
    "after odd line ends": ("a.yaml", "# one\u2028# two\x85# three\rcharacter: Mary\nid: null\nprompt: x\n", None),
}  # fmt: skip


@pytest.mark.parametrize("kind", TEXTS)
def test_an_id_is_written_into_the_text_and_all_else_stays(kind):
    file, text, expected = TEXTS[kind]
    written = with_id(text.encode(), ID, file=file)
    if expected is not None:
        assert written.decode() == expected
    before, after = parse_job(text.encode(), file=file), parse_job(written, file=file)
    assert after == before.model_copy(update={"id": ID})


def test_a_text_that_takes_no_id_is_told_what_to_write():
    with pytest.raises(UserError, match=f"write `id: {ID}` and submit it again"):
        with_id(b"{character: Mary, id, prompt: x}", ID, file="a.yaml")


async def test_an_older_rejection_under_the_same_name_is_not_taken_for_this_drop(tmp_path, clock):
    config = load_config(None, environ={}).model_copy(update={"jobs": tmp_path / "jobs", "state": tmp_path})
    (tmp_path / "jobs/rejected").mkdir(parents=True)
    for name, text in (("mary.yaml", "id: one\ncharacter: Mary\n"), ("mary.error.txt", "`prompt` is missing")):
        (tmp_path / "jobs/rejected" / name).write_text(text)
        os.utime(tmp_path / "jobs/rejected" / name, (0, 0))
    async with open_index(tmp_path, clock) as ledger:
        await adopted(ledger)
        await ledger.accept([job("one")])
        await make(ledger, ledger.planned("one", 1)[0])
    taken = Dropped(tmp_path / "jobs/mary.yaml", "one", at=NOON)
    assert follow(config, [taken], patience=0.1, as_json=True) == 0
    os.utime(tmp_path / "jobs/rejected/mary.yaml", (NOON / 1000, NOON / 1000))
    assert follow(config, [taken], patience=0.1, as_json=True) == 1
