"""Odd words, names and places at the command line: each is told in a sentence, and JSON stays JSON."""

import json
import os
import shlex
import subprocess
import sys

import pytest

from tests.test_cli import CONFIG, SMALL, call, drop, workspace

__all__ = ["workspace"]  # the fixture


ONE_AFTER_ANOTHER = """
import sys
from pipeline.__main__ import main
for words in sys.argv[1:]:
    sys.argv[1:] = words.split()
    try:
        main()
    except SystemExit as end:
        assert not end.code
    print(end="\\0")
"""


NOT_UTF8 = "\\xff is not UTF-8; names and texts are"


@pytest.mark.parametrize(
    "words",
    [("status", b"\xff"), ("status", "--label", b"\xff"), ("gallery", b"\xff"), ("submit", "--prompt", b"in \xff")],
)
def test_a_word_that_is_not_utf8_is_refused(workspace, words):
    answer = call(*map(os.fsdecode, words))
    assert answer.exit_code == 2
    assert NOT_UTF8 in answer.stderr


def test_typed_it_is_refused_too(workspace):
    command = [sys.executable, "-m", "pipeline", "status", b"\xff"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 2
    assert NOT_UTF8 in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_file_may_have_any_name(workspace):
    (workspace / "jobs" / os.fsdecode(b"\xffmary.yaml")).write_text("quantty: 1\n")
    assert call("run", "--once").exit_code == 1
    for words in (("status", "--json"), ("validate", os.fsdecode(b"jobs/rejected/\xffmary.yaml"), "--json")):
        assert "mary" in json.dumps(json.loads(call(*words).stdout_bytes.decode()))
    assert json.loads(call("status", "--json").stdout)["rejected"] == ["\\xffmary"]


def test_a_number_beyond_all_images_is_refused(workspace):
    assert call("run", "--once").exit_code == 0
    for words in (("gallery", "mary"), ("remove", "mary"), ("retry", "mary")):
        answer = call(*words, "9" * 25)
        assert answer.exit_code == 2, answer.output
        assert "is not in the range" in answer.output


def test_what_an_image_waits_for_is_told_also_while_it_is_made_again(workspace):
    drop(workspace, "mary.yaml", f"id: a\ncharacter: Mary\nprompt: x\nseed: 13\n{SMALL}")
    assert call("run", "--once").exit_code == 1
    (workspace / "pipeline.yaml").write_text(CONFIG.replace("sketch: {type", "pen: {type"))
    assert call("retry", "a").exit_code == 0
    answer = call("run", "--once", "--patience", "0.2")
    assert answer.exit_code == 1
    assert '"waits_for": ["back end sketch is not configured"]' in answer.stderr
    assert "JOBS 0 running, 0 waiting · 1 image is made again" in call("status").output


def test_a_lost_index_is_noticed_before_it_is_begun_anew(workspace):
    drop(workspace, "mary.yaml", f"id: a\ncharacter: Mary\nprompt: x\n{SMALL}")
    assert "pipeline reindex" not in call("run", "--once").stderr
    assert "pipeline reindex" not in call("run", "--once").stderr
    for file in (workspace / ".pipeline").glob("index.db*"):
        file.unlink()
    for words in (["pause"], ["cancel", "a"], ["favorite", "mary", "1"]):
        answer = call(*words)
        assert answer.exit_code == 1
        assert "there is no index, but jobs have ended here; `pipeline reindex`" in answer.output
    assert "There is no index, but jobs have ended here: `pipeline reindex`" in call("run", "--once").stderr


def test_an_index_that_cannot_be_opened_is_told_with_what_it_needs(workspace):
    (workspace / ".pipeline/index.db").mkdir(parents=True)
    answer = call("status")
    assert answer.exit_code == 1
    assert answer.stderr.endswith("see that its disk has room, and that this user may write beside it\n")


def test_a_log_that_cannot_be_written_keeps_nothing_from_being_made(workspace):
    for n, redirection in enumerate(("2>/dev/full", "2>&-", ">&- 2>&- <&-")):
        drop(workspace, "mary.yaml", f"id: a{n}\ncharacter: Mary\nprompt: x\n{SMALL}")
        command = f"{shlex.quote(sys.executable)} -m pipeline run --once {redirection}"
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        assert subprocess.run(command, shell=True, env=buffered, timeout=60, check=False).returncode == 0
        assert (workspace / f"jobs/done/a{n}.result.json").exists()


def test_answers_that_cannot_be_written_are_told_without_a_traceback(workspace):
    command = f"{shlex.quote(sys.executable)} -m pipeline schema >/dev/full"
    answer = subprocess.run(command, shell=True, timeout=60, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr == "stdout cannot be written (No space left on device); send it elsewhere, or make room\n"


def test_what_a_terminals_encoding_lacks_is_written_otherwise(workspace):
    drop(workspace, "mary.yaml", f"id: a\ncharacter: Zoë\nprompt: ein Garten im März 日本\n{SMALL}")
    assert call("run", "--once").exit_code == 0
    asked = ["status a --json", "status", "status a"]
    shown = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_ANOTHER, *asked],
        env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=True,
    ).stdout.split(b"\0")  # fmt: skip
    assert json.loads(shown[0])["data"]["prompt"] == "ein Garten im März 日本"
    assert b"Zo\\xeb" in shown[2]
    assert all(text.isascii() for text in shown)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_what_is_no_number_is_not_left_out_unsaid(workspace, value):
    answer = call("submit", "--character", "Mary", "--prompt", "x", "--cfg-scale", value)
    assert answer.exit_code == 2
    assert "is no JSON value" in answer.output
    assert not list((workspace / "jobs").iterdir())


def test_validate_reads_what_is_piped_to_it(workspace):
    answer = call("validate", "-", input=f"character: Mary\nprompt: x\n{SMALL}".encode())
    assert (answer.exit_code, answer.output) == (0, "stdin.yaml: 1 image of Mary\n")
    answer = call("validate", "-", input=b"character: Mary\nquantty: 2\n")
    assert answer.exit_code == 2
    assert answer.output.startswith('stdin.yaml:2:1: unknown key "quantty"')
