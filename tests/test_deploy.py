"""What `deploy/` and `docs/` hold for operators works with the program as it is."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import trio
import yaml
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from pipeline.catalogue import Catalogue
from pipeline.cli import main
from pipeline.config import load_config
from pipeline.ending.webhook import signature
from pipeline.errors import ConfigError
from pipeline.gallery.metrics import exposition
from pipeline.model import LaneState, Pulse
from pipeline.tools.readiness import READY, STOPPING, tell
from tests.support.index import START, adopted, give_up, images_of, job, make, open_index, send
from tests.support.loopback import Emulator, Reply, served

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
MINIMAL = "settle: 0\nscan_interval: 0.1\ngallery: {enabled: false}\n"


# -- the service manager is told


@pytest.fixture
def manager(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(60)
        listening.bind(str(tmp_path / "notify"))
        yield listening


def test_a_daemon_says_when_it_is_ready_and_when_it_stops(tmp_path, manager):
    (tmp_path / "pipeline.yaml").write_text(MINIMAL)
    environ = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run"], cwd=tmp_path, env=environ, stderr=subprocess.DEVNULL
    ) as daemon:
        try:
            assert manager.recv(99) == READY.encode()
            assert (tmp_path / "jobs").is_dir()
            assert daemon.poll() is None
            daemon.send_signal(signal.SIGTERM)
            assert manager.recv(99) == STOPPING.encode()
            assert daemon.wait(60) == 0
        finally:
            daemon.kill()


def test_a_manager_may_listen_on_an_abstract_socket():
    name = f"pipeline-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(5)
        listening.bind(f"\0{name}")
        tell(READY, {"NOTIFY_SOCKET": f"@{name}"})
        assert listening.recv(99) == b"READY=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_manager_nothing_is_said(environ, capsys):
    tell(READY, environ)
    assert capsys.readouterr().out == ""


def test_a_manager_that_does_not_listen_is_no_reason_to_stop(tmp_path, capsys):
    tell(READY, {"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert "service_manager_not_told" in capsys.readouterr().out


# -- secrets from files


def test_files_stand_in_for_variables_that_the_environment_lacks(tmp_path):
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "NOTIFY_SECRET").write_text("from the file\n")
    (folder / "PLACE").write_text("from the file")
    (folder / "not-a-variable").write_bytes(b"\xff")
    (folder / "FOLDER").mkdir()
    file = tmp_path / "pipeline.yaml"
    file.write_text('notify: {url: "https://${PLACE}.example/", secret: "${NOTIFY_SECRET}"}')
    config = load_config(file, environ={"CREDENTIALS_DIRECTORY": str(folder), "PLACE": "environment"})
    assert config.notify.key == b"from the file"
    assert config.notify.url == "https://environment.example/"
    for nowhere in ("", "credentials", str(tmp_path / "missing")):
        with pytest.raises(ConfigError, match="has no NOTIFY_SECRET"):
            load_config(file, environ={"CREDENTIALS_DIRECTORY": nowhere, "PLACE": "x"})
    (folder / "PLACE").write_bytes(b"\xff hush")
    with pytest.raises(ConfigError, match="a credential cannot be read") as caught:
        load_config(file, environ={"CREDENTIALS_DIRECTORY": str(folder)})
    assert "hush" not in str(caught.value)


# -- systemd and cron


def keys(unit):
    said = {}
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            said.setdefault(key, []).append(value)
    return said


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_valid(tmp_path, unit):
    for other in UNITS:  # the program is not installed where the units say
        (tmp_path / other.name).write_text(other.read_text().replace("/opt/pipeline/bin/pipeline", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / unit.name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_service_is_hardened():
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", DEPLOY / "systemd/pipeline.service"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-200:]


def test_the_service_waits_until_it_is_told_and_takes_its_secrets_from_files():
    said = keys(DEPLOY / "systemd/pipeline.service")
    assert said["Type"] == ["notify"]
    assert said["RestartPreventExitStatus"] == ["2"]
    names = [one.partition(":")[0] for one in said["LoadCredential"]]
    assert names == ["CLOUDINARY_URL", "RUNPOD_API_KEY", "NOTIFY_SECRET"]
    assert all(one.endswith(f"/{name}") for name, one in zip(names, said["LoadCredential"], strict=True))


def cron_lines():
    for line in (DEPLOY / "crontab").read_text().splitlines():
        proposed = line.removeprefix("# ")
        if re.match(r"[*\d]\S* \S+ \S+ \S+ \S+  ", proposed):
            yield proposed.split(None, 5)


@pytest.mark.parametrize("words", list(cron_lines()), ids=lambda words: words[5][18:50])
def test_the_lines_for_cron_work(workspace, words):
    assert len(list(cron_lines())) == 4
    assert all(re.fullmatch(r"[\d*/,-]+", field) for field in words[:5])
    assert "%" not in words[5].replace(r"\%", "")
    shell(workspace, words[5].replace(r"\%", "%"))
    if "submit" in words[5]:
        shell(workspace, words[5].replace(r"\%", "%"))
        assert submitted(workspace) == {f"mary-{today()}"}
    elif "weekly" in words[5]:
        assert (workspace / "jobs/weekly.yaml").exists()
    elif "backup" in words[5]:
        assert [path.name for path in (workspace / "backups").iterdir()] == [f"index-{today()}.db"]
    else:
        assert (workspace / "jobs/done/waiting.result.json").exists()


def test_the_timers_service_submits(workspace):
    (line,) = keys(DEPLOY / "systemd/pipeline-morning.service")["ExecStart"]
    shell(workspace, line.replace("%%", "%").replace("$$", "$").replace("/opt/pipeline/bin/", ""))
    assert submitted(workspace) == {f"mary-{today()}"}


def today():
    return datetime.now(UTC).astimezone().date().isoformat()


def submitted(folder):
    jobs = [yaml.safe_load(path.read_text()) for path in (folder / "jobs").glob("Mary*.json")]
    assert all(said["quantity"] == 4 for said in jobs)
    return {said["id"] for said in jobs}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace with a job that waits, and in front of PATH a `pipeline` that writes down how it is called."""
    for name in ("CLOUDINARY_URL", "PIPELINE_CONFIG", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    Path("pipeline.yaml").write_text(MINIMAL)
    Path("weekly.yaml").write_text("{character: Mary, prompt: x}")
    for name in ("jobs", "bin"):
        Path(name).mkdir()
    Path(".pipeline").mkdir(mode=0o700)

    async def make_index():
        async with open_index(Path(".pipeline")) as ledger:
            await ledger.accept([])

    trio.run(make_index)
    Path("jobs/waiting.yaml").write_text("{id: waiting, character: Mary, prompt: x, width: 64, height: 64}")
    program = Path("bin/pipeline")
    program.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" > {tmp_path}/called\n')
    program.chmod(0o700)
    return tmp_path


def shell(folder, line):
    """Run a line as /bin/sh has it, then the program as it was called, in this process."""
    line = line.replace("/srv/studio", str(folder))
    (folder / "called").unlink(missing_ok=True)
    subprocess.run(["/bin/sh", "-c", line], cwd=folder, env={"PATH": f"{folder}/bin:/usr/bin:/bin"}, check=True)
    if (folder / "called").exists():
        said = CliRunner().invoke(main, (folder / "called").read_text().split("\0")[:-1])
        assert said.exit_code == 0, said.output


# -- containers


def test_the_container_s_configuration_fits_its_volumes():
    config = load_config(DEPLOY / "pipeline.yaml", environ={})
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service = compose["services"]["pipeline"]
    mounted = {one.split(":")[1] for one in service["volumes"]}
    assert mounted == {str(config.jobs), str(config.state), str(config.store.folder)}
    assert {one.split(":")[0] for one in service["volumes"]} == set(compose["volumes"])
    assert service["ports"] == [f"127.0.0.1:{config.gallery.port}:{config.gallery.port}"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"


def test_the_image_runs_as_nobody_special_and_copies_what_there_is():
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    for line in lines:
        if line.startswith("COPY") and "--from" not in line:
            assert all((ROOT / source).exists() for source in line.split()[1:-1]), line


def test_the_healthcheck_asks_healthz():
    text = (DEPLOY / "Dockerfile").read_text()
    command = json.loads(re.search(r"HEALTHCHECK.*?CMD (\[.*?\])\n", text, re.DOTALL)[1])
    assert command[:2] == ["python", "-c"]

    class Health(Emulator):
        status = 200

        def route(self, method, path, query, body):
            assert path == "/healthz"
            return Reply(self.status)

    with served(Health()) as origin:
        check = partial(exec, command[2].replace("http://127.0.0.1:8787", origin), {})
        check()
        Health.status = 503
        with pytest.raises(urllib.error.HTTPError):
            check()


# -- what is watched


async def exposed(folder):
    """The exposition of an index in which every kind of thing has happened, as text."""
    pulse = Pulse(None, None, taken=1, rejected=0, duplicates=0, lag=0.1, passed_at=START, free_bytes=1 << 30)
    async with open_index(folder) as ledger:
        await adopted(ledger, "me")
        await ledger.accept([job("j1", quantity=3)])
        one, two, three = images_of(ledger, "j1")
        await make(ledger, one)
        await give_up(ledger, two)
        await send(ledger, three)
        await ledger.notes.lane(LaneState("pod", "ready", 2, 1, 3, 12.5, None, None))
        requests = {("/readyz", "200"): 3}
        return exposition(Catalogue(folder / "index.db"), now=START, requests=requests, pulse=pulse).decode()


def names_in(text):
    names = set()
    for family in text_string_to_metric_families(text):
        names |= {sample.name for sample in family.samples}
    return names


def named(expression):
    return set(re.findall(r"\bpipeline_[a-z_]+", expression))


def alerts():
    (group,) = yaml.safe_load((ROOT / "docs/alerts.yaml").read_text())["groups"]
    return group["rules"]


def panels():
    return json.loads((ROOT / "docs/grafana-dashboard.json").read_text())["panels"]


async def test_alerts_and_dashboard_name_metrics_that_exist(tmp_path):
    known = names_in(await exposed(tmp_path))
    told = [rule["expr"] for rule in alerts()]
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    for expression in (*told, *shown):
        assert named(expression) or "up{" in expression
        assert named(expression) <= known, expression
    assert {name for name in known if name.startswith("pipeline_")} == named(" ".join(shown))  # nothing is forgotten


PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's `prometheus` has it)")


@needs_promtool
def test_prometheus_own_tool_finds_nothing_amiss_with_the_metrics(tmp_path):
    text = trio.run(exposed, tmp_path)
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_promtool
def test_prometheus_own_tool_takes_the_alerts():
    done = subprocess.run(
        [PROMTOOL, "check", "rules", ROOT / "docs/alerts.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(alerts())} rules found" in done.stdout


def test_alerts_are_whole():
    rules = alerts()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+m", rule["for"])
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_the_dashboard_is_whole():
    shown = panels()
    assert len({panel["id"] for panel in shown}) == len(shown)
    for panel in shown:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for other in shown:
            there = other["gridPos"]
            apart = (
                place["x"] + place["w"] <= there["x"]
                or there["x"] + there["w"] <= place["x"]
                or place["y"] + place["h"] <= there["y"]
                or there["y"] + there["h"] <= place["y"]
            )
            assert other is panel or apart


# -- the receiver on the page


def test_the_receiver_shown_tells_genuine_messages_from_others():
    page = (ROOT / "docs/webhooks.md").read_text()
    shown = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], shown)
    moment = int(shown["time"].time())
    for secret, key in (("whisper", b"whisper"), ("whsec_d2hpc3Blcg==", b"whisper")):
        for at, body, genuine in ((moment, b"{}", True), (moment, b"{ }", False), (moment - 999, b"{}", False)):
            headers = {
                "webhook-id": "msg_1",
                "webhook-timestamp": str(at),
                "webhook-signature": f"v1,AAAA {signature(key, 'msg_1', at, b'{}')}",
            }
            assert shown["genuine"](secret, headers, body) is genuine


def test_nothing_in_deploy_is_executable_by_accident():
    assert not [path for path in DEPLOY.rglob("*") if path.is_file() and path.stat().st_mode & stat.S_IXUSR]
