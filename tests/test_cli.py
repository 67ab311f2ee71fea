"""The front desk: commands as a person calls them, on real workspaces."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import COMMANDS, main
from pipeline.cli.words import ago, span
from pipeline.naming import slugify
from tests.support.waiting import until

EXAMPLES = Path(__file__).parent.parent / "jobs" / "examples"
CONFIG = """\
gallery: {enabled: false}
settle: 0.05
store: {type: local}
backends:
  sketch: {type: sketch, fail_seeds: [13], attempts: 1}
"""


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with a configuration, and the environment's accounts out of the way."""
    for name in ("CLOUDINARY_URL", "PIPELINE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    (tmp_path / "jobs").mkdir()
    return tmp_path


def call(*words: str, input: bytes | None = None) -> Result:
    return CliRunner().invoke(main, list(words), input=input, prog_name="pipeline")


def drop(workspace: Path, name: str, text: str) -> None:
    (workspace / "jobs" / name).write_text(text)


SMALL = "width: 64\nheight: 64\n"


def test_every_command_has_a_help_page_and_the_sentence_of_the_list():
    listing = call("--help").output
    for name, (_, line) in COMMANDS.items():
        page = call(name, "--help")
        assert page.exit_code == 0, page.output
        assert f"{name} " in listing
        assert line in listing


@pytest.mark.parametrize(
    ("command", "spared"),
    [
        ("--version", ("trio", "httpx", "PIL", "pydantic", "starlette", "rich")),
        ("status", ("trio", "httpx", "PIL", "starlette", "pipeline.lifecycle", "pipeline.spec.job")),
        ("run", ("starlette", "rich", "httpx._main", "cloudinary")),
    ],
)
def test_a_command_loads_no_library_that_it_can_do_without(command, spared):
    code = "import sys; from pipeline.__main__ import main\ntry: main()\nexcept SystemExit: pass\nprint([m for m in sys.modules if sys.modules[m]])"
    answer = subprocess.run([sys.executable, "-c", code, command, "--help"], capture_output=True, text=True, check=True)
    loaded = answer.stdout.rpartition("[")[2]
    assert "'pipeline.cli'" in loaded
    assert [name for name in spared if f"'{name}'" in loaded] == []


def test_the_end_of_a_command_does_not_wait_for_a_search_through_all_libraries():
    code = (
        "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 0)); "
        "from pipeline.cli import main; main(['schema'])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.endswith("True\n")


def test_an_unknown_command_names_the_nearest():
    answer = call("stats")
    assert answer.exit_code == 2
    assert 'No such command "stats". Did you mean "status"?' in answer.output
    assert call("--version").output.startswith("pipeline ")


def test_init_takes_a_folder_and_no_configuration_to_read(workspace):
    answer = CliRunner().invoke(main, ["--config", str(workspace / "there/pipeline.yaml"), "init"])
    assert answer.exit_code == 2
    assert f"pipeline init {workspace}/there writes a pipeline.yaml there" in answer.output
    assert not (workspace / "jobs/examples").exists()


def test_init_writes_what_validates_and_never_twice(workspace):
    folder = workspace / "new"
    assert "wrote" in call("init", str(folder)).output
    (folder / "pipeline.yaml").write_text("# mine\n")
    again = call("init", str(folder))
    assert "nothing was changed" in again.output
    assert (folder / "pipeline.yaml").read_text() == "# mine\n"
    example = folder / "jobs" / "examples" / "portrait.yaml"
    assert call("validate", str(example)).exit_code == 0
    assert json.loads((folder / "jobs" / "examples" / "job.schema.json").read_text())["type"] == "object"
    (workspace / "file").write_text("")
    assert call("init", str(workspace / "file" / "sub")).exit_code == 2


def test_a_bad_configuration_is_told_with_its_place_and_nothing_starts(workspace):
    (workspace / "pipeline.yaml").write_text("jobs: jobs\nstroe: local\n")
    answer = call("run", "--once")
    assert answer.exit_code == 2
    assert 'pipeline.yaml:2:1: unknown key "stroe"; did you mean "store"?' in answer.output
    assert not (workspace / ".pipeline").exists()


@pytest.mark.parametrize("state", ["/dev/null/state", "taken"])
def test_a_state_folder_that_cannot_be_is_told_and_nothing_starts(workspace, state):
    (workspace / "taken").write_text("a file of the user's")
    (workspace / "pipeline.yaml").write_text(f"state: {state}\n")
    for command in ("run --once", "pause", "reindex"):
        answer = call(*command.split())
        assert answer.exit_code == 2, answer.output
        assert "state: " in answer.stderr
        assert "name a folder that this user may make and write to" in answer.stderr
    assert (workspace / "taken").stat().st_mode & 0o777 != 0o700


def test_the_configuration_is_found_by_option_before_and_after_the_command(workspace):
    other = workspace / "elsewhere"
    other.mkdir()
    (other / "p.yaml").write_text("default_owner: ann\n")
    path = str(other / "p.yaml")
    assert call("--config", path, "token", "create", "ann").exit_code == 0
    assert call("token", "list", "--config", path).output.count("ann") == 1
    assert (other / ".pipeline" / "tokens").exists()
    assert call("token", "list").output.startswith("no tokens yet")


def test_schemas_are_printed(workspace):
    assert "character" in json.loads(call("schema").output)["properties"]
    assert "backends" in json.loads(call("schema", "--config", "--json").output)["properties"]


def test_tokens_are_made_listed_and_revoked(workspace):
    token = call("token", "create", "alice", "--name", "phone", "--expires", "30d").output.strip()
    assert token.startswith("pl_")
    assert "\n" not in token
    call("token", "create", "--all")
    listed = json.loads(call("token", "list", "--json").output)
    assert [(one["owner"], one["name"]) for one in listed] == [("alice", "phone"), (None, None)]
    assert token not in call("token", "list").output
    assert "revoked" in call("token", "revoke", "phone").output
    assert call("token", "revoke", "phone").exit_code == 2
    assert call("token", "create").exit_code == 2
    assert call("token", "create", "bob", "--expires", "soon").exit_code == 2
    assert call("token", "create", "bob", "--expires", "0s").exit_code == 2


@pytest.mark.parametrize("owner", ["bad/owner", "", "-x", "a" * 129])
def test_a_token_for_what_no_owner_is_called_is_not_made(workspace, owner):
    assert call("token", "create", "--", owner).exit_code == 2
    assert json.loads(call("token", "list", "--json").output) == []


def test_an_unreadable_account_in_the_environment_is_no_matter_of_a_local_store(workspace):
    """In a process of its own: the SDK reads its environment once, when it is imported."""
    environ = {"PATH": "/usr/bin:/bin", "CLOUDINARY_URL": "garbage"}
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", "--once"], env=environ, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr


def test_validate_prints_the_plan(workspace):
    drop(workspace, "m.yaml", f"character: Mary\nprompt: [in a garden, at sea]\nquantity: 2\nseed: 7\n{SMALL}")
    answer = call("validate", "jobs/m.yaml", "--plan")
    assert answer.exit_code == 0, answer.output
    assert "4 images of Mary" in answer.output
    assert "mary_image_4  seed 10  at sea" in answer.output
    (told,) = json.loads(call("validate", "jobs/m.yaml", "--plan", "--json").output)
    assert [image["filename"] for image in told["images"]] == [f"mary_image_{n}" for n in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("character", "begins"),
    [
        ("Mary", "mary_image_3"),  # by its slug, whatever its id
        ("'123'", "mary_image_3"),
        ("{id: '123'}", "mary_image_3"),
        ("{id: '77', name: Mary}", "mary-2_image_1"),
        ("{name: Mary, owner: bob}", "mary_image_1"),
    ],
)
def test_the_plan_goes_on_where_the_character_stands(worked_for_123, character, begins):
    drop(worked_for_123, "p.yaml", f"character: {character}\nprompt: x\n{SMALL}")
    (told,) = json.loads(call("validate", "jobs/p.yaml", "--plan", "--json").output)
    assert told["images"][0]["filename"] == begins


def test_validate_refuses_with_the_place(workspace):
    drop(workspace, "bad.yaml", "character: Mary\nprompt: x\nquantty: 2\n")
    answer = call("validate", "jobs/bad.yaml", "jobs/none.yaml")
    assert answer.exit_code == 2
    assert 'bad.yaml:3:1: unknown key "quantty"; did you mean "quantity"?' in answer.output
    assert "none.yaml: cannot be read (No such file or directory)" in answer.output
    told = json.loads(call("validate", "jobs/bad.yaml", "--json").stdout)
    assert told[0]["valid"] is False


def test_validate_prints_how_a_workflow_is_bound(workspace):
    flow = Path(__file__).parent / "workflows"
    exported = next(flow.glob("*sd15*.json"), None) or min(flow.glob("*.json"))
    (workspace / "pipeline.yaml").write_text(f"backends: {{pod: {{type: comfyui, workflow: {exported}}}}}\n")
    drop(workspace, "m.yaml", "character: Mary\nprompt: x\n")
    answer = call("validate", "jobs/m.yaml", "--plan")
    assert "workflow of pod:" in answer.output, answer.output
    assert "prompt ->" in answer.output
    (workspace / "pipeline.yaml").write_text("backends: {pod: {type: comfyui, workflow: nowhere.json}}\n")
    assert "nowhere.json: the workflow of pod cannot be read" in call("validate", "jobs/m.yaml", "--plan").output


@pytest.mark.parametrize(("others", "code"), [("", 2), (", hand: {type: sketch}", 0)])
def test_a_workflow_that_cannot_make_the_job_is_told_and_refuses_it_where_there_is_no_other(workspace, others, code):
    seedless = Path(__file__).parent / "workflows" / "no_seed.json"
    (workspace / "pipeline.yaml").write_text(f"backends: {{pod: {{type: comfyui, workflow: {seedless}}}{others}}}\n")
    drop(workspace, "m.yaml", "character: Mary\nprompt: x\nquantity: 2\n")
    answer = call("validate", "jobs/m.yaml", "--plan")
    assert answer.exit_code == code, answer.output
    assert "no_seed.json has no seed input, so all 2 images would be the same" in answer.output
    assert ("left out for this job: " in answer.output) is (code == 0)


@pytest.mark.parametrize(
    "example", sorted(EXAMPLES.glob("*.yaml")) + sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.name
)
def test_the_examples_are_valid(workspace, example):
    if example.name == "job.schema.json":
        pytest.skip("the schema beside the examples is no job")
    answer = call("validate", str(example))
    assert "unknown style" not in answer.output
    assert answer.exit_code == 0, answer.output


def test_submit_prints_the_id_and_writes_a_valid_file(workspace):
    answer = call(
        "submit", "--character", "Mary", "--prompt", "in a garden", "-n", "2", "--seed", "7", "--label", "spring",
        "--stagger", "1m",
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    (file,) = (workspace / "jobs").glob("*.json")
    said = json.loads(file.read_text())
    assert said["id"] == answer.output.strip()
    assert (said["quantity"], said["seed"], said["labels"], said["prompt"]) == (2, 7, ["spring"], "in a garden")
    assert said["stagger"] == 60
    assert call("validate", str(file)).exit_code == 0


def test_submit_takes_the_body_of_the_old_request_from_stdin(workspace):
    body = b'{"characterId": "123", "prompt": "at sea", "numImages": 2}'
    answer = call("submit", "-", input=body)
    assert answer.exit_code == 0, answer.output
    assert call("submit", "--json", "-", input=body).output.startswith("[")


def test_submit_refuses_what_would_be_rejected(workspace):
    assert call("submit").exit_code == 2
    without_prompt = call("submit", "--character", "Mary")
    assert without_prompt.exit_code == 2
    assert "`prompt` is missing" in without_prompt.output
    assert call("submit", "--character", "Mary", "--prompt", "x", "--backend", "nowhere").exit_code == 2
    assert not list((workspace / "jobs").glob("*.json"))
    assert call("submit", "--character", "Mary", "--prompt", "x", "-n", "0").exit_code == 2
    assert call("submit", "nowhere.yaml").exit_code == 2
    drop(workspace, "two.txt", "character: Mary\nprompt: x\n")
    assert call("submit", "jobs/two.txt", "--character", "Mary").exit_code == 2


def test_once_works_off_what_is_there_and_tells_by_its_exit_code(workspace):
    drop(workspace, "good.yaml", f"id: good\ncharacter: Mary\nprompt: in a garden\nquantity: 3\nseed: 1\n{SMALL}")
    answer = call("run", "--once")
    assert answer.exit_code == 0, answer.output
    result = json.loads((workspace / "jobs/done/good.result.json").read_text())
    assert result["success"] is True
    assert [image["filename"] for image in result["data"]["images"]] == ["mary_image_1", "mary_image_2", "mary_image_3"]
    assert (workspace / "jobs/done/good.yaml").exists()
    assert min((workspace / "images/me/characters/mary/images").iterdir()).name == "mary_image_1.png"
    drop(workspace, "spoilt.yaml", f"id: spoilt\ncharacter: Mary\nprompt: in a garden\nseed: 13\n{SMALL}")
    assert call("run", "--once").exit_code == 1
    assert json.loads((workspace / "jobs/done/spoilt.result.json").read_text())["data"]["images"][0]["number"] == 4
    drop(workspace, "wrong.yaml", "charcter: Mary\n")
    assert call("run", "--once").exit_code == 1
    assert 'did you mean "character"?' in (workspace / "jobs/rejected/wrong.error.txt").read_text()


@pytest.fixture
def worked_for_123(workspace):
    """A workspace with two images of a character whose id is not its slug."""
    drop(workspace, "a.yaml", f"character: {{id: '123', name: Mary}}\nprompt: x\nquantity: 2\n{SMALL}")
    call("run", "--once")
    return workspace


@pytest.fixture
def worked(workspace):
    """A workspace with a done job and one placeholder in it."""
    drop(workspace, "a.yaml", f"id: a\ncharacter: Mary\nprompt: [in a garden, at sea]\nseed: 12\nlabels: [x]\n{SMALL}")
    call("run", "--once")
    return workspace


def test_status_shows_the_whole_and_one_job(worked):
    whole = call("status").output
    assert "not running" in whole
    assert "JOBS 0 running, 0 waiting" in whole
    assert "1 placeholder" in whole
    told = json.loads(call("status", "--json").output)
    assert told["images"]["done"] == 1
    one = call("status", "a").output
    assert "mary_image_2  placeholder  sketch  failed: sketch was told to fail on seed 13" in one
    assert "StoredAt" in one
    assert json.loads(call("status", "a", "--json").output)["data"]["placeholderCount"] == 1
    assert call("status", "nobody").exit_code == 2


@pytest.mark.parametrize(
    "words",
    ["status", "status a", "status --json", "gallery", "gallery --json", "gallery mary", "gallery mary 1 --as-job",
     "verify --json", "export mary out", "backup copy.db", "remove mary 1"],
)  # fmt: skip
def test_before_anything_ran_what_reads_the_index_says_what_to_do(workspace, words):
    answer = call(*words.split())
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert "there is no index" in answer.stderr
    assert isinstance(answer.exception, SystemExit)


def test_a_mended_file_is_no_longer_told_as_rejected(workspace):
    drop(workspace, "a.yaml", f"character: Mary\nprompt: x\nquantty: 1\n{SMALL}")
    drop(workspace, "b.yaml", f"character: Mary\nprompt: x\nquantitee: 1\n{SMALL}")
    call("run", "--once")
    assert json.loads(call("status", "--json").output)["rejected"] == ["a", "b"]
    (workspace / "jobs/rejected/b.yaml").rename(workspace / "elsewhere.yaml")
    assert json.loads(call("status", "--json").output)["rejected"] == ["a"]
    assert "1 rejected: a.yaml:3:1" in call("status").output


def test_gallery_lists_characters_images_and_one(worked):
    assert "mary  Mary  2 images" in call("gallery").output
    assert "mary_image_2  placeholder" in call("gallery", "mary").output
    told = json.loads(call("gallery", "mary", "1", "--json").output)
    assert (told["filename"], told["seed"], told["status"]) == ("mary_image_1", 12, "done")
    assert json.loads(call("gallery", "--json").output)[0]["characterId"] == "mary"
    assert len(json.loads(call("gallery", "mary", "--json").output)) == 2
    assert call("gallery", "bob").exit_code == 2
    assert call("gallery", "mary", "9").exit_code == 2


def test_verify_names_each_kind_of_damage(worked):
    assert call("verify").output == "all is well\n"
    images = worked / "images/me/characters/mary/images"
    (images / "mary_image_1.png").write_bytes(b"changed")
    (images / "mary_image_2.png").unlink()
    (images / "mary_image_9.png").write_bytes(b"stranger")
    (worked / ".pipeline/spool/77-x.img").write_bytes(b"orphan")
    (worked / ".pipeline/kept").mkdir(exist_ok=True)
    (worked / ".pipeline/kept/5-x.img").write_bytes(b"paid")
    answer = call("verify")
    assert answer.exit_code == 1
    kinds = [one["kind"] for one in json.loads(call("verify", "--json").output)]
    assert sorted(kinds) == ["changed", "extra", "kept", "missing", "spool_orphan"]
    assert "5 problems" in answer.output


def test_verify_compares_with_the_store_itself(worked):
    assert call("verify", "--store").output == "all is well\n"
    (worked / "images/me/characters/mary/images/mary_image_2.png").unlink()
    assert {one["kind"] for one in json.loads(call("verify", "--store", "--json").output)} == {"missing"}


def test_waiting_for_a_submitted_job_shows_its_end(workspace):
    daemon = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run"],
        cwd=workspace,
        stderr=subprocess.PIPE,
    )
    try:
        answer = call(
            "submit", "--character", "Mary", "--prompt", "x", "--width", "64", "--height", "64", "-n", "2", "--wait"
        )
        assert answer.exit_code == 0, answer.output
        assert "2/2" in answer.output
        spoilt = call(
            "submit",
            "--character",
            "Mary",
            "--prompt",
            "x",
            "--seed",
            "13",
            "--width",
            "64",
            "--height",
            "64",
            "--wait",
            "--json",
        )
        assert spoilt.exit_code == 1
        told = json.loads(spoilt.stdout)
        assert told["success"] is False
        assert told["data"]["placeholderCount"] == 1
        declined = call("submit", "--character-id", "mary", "--owner", "eve", "--prompt", "x", "--wait")
        assert declined.exit_code == 1
        assert "rejected:" in declined.output
        again = ("submit", "--id", "one", "--width", "64", "--height", "64", "--wait", "--json", "--character", "Mary")
        assert call(*again, "--prompt", "x").exit_code == 0
        assert json.loads(call(*again, "--prompt", "x").stdout)["data"]["generatedCount"] == 1
        other = call(*again, "--prompt", "y")
        assert other.exit_code == 1
        assert json.loads(other.stdout)["code"] == "rejected"
        assert "different content" in other.stderr
    finally:
        daemon.terminate()
        assert daemon.wait(15) == 0
        assert daemon.stderr is not None
        daemon.stderr.close()


def test_a_run_says_what_its_gallery_exposes_and_where_to_look(workspace):
    (workspace / "pipeline.yaml").write_text("gallery: {host: 0.0.0.0, port: 0}\n")
    refused = call("run")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("gallery.host: 0.0.0.0 reaches beyond this machine and no token exists")
    call("token", "create", "alice")
    command = [sys.executable, "-m", "pipeline", "run"]
    with subprocess.Popen(command, cwd=workspace, stderr=subprocess.PIPE, text=True) as daemon:
        watching, exposed, look = (daemon.stderr.readline() for _ in range(3))
        daemon.terminate()
        daemon.stderr.read()
    assert daemon.returncode == 0
    assert watching == f"Watching {workspace / 'jobs'}\n"
    assert "beyond this machine" in exposed
    assert "1 token can read" in exposed
    assert look.startswith("Look at http://127.0.0.1:")


def test_waiting_without_a_daemon_ends_with_a_hint(workspace):
    answer = call("submit", "--character", "Mary", "--prompt", "x", "--wait", "--patience", "0.3")
    assert answer.exit_code == 1
    assert "is `pipeline run` running for this folder?" in answer.output
    told = json.loads(call("submit", "--character", "M", "--prompt", "x", "--wait", "--patience", "0", "--json").stdout)
    assert (told["success"], told["code"]) == (False, "not_taken")


def test_who_waits_no_longer_is_told_that_the_job_goes_on(workspace):
    words = [
        sys.executable,
        "-m",
        "pipeline",
        "submit",
        "--character",
        "Mary",
        "--prompt",
        "x",
        "--id",
        "one",
        "--wait",
    ]
    with subprocess.Popen(words, cwd=workspace, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            until((workspace / "jobs/Mary.json").exists)
            process.send_signal(signal.SIGINT)
            said, told = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, said) == (1, "")
    assert told == "one: not waited for any longer; it goes on, and `pipeline status one` shows how\n"


def test_durations_are_said_as_people_say_them():
    assert [span(seconds) for seconds in (11, 240, 11520, 190_800)] == ["11 s", "4 min", "3 h 12 m", "2 d 5 h"]
    assert ago("2025-07-28T10:00:00Z", 1753697100000) == "5 min"
    assert ago("nonsense", 0) == ""


def test_the_slug_of_the_demo_is_stable():
    assert slugify("Mary in a garden") == "mary-in-a-garden"


def _hears(pid, number):
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return int(caught.split()[1], 16) >> (number - 1) & 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells what a process listens for")
@pytest.mark.parametrize("command", ["run", "serve"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_while_libraries_are_loaded_ends_a_service_well(tmp_path, command, number):
    words = [sys.executable, "-m", "pipeline", command]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not _hears(process.pid, signal.SIGTERM):
                assert process.poll() is None
            process.send_signal(number)
            assert process.wait(20) == 0
            assert process.stderr.read() == "", "it had begun its work already"
        finally:
            process.kill()
