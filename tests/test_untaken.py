"""A job that lies in the folder and that no daemon has taken yet: commands that name it say so."""

import json

import pytest

from pipeline.inbox.dropped import untaken
from tests.support.waiting import until
from tests.test_cli import SMALL, call, drop, workspace
from tests.test_cli_steer import Workspace

__all__ = ["workspace"]  # the fixture

JOB = f"id: nightly\ncharacter: Mary\nprompt: [a, b]\nquantity: 2\nlabels: [spring]\n{SMALL}"
NAME = "20250101-000000-mary-abcd"


def test_its_status_is_that_of_a_job_that_waits(workspace):
    drop(workspace, "mary.yaml", JOB)
    path = workspace / "jobs/mary.yaml"
    words = f"lies in {path} and was not taken yet; `pipeline run` takes it"
    assert call("status", "nightly").output == f"nightly  queued  0/4  {words}\n"
    told = json.loads(call("status", "nightly", "--json").stdout)
    assert call("run", "--once").exit_code == 0
    taken = json.loads(call("status", "nightly", "--json").stdout)
    assert list(told["data"]) == list(taken["data"])
    assert told["success"]
    changed = {key for key, value in told["data"].items() if taken["data"][key] != value}
    assert changed == {
        "status", "reason", "characterId", "imageUrl", "imageUrls", "generatedCount", "queuedCount", "createdAt",
        "startedAt", "finishedAt", "images",
    }  # fmt: skip
    assert (told["data"]["queuedCount"], told["data"]["reason"]) == (4, words)


def test_the_overview_counts_the_files_that_nobody_has_taken(workspace):
    assert call("run", "--once").exit_code == 0
    assert "JOBS 0 running, 0 waiting\n" in call("status").output
    for n, told in enumerate(("1 file", "2 files")):
        drop(workspace, f"mary{n}.yaml", JOB)
        drop(workspace, f"draft{n}.tmp", JOB)
        assert f"JOBS 0 running, 0 waiting · {told} not taken yet\n" in call("status").output
    assert json.loads(call("status", "--json").stdout)["notTaken"] == 2


def test_a_file_that_cannot_be_taken_is_named_with_the_reason(tmp_path):
    space = Workspace(tmp_path)
    (tmp_path / "jobs/rejected").write_text("in the way")
    (tmp_path / "jobs/bad.yaml").write_text("quantty: 1\n")
    with space.at_work():
        (trouble,) = until(space.catalogue.troubles)
        assert trouble.what == "files"
        assert trouble.reason.startswith(f"bad.yaml cannot be taken ({tmp_path / 'jobs/rejected'}")
        assert "files: bad.yaml cannot be taken" in space.call("status")


@pytest.mark.parametrize("command", ["cancel", "pause", "retry"])
def test_what_would_steer_it_says_how_to_keep_it_from_being_made(workspace, command):
    drop(workspace, "mary.yaml", JOB)
    answer = call(command, "nightly")
    assert answer.exit_code == 1
    assert f"nightly lies in {workspace / 'jobs/mary.yaml'} and was not taken yet" in answer.output
    assert not json.loads(call(command, "nightly", "--json").stdout)["success"]
    assert call(command, "another").exit_code == 2


def test_it_is_found_by_its_id_or_by_a_name_like_a_jobs(workspace):
    jobs = workspace / "jobs"
    drop(workspace, f"{NAME}.yaml", f"character: Mary\nprompt: x\n{SMALL}")
    drop(workspace, "mary.yaml", f"# nightly\nid: other\ncharacter: Mary\nprompt: nightly\n{SMALL}")
    drop(workspace, "bad.yaml", "id: nightly\nquantty: 2\n")
    drop(workspace, "draft.tmp", JOB)
    (jobs / "link.yaml").symlink_to(jobs / "draft.tmp")
    (jobs / "nightly.yaml").mkdir()
    assert untaken(jobs, "nightly") is None
    assert untaken(jobs, "mary") is None
    found = [untaken(jobs, job_id) for job_id in (NAME, "other")]
    assert [one.path.name for one in found if one] == [f"{NAME}.yaml", "mary.yaml"]
    assert untaken(jobs / "none", "nightly") is None
