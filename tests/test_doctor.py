"""The examination: each kind of trouble is planted and has to be named with its remedy; nothing is changed, no secret told."""

import time
from contextlib import ExitStack

import orjson
import pytest
import trio
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.config import load_config
from pipeline.doctor import World, examine
from pipeline.gallery.tokens import Tokens
from pipeline.tools.locks import hold
from tests.support.a1111_emulator import A1111
from tests.support.cloudinary_emulator import CLOUD, KEY, SECRET, CloudinaryEmulator
from tests.support.comfyui_emulator import Comfy
from tests.support.index import by_id, job, open_index
from tests.support.loopback import Weather, served
from tests.support.runpod_emulator import KEY as RUNPOD_KEY
from tests.support.runpod_emulator import RunPod

LOCAL = "gallery: {enabled: false}\nstore: {type: local}\n"
ROOM = 100_000_000_000


def configured(folder, text=LOCAL):
    (folder / "pipeline.yaml").write_text(text)
    return load_config(folder / "pipeline.yaml", environ={})


async def findings(folder, text=LOCAL, **world):
    found = await examine(configured(folder, text), World(**({"free_bytes": lambda _: ROOM} | world)))
    assert len({one.name for one in found}) == len(found)
    return {one.name: one for one in found}


async def troubles(folder, text=LOCAL, **world):
    return {name: one.message for name, one in (await findings(folder, text, **world)).items() if not one.ok}


async def test_all_is_well_with_everything_there_and_nothing_is_changed(tmp_path):
    comfy, webui, pod = Comfy(), A1111(), RunPod()
    with ExitStack() as stack:
        cloud = stack.enter_context(CloudinaryEmulator())
        comfy_url, webui_url, pod_url = (stack.enter_context(served(one)) for one in (comfy, webui, pod))
        text = f"""
gallery: {{port: 0}}
store: {{type: cloudinary, cloud_name: {CLOUD}, api_key: {KEY}, api_secret: {SECRET}, upload_prefix: "{cloud.url}"}}
backends:
  comfy: {{type: comfyui, url: "{comfy_url}"}}
  webui: {{type: a1111, url: "{webui_url}", user: me, password: open-sesame-7}}
  pod: {{type: runpod, url: "{pod_url}/v2/e", api_key: {RUNPOD_KEY}}}
  sketch: {{type: sketch}}
styles:
  anime: {{backend: [comfy, webui], model: animagine.safetensors}}
"""
        found = await findings(tmp_path, text)
    assert {name: one.message for name, one in found.items() if not one.ok} == {}
    assert [name for name in found if name.startswith("back end") and "," not in name] == [
        f"back end {name}" for name in ("comfy", "webui", "pod", "sketch")
    ]
    assert found["store (cloudinary)"].message == "cloud demo: answers"
    assert "set model in the job or its style" in found["back end comfy, jobs without a style"].message
    assert "as http://127.0.0.1" in found["clock"].message
    assert found["port"].message == "127.0.0.1:0 is free"
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline.yaml"]
    assert (comfy.accepted, webui.paid, pod.paid, cloud.uploads) == ([], 0, 0, 0)
    whole = " ".join(one.message for one in found.values())
    assert not [secret for secret in (SECRET, KEY, RUNPOD_KEY, "open-sesame-7") if secret in whole]


async def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "jobs").write_text("a file")
    (tmp_path / "images").write_text("a file")
    found = await troubles(tmp_path, LOCAL + "state: jobs/state\n")
    assert set(found) == {"jobs folder", "state folder", "images folder"}
    assert (
        found["images folder"]
        == f"{tmp_path}/images: {tmp_path}/images is no folder; move it away, or name another one"
    )


async def test_a_folder_of_somebody_else(tmp_path):
    found = await troubles(tmp_path, LOCAL + "jobs: /proc/self/jobs\n")
    assert found == {
        "jobs folder": "/proc/self/jobs: /proc/self cannot be written by this user; change its owner or its mode"
    }


async def test_a_network_file_system_is_refused_for_the_state_and_told_for_the_jobs(tmp_path):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"36 35 98:0 / {tmp_path} rw - nfs4 server:/export rw\n")
    found = await findings(tmp_path, mountinfo=mounts)
    assert [name for name, one in found.items() if not one.ok] == ["state folder"]
    assert "lies on a shared file system (nfs4" in found["state folder"].message
    assert "found by scanning" in found["jobs folder"].message


async def test_room_on_the_disks(tmp_path):
    assert set(await troubles(tmp_path, free_bytes=lambda _: 1_000_000)) == {
        "jobs folder", "state folder", "images folder",
    }  # fmt: skip
    found = await findings(tmp_path, free_bytes=lambda _: 600_000_000)
    assert found["state folder"].ok
    assert "600 MB free; while the store is down the spool may take 10 GB" in found["state folder"].message
    assert (await findings(tmp_path))["jobs folder"].message.endswith("100 GB free")


async def test_an_index_is_opened(tmp_path):
    (tmp_path / ".pipeline").mkdir()
    async with open_index(tmp_path / ".pipeline") as ledger:
        await ledger.accept([job("a")])
    assert "0 images" in (await findings(tmp_path))["index"].message
    (tmp_path / ".pipeline/index.db").write_bytes(b"nonsense" * 1000)
    assert "file is not a database" in (await troubles(tmp_path))["index"]


@pytest.mark.parametrize(
    ("moment", "told"),
    [
        (lambda: 1000, "1970-01-01T00:00:01.000Z; set it right"),
        (lambda: round((time.time() + 4000) * 1000), r"s ahead of http://127.0.0.1"),
        (lambda: round((time.time() - 4000) * 1000), r"s behind http://127.0.0.1"),
    ],
)
async def test_a_clock_that_is_wrong(tmp_path, moment, told):
    with served(A1111()) as url:
        text = (
            f"{LOCAL}backends: {{w: {{type: a1111, url: '{url}'}}, gone: {{type: a1111, url: 'http://127.0.0.1:9'}}}}\n"
        )
        found = await troubles(tmp_path, text, clock=moment)
    assert told in found["clock"]


async def test_the_port_and_who_may_look(tmp_path):
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    taken = listeners[0].socket.getsockname()[1]
    text = f"gallery: {{port: {taken}}}\nstore: {{type: local}}\n"
    async with listeners[0]:
        assert "cannot be listened on" in (await troubles(tmp_path, text))["port"]
        with hold(tmp_path / ".pipeline", process="pipeline run"):
            found = await findings(tmp_path, text)
    assert "is left to process" in found["port"].message
    assert "(pipeline run)" in found["daemon"].message
    open_wide = "gallery: {host: 0.0.0.0, port: 0}\nstore: {type: local}\n"
    assert "pipeline token create" in (await troubles(tmp_path, open_wide))["tokens"]
    Tokens(tmp_path / ".pipeline/tokens").create("alice")
    assert "1 token can read" in (await findings(tmp_path, open_wide))["tokens"].message


async def test_keys_of_logins_are_read(tmp_path):
    text = "gallery: {port: 0, jwt: {key: nowhere.pem}}\nstore: {type: local}\n"
    assert "nowhere.pem" in (await troubles(tmp_path, text))["tokens"]
    (tmp_path / "nowhere.pem").write_text("no key")
    text = "gallery: {port: 0, jwt: {secret: '0123456789012345678901234567890123'}}\nstore: {type: local}\n"
    assert await troubles(tmp_path, text) == {}


async def test_a_store_that_refuses_us(tmp_path):
    with CloudinaryEmulator() as cloud:
        place = f'cloud_name: {CLOUD}, api_key: {KEY}, api_secret: wrong-secret-1, upload_prefix: "{cloud.url}"'
        found = await troubles(tmp_path, f"gallery: {{enabled: false}}\nstore: {{type: cloudinary, {place}}}\n")
    assert "check cloud_name, api_key and api_secret" in found["store (cloudinary)"]
    assert "wrong-secret-1" not in found["store (cloudinary)"]


async def test_a_store_that_is_not_to_be_had(tmp_path):
    place = f'cloud_name: {CLOUD}, api_key: {KEY}, api_secret: wrong-secret-1, upload_prefix: "http://127.0.0.1:9"'
    found = await troubles(tmp_path, f"gallery: {{enabled: false}}\nstore: {{type: cloudinary, {place}}}\n")
    assert "is this machine online, and upload_prefix right?" in found["store (cloudinary)"]


async def test_a_local_store_is_tried_where_it_is(tmp_path):
    (tmp_path / "images").mkdir()
    assert (await findings(tmp_path))["store (local)"].message == f"{tmp_path}/images: answers"
    assert list((tmp_path / "images").iterdir()) == []


async def test_back_ends_that_do_not_answer(tmp_path):
    silent, pod = A1111(), RunPod()
    silent.weather.append(Weather("hang", times=99))
    (tmp_path / "broken.json").write_text("{}")
    with served(silent) as silent_url, served(pod) as pod_url:
        text = f"""{LOCAL}
backends:
  silent: {{type: a1111, url: "{silent_url}"}}
  gone: {{type: comfyui, url: "http://127.0.0.1:9"}}
  broke: {{type: runpod, url: "{pod_url}/v2/e", api_key: wrong-key-17}}
  bent: {{type: comfyui, url: "http://127.0.0.1:9", workflow: broken.json}}
"""
        found = await troubles(tmp_path, text, timeout=0.3)
    assert found["back end silent"] == "no answer within 0.3 s; is it running, and reachable from here?"
    assert found["back end gone"].endswith("connection refused; start it, or correct its address in pipeline.yaml")
    assert "refuses our credentials (401)" in found["back end broke"]
    assert "broken.json" in found["back end bent"]
    assert "wrong-key-17" not in str(found)


async def test_what_styles_and_characters_name_is_looked_for(tmp_path):
    (tmp_path / ".pipeline").mkdir()
    async with open_index(tmp_path / ".pipeline") as ledger:
        await ledger.accept([job("a", by_id("m", embedding="mary-v2")), job("b", by_id("x", embedding="nobody-v9"))])
    with served(A1111()) as url:
        text = f"""{LOCAL}
backends: {{webui: {{type: a1111, url: "{url}"}}, sketch: {{type: sketch}}}}
styles:
  anime: {{model: animagine.safetensors}}
  oil: {{model: oil-9.safetensors}}
  drawn: {{model: whatever, backend: sketch}}
  odd: {{seed: 4294967295, quantity: 2}}
"""
        found = await troubles(tmp_path, text)
    assert set(found) == {'back end webui, style "oil"', "back end webui, character x", 'style "odd"'}
    assert 'no model "oil-9.safetensors" is installed there' in found['back end webui, style "oil"']
    assert 'no embedding "nobody-v9" is installed there' in found["back end webui, character x"]
    assert "leaves no seed" in found['style "odd"']


def call(*words):
    return CliRunner().invoke(main, list(words), prog_name="pipeline")


@pytest.mark.parametrize(("no_color", "coloured"), [("1", False), ("", True)])
def test_no_color_is_heeded(tmp_path, monkeypatch, no_color, coloured):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.yaml").write_text("stroe: local\n")
    answer = CliRunner().invoke(main, ["doctor"], color=True, env={"NO_COLOR": no_color})
    assert ("\x1b[" in answer.output) is coloured


def test_the_command_prints_a_line_each_and_tells_by_its_exit_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("PIPELINE_CONFIG", "CLOUDINARY_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "jobs").mkdir()
    well = call("doctor", "--timeout", "1s")
    assert "ok       configuration    no pipeline.yaml here" in well.output
    (tmp_path / "pipeline.yaml").write_text("gallery: {enabled: false}\n")
    told = orjson.loads(call("doctor", "--json").stdout)
    assert told[0] == {"name": "configuration", "ok": True, "message": str(tmp_path / "pipeline.yaml")}
    assert call("doctor").output.endswith("all is well\n")
    (tmp_path / "images").write_text("a file")
    spoilt = call("doctor")
    assert spoilt.exit_code == 1
    assert "TROUBLE  images folder" in spoilt.output
    assert spoilt.output.endswith("1 thing to mend\n")
    (tmp_path / ".pipeline").write_text("a file")
    assert call("doctor").output.endswith("2 things to mend\n")
    (tmp_path / "pipeline.yaml").write_text("stroe: local\n")
    refused = call("doctor")
    assert refused.exit_code == 1
    assert "TROUBLE  configuration  " in refused.output
    assert 'did you mean "store"?' in refused.output
    assert refused.output.endswith("1 thing to mend\n")


async def test_no_secret_is_told_whatever_quotes_it(tmp_path):
    hushed = "open-sesame-7"
    text = f"jobs: {hushed}/jobs\nbackends: {{webui: {{type: a1111, user: me, password: {hushed}}}}}\n{LOCAL}"
    found = await findings(tmp_path, text, timeout=0.1)
    assert "***/jobs" in found["jobs folder"].message
    assert not any(hushed in one.message for one in found.values())
