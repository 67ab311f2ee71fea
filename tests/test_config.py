"""pipeline.yaml and the environment: what is understood, what the defaults are, and what stops everything."""

import os
import textwrap
from pathlib import Path

import pytest

from pipeline.config import (
    INIT_TEMPLATE,
    A1111Config,
    CloudinaryConfig,
    ComfyuiConfig,
    Config,
    JwtConfig,
    LocalConfig,
    RunpodConfig,
    SketchConfig,
    load_config,
)
from pipeline.errors import ConfigError
from pipeline.spec.keys import Rules

CLOUD = {"CLOUDINARY_URL": "cloudinary://KEY:SEC%2FRET@cloud?upload_prefix=http://127.0.0.1:99"}
CONTRACT = """\
jobs: in
state: /var/lib/p
default_owner: alice
settle: 2s
scan_interval: 1m
spool_limit: 500MB
keep_done: 30d
gallery: {enabled: no, host: 0.0.0.0, port: 9000, cors: "https://app.example"}
store:
  type: cloudinary
  cloud_name: demo
  api_key: ${CLOUDINARY_API_KEY}
  api_secret: "${CLOUDINARY_API_SECRET}"
  access: public
backends:
  pod: {type: comfyui, url: "https://PODID-8188.proxy.runpod.net/", workflow: workflows/anime.json, timeout: 10m}
  xl: {type: runpod, endpoint: abc123, api_key: "${RUNPOD_API_KEY}", worker: a1111, price_per_hour: 1.10}
  near: {type: runpod, url: "http://127.0.0.1:9000/v2/e", worker: custom, input: {a: ["{prompt}", 1]}}
  webui: {type: a1111, user: me, password: hush, allow_hosts: 10.0.0.1}
  draw: {type: sketch, concurrency: 3, delay: 0.5, fail_seeds: [7, 8]}
styles:
  anime: {backend: [pod, xl], model: animagine.safetensors, steps: 28, prompt: "{prompt}, soft light"}
  realistic: {backend: xl, negativePrompt: "{negative_prompt}, cartoon", x-note: mine}
default_style: anime
default_backend: pod
notify: {url: https://app.example/hook/, secret: "${HOOK:-whisper}", allow_hosts: [app.example]}
"""
ENVIRON = {"CLOUDINARY_API_KEY": "k", "CLOUDINARY_API_SECRET": "s", "RUNPOD_API_KEY": "rp"}


@pytest.fixture
def load(tmp_path):
    def _load(text, environ=None):
        file = tmp_path / "pipeline.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(file, environ=environ or {})

    return _load


@pytest.fixture
def refusal(load, tmp_path):
    def _refusal(text, environ=None):
        with pytest.raises(ConfigError) as caught:
            load(text, environ)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return _refusal


def test_without_a_file_there_are_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(None, environ={})
    assert (config.source, config.root) == (None, tmp_path)
    assert (config.jobs, config.state) == (tmp_path / "jobs", tmp_path / ".pipeline")
    assert config.store == LocalConfig(folder=tmp_path / "images")
    assert config.backends == {"sketch": SketchConfig()}
    assert (config.settle, config.scan_interval, config.spool_limit, config.keep_done) == (0.5, 2.0, 10**10, None)
    assert (config.gallery.host, config.gallery.port, config.gallery.enabled) == ("127.0.0.1", 8787, True)
    assert config.gallery.public_url == "http://127.0.0.1:8787"
    assert config.rules() == Rules(default_owner="me", backends=("sketch",))


@pytest.mark.parametrize(
    "text",
    [INIT_TEMPLATE, f"{INIT_TEMPLATE}jobs: jobs\n", "", "\n\n", "# nothing\n", "\ufeff# nothing\n", "jobs: jobs\n"],
)
def test_what_init_writes_changes_nothing(load, text, tmp_path):
    config = load(text)
    assert config.source == tmp_path / "pipeline.yaml"
    assert config == load("settle: 0.5")


def test_every_line_of_the_template_is_understood_once_it_is_uncommented(load):
    kept = [line for line in INIT_TEMPLATE.splitlines() if not line.startswith("# store") or "without it" in line]
    kept = [line for line in kept if line not in ("#   type: local", "#   folder: images")]
    lines = [line.removeprefix("# ") for line in kept if line.startswith(("#  ", "# ")) and ":" in line]
    prose = ("pipeline.yaml:", "${NAME}", "Without back ends")
    text = "\n".join(line for line in lines if not line.startswith(prose))
    environ = ENVIRON | {"GALLERY_JWT_SECRET": "x" * 32, "NOTIFY_SECRET": "y"}
    config = load(text, environ)
    assert config.model_fields_set == set(Config.model_fields)
    assert set(config.backends) == {"pod", "xl", "webui"}


def test_the_whole_configuration(load, tmp_path):
    config = load(CONTRACT, ENVIRON)
    assert (config.jobs, config.state, config.root) == (tmp_path / "in", Path("/var/lib/p"), tmp_path)
    assert (config.settle, config.scan_interval, config.spool_limit) == (2.0, 60.0, 500_000_000)
    assert config.keep_done == 30 * 86400
    assert (config.gallery.enabled, config.gallery.cors) == (False, ("https://app.example",))
    assert config.gallery.public_url == "http://127.0.0.1:9000"
    assert isinstance(config.store, CloudinaryConfig)
    assert (config.store.cloud_name, config.store.access) == ("demo", "public")
    assert (config.store.api_key.get_secret_value(), config.store.api_secret.get_secret_value()) == ("k", "s")
    assert config.store.upload_prefix == "https://api.cloudinary.com"
    assert config.notify is not None
    assert config.notify.secret is not None
    assert (config.notify.secret.get_secret_value(), config.notify.allow_hosts) == ("whisper", ("app.example",))


def test_the_back_ends(load, tmp_path):
    pod, xl, near, webui, draw = load(CONTRACT, ENVIRON).backends.values()
    assert isinstance(pod, ComfyuiConfig)
    assert (pod.base_url, pod.timeout) == ("https://PODID-8188.proxy.runpod.net", 600.0)
    assert pod.workflow == tmp_path / "workflows/anime.json"
    assert isinstance(xl, RunpodConfig)
    assert (xl.base_url, xl.worker, xl.price_per_hour) == ("https://api.runpod.ai/v2/abc123", "a1111", 1.1)
    assert isinstance(near, RunpodConfig)
    assert (near.base_url, near.input) == ("http://127.0.0.1:9000/v2/e", {"a": ["{prompt}", 1]})
    assert isinstance(webui, A1111Config)
    assert (webui.base_url, webui.user, webui.allow_hosts) == ("http://127.0.0.1:7860", "me", ("10.0.0.1",))
    assert isinstance(draw, SketchConfig)
    assert (draw.base_url, draw.concurrency, draw.delay, draw.fail_seeds) == (None, 3, 0.5, (7, 8))


@pytest.mark.parametrize(
    ("kind", "defaults"),
    [
        ("sketch", (len(os.sched_getaffinity(0)), 0.0, 20.0)),
        ("runpod, url: 'http://h', api_key: k", (3, 0.1, 150.0)),
        ("comfyui", (2, 0.5, 20.0)),
        ("a1111", (1, 0.0, 20.0)),
    ],
)
def test_defaults_by_type(load, kind, defaults):
    backend = load(f"backends: {{b: {{type: {kind}}}}}").backends["b"]
    assert (backend.concurrency, backend.stagger, backend.poll_rate) == defaults
    assert (backend.timeout, backend.attempts, backend.allow_hosts, backend.price_per_hour) == (600.0, 3, (), None)


def test_the_rules_for_jobs(load):
    rules = load(CONTRACT, ENVIRON).rules()
    assert (rules.default_owner, rules.default_style, rules.default_backend) == ("alice", "anime", ("pod",))
    assert rules.backends == ("pod", "xl", "near", "webui", "draw")
    assert rules.styles["anime"].said() == {
        "backend": ("pod", "xl"), "model": "animagine.safetensors", "steps": 28, "prompt": "{prompt}, soft light",
    }  # fmt: skip
    assert rules.styles["realistic"].negative_prompt == "{negative_prompt}, cartoon"
    assert rules.notify == "https://app.example/hook/"


def test_a_style_without_keys_is_a_style(load):
    rules = load("styles:\n  plain:\n  empty: {}\ndefault_style: plain\n").rules()
    assert {name: style.said() for name, style in rules.styles.items()} == {"plain": {}, "empty": {}}


def test_a_path_wins_over_the_variable_and_that_over_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("pipeline", "named", "given"):
        (tmp_path / f"{name}.yaml").write_text(f"default_owner: {name}\n")
    environ = {"PIPELINE_CONFIG": "named.yaml"}
    assert load_config(tmp_path / "given.yaml", environ=environ).default_owner == "given"
    assert load_config(None, environ=environ).default_owner == "named"
    assert load_config(None, environ={"PIPELINE_CONFIG": ""}).default_owner == "pipeline"


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read(tmp_path, name):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / name, environ={})


def test_references_to_the_environment(load):
    environ = {"A": "alice", "EMPTY": "", "N": "7"}
    assert load("default_owner: ${A}-${B:-b}-${EMPTY:-c}", environ).default_owner == "alice-b-c"
    assert load("settle: ${N}", environ).settle == 7.0
    assert load("settle: ${EMPTY}", environ).settle == 0.5
    assert load("settle: ${X:-}", environ).settle == 0.5
    styled = load("styles: {s: {prompt: '$${a} ${N}', backend: ['${B:-sketch}']}}", environ).styles["s"]
    assert (styled.prompt, styled.backend) == ("${a} 7", ("sketch",))


@pytest.mark.parametrize(
    "text",
    [
        "store: {cloud_name: ${C}, api_key: ${K}, api_secret: ${S:-https://x/?a=b}}",
        "store: { api_secret: '${S:-https://x/?a=b}', api_key: ${K} , cloud_name: ${C}}",
        'store: {cloud_name: "${C}", api_key: ${K},\n  api_secret: ${S:-https://x/?a=b}\n}',
    ],
)
def test_a_reference_needs_no_quotes_between_brackets(load, text):
    store = load(text, {"C": "demo", "K": "key"}).store
    assert isinstance(store, CloudinaryConfig)
    said = (store.cloud_name, store.api_key.get_secret_value(), store.api_secret.get_secret_value())
    assert said == ("demo", "key", "https://x/?a=b")
    styles = load("styles: {s: {labels: [${A}, x${A}y, '${B:-b}'], prompt: '{prompt} {${A}}'}}", {"A": "a"}).styles
    assert (styles["s"].labels, styles["s"].prompt) == (("a", "xay", "b"), "{prompt} {a}")


def test_what_the_environment_holds_is_data_and_no_yaml(load):
    assert load("styles: {s: {prompt: '${P}'}}", {"P": "a: [b]\n${Q}"}).styles["s"].prompt == "a: [b]\n${Q}"
    assert load("default_owner: ${A}", {"A": "null"}).default_owner == "null"
    assert load("default_owner: ${A}", {"A": ""}).default_owner == "me"


@pytest.mark.parametrize(
    ("text", "environ", "kind"),
    [
        ("", {}, "local"),
        ("", CLOUD, "cloudinary"),
        ("store: null", CLOUD, "cloudinary"),
        ("store: {access: public}", CLOUD, "cloudinary"),
        ("store: {folder: pictures}", CLOUD, "local"),
        ("store: {type: local}", CLOUD, "local"),
        ("store: {concurrency: 2}", {}, "local"),
        ("store: {cloud_name: c, api_key: k, api_secret: s}", {}, "cloudinary"),
    ],
)
def test_which_store(load, text, environ, kind):
    assert load(text, environ).store.type == kind


def test_what_the_cloudinary_url_says(load):
    store = load("store: {type: cloudinary, timeout: 2m}", CLOUD).store
    assert isinstance(store, CloudinaryConfig)
    assert (store.cloud_name, store.upload_prefix, store.timeout) == ("cloud", "http://127.0.0.1:99", 120.0)
    assert (store.api_key.get_secret_value(), store.api_secret.get_secret_value()) == ("KEY", "SEC/RET")
    own = load("store: {cloud_name: cloud, api_secret: own}", CLOUD).store
    assert isinstance(own, CloudinaryConfig)
    assert (own.api_key.get_secret_value(), own.api_secret.get_secret_value()) == ("KEY", "own")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("state: x\njobs: ./x", "pipeline.yaml:1:8: state: the jobs folder cannot be the state folder as well"),
        ("jobs: .pipeline", "pipeline.yaml:1:1: state: the jobs folder cannot be the state folder as well"),
        ("jobs: .", "pipeline.yaml:1:7: jobs: pipeline.yaml lies in this folder and would be taken for a job"),
        ("jobs: ./in/..", "pipeline.yaml:1:7: jobs: pipeline.yaml lies in this folder and would be taken for a job"),
    ],
)
def test_folders_that_would_get_into_each_others_way(refusal, text, said):
    assert refusal(text).startswith(said)


def test_a_workspace_whose_name_no_result_could_tell_is_refused(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    file = folder / "pipeline.yaml"
    file.write_text("settle: 1\n")
    with pytest.raises(ConfigError, match=r"jobs: .*/caf\\udce9/jobs is not UTF-8, as the index and results need it"):
        load_config(file, environ={})
    file.write_text(f"jobs: {tmp_path}/jobs\nstate: {tmp_path}/state\nstore:\n  folder: images\n")
    with pytest.raises(ConfigError, match=r"yaml:4:3: store.folder: "):
        load_config(file, environ={})
    file.write_text(f"jobs: {tmp_path}/jobs\nstate: {tmp_path}/state\nstore: {{folder: {tmp_path}/images}}\n")
    assert load_config(file, environ={}).root == folder


def test_blanks_around_the_cloudinary_url_say_nothing(load):
    store = load("", {"CLOUDINARY_URL": f" {CLOUD['CLOUDINARY_URL']}\n"}).store
    assert isinstance(store, CloudinaryConfig)
    assert (store.cloud_name, store.upload_prefix) == ("cloud", "http://127.0.0.1:99")
    assert load("", {"CLOUDINARY_URL": " "}).store.type == "local"


def test_the_keys_of_one_account_are_not_used_for_another(refusal):
    assert "store.api_key" not in refusal("store: {cloud_name: other}", CLOUD)
    assert "`api_key` is missing" in refusal("store: {cloud_name: other}", CLOUD)


@pytest.mark.parametrize("url", ["cloudinary://cloud", "https://K:S@c", "cloudinary://K@c", "cloudinary://[", "hush"])
def test_a_cloudinary_url_of_another_form_is_not_shown(refusal, url):
    said = refusal("", {"CLOUDINARY_URL": url})
    assert said.endswith("has not the form cloudinary://API_KEY:API_SECRET@CLOUD_NAME")
    assert "hush" not in said


@pytest.mark.parametrize(
    ("jwt", "algorithms"),
    [
        ("{secret: '" + "x" * 32 + "'}", ("HS256",)),
        ("{key: key.pem}", ("RS256", "ES256")),
        ("{jwks: keys.json, algorithm: ES256, issuer: i, audience: [a, b], owner_claim: o, leeway: 1m}", ("ES256",)),
    ],
)
def test_tokens_of_another_issuer(load, jwt, algorithms, tmp_path):
    config = load(f"gallery: {{jwt: {jwt}}}").gallery.jwt
    assert isinstance(config, JwtConfig)
    assert config.algorithms == algorithms
    if config.jwks:
        assert (config.jwks, config.issuer, config.audience) == (tmp_path / "keys.json", "i", ("a", "b"))
        assert (config.owner_claim, config.leeway) == ("o", 60.0)
    else:
        assert (config.owner_claim, config.leeway, config.issuer, config.audience) == ("sub", 30.0, None, None)


def test_a_name_may_begin_like_a_key_that_is_ones_own(load):
    config = load("backends: {x-large: {type: sketch}}\nstyles: {x-ray: {steps: 3}}\nx-note: mine")
    assert (list(config.backends), list(config.styles)) == (["x-large"], ["x-ray"])


@pytest.mark.parametrize(
    ("gallery", "url"),
    [
        ("{port: 1}", "http://127.0.0.1:1"),
        ("{host: '::'}", "http://[::1]:8787"),
        ("{host: 'fe80::1'}", "http://[fe80::1]:8787"),
        ("{host: studio.local, public_url: 'https://g.example/'}", "https://g.example"),
    ],
)
def test_the_public_url(load, gallery, url):
    assert load(f"gallery: {gallery}").gallery.public_url == url


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("2h", 7200),
        ("1.5 min", 90),
        ("250ms", 0.25),
        ("7", 7),
        ("1d", 86400),
        ("0.30000000000000004", 0.1 + 0.2),
        ("1e-05", 0.00001),
        ("2.5E+1", 25),
    ],
)
def test_durations(load, text, seconds):
    assert load(f"settle: {text}").settle == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10GB", 10**10),
        ("1 GiB", 2**30),
        ("500mb", 5 * 10**8),
        ("1.5k", 1500),
        ("2gib", 2**31),
        (".5MB", 500_000),
        ("7", 7),
        ("2B", 2),
        ("1T", 10**12),
    ],
)
def test_sizes(load, text, size):
    assert load(f"spool_limit: {text}").spool_limit == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "settel: 3",
            """\
            pipeline.yaml:1:1: unknown key "settel"; did you mean "settle"?
            settel: 3
            ^""",
        ),
        (
            "settle: soon",
            """\
            pipeline.yaml:1:9: settle: "soon" is no duration
            settle: soon
                    ^
            expected: seconds a file must have stood still, or "2s\"""",
        ),
        (
            "spool_limit: -1",
            """\
            pipeline.yaml:1:14: spool_limit: -1 is out of range
            spool_limit: -1
                         ^
            expected: bytes above 0, or "500MB", "10GB", "10GiB\"""",
        ),
        (
            "spool_limit: 0",
            """\
            pipeline.yaml:1:14: spool_limit: 0 is out of range
            spool_limit: 0
                         ^
            expected: bytes above 0, or "500MB", "10GB", "10GiB\"""",
        ),
        (
            "settle: 1\n---\nsettle: 2",
            """\
            pipeline.yaml:2:1: a second YAML document begins here
            ---
            ^
            expected: one document: all of the configuration in it""",
        ),
        (
            "jobs: a\nbackends:\n  b: {type: comfyui, url: x, concurency: 3}",
            """\
            pipeline.yaml:3:27: backends.b.url: "x" is no http or https address
              b: {type: comfyui, url: x, concurency: 3}
                                      ^
            expected: the server's address

            pipeline.yaml:3:30: unknown key "concurency"; did you mean "concurrency"?
              b: {type: comfyui, url: x, concurency: 3}
                                         ^""",
        ),
        (
            "backends:\n  b: {type: runpot}\n  c: {url: x}\n  d: sketch",
            """\
            pipeline.yaml:2:13: unknown type "runpot"; did you mean "runpod"?
              b: {type: runpot}
                        ^
            expected: one of sketch, runpod, comfyui, a1111

            pipeline.yaml:3:6: `type` is missing
              c: {url: x}
                 ^
            expected: one of sketch, runpod, comfyui, a1111

            pipeline.yaml:4:6: backends.d: "sketch" is not a mapping
              d: sketch
                 ^
            expected: names (ASCII letters, digits, `.`, `_`, `-`, at most 64), each with a back end""",
        ),
        (
            "settle: ${SETTEL}",
            """\
            pipeline.yaml:1:9: settle: the environment has no SETTEL; did you mean "SETTLE"?
            settle: ${SETTEL}
                    ^
            expected: the variable SETTEL, or ${SETTEL:-default}""",
        ),
        (
            "gallery: {cors: ['${A']}",
            """\
            pipeline.yaml:1:18: gallery.cors: a reference to the environment is not readable
            gallery: {cors: ['${A']}
                             ^
            expected: ${NAME} or ${NAME:-default}; $${ for the characters themselves""",
        ),
        (
            "styles: {anime: {stpes: 4}}",
            """\
            pipeline.yaml:1:18: unknown key "stpes"; did you mean "steps"?
            styles: {anime: {stpes: 4}}
                             ^""",
        ),
        (
            "styles: {anime: {prompt: [a, b]}}",
            """\
            pipeline.yaml:1:26: a style's `prompt` is a list
            styles: {anime: {prompt: [a, b]}}
                                     ^
            expected: one template, like "{prompt}, soft light\"""",
        ),
        (
            "styles: {anime: {backend: [skech]}}\ndefault_style: anim\ndefault_backend: [sketch, foo]",
            """\
            pipeline.yaml:1:28: styles.anime.backend: unknown back end "skech"; did you mean "sketch"?
            styles: {anime: {backend: [skech]}}
                                       ^
            expected: one of sketch

            pipeline.yaml:2:16: default_style: unknown style "anim"; did you mean "anime"?
            default_style: anim
                           ^
            expected: one of anime

            pipeline.yaml:3:27: default_backend: unknown back end "foo"
            default_backend: [sketch, foo]
                                      ^
            expected: one of sketch""",
        ),
        (
            "gallery: {cors: app.example}",
            """\
            pipeline.yaml:1:17: cors: "app.example" is no origin
            gallery: {cors: app.example}
                            ^
            expected: an origin like https://app.example, or "*\"""",
        ),
        (
            "backends: {}",
            """\
            pipeline.yaml:1:11: backends: a mapping is empty
            backends: {}
                      ^
            expected: names (ASCII letters, digits, `.`, `_`, `-`, at most 64), each with a back end""",
        ),
        (
            "- a",
            """\
            pipeline.yaml:1:1: not a mapping
            - a
            ^
            expected: `key: value` lines""",
        ),
        (
            "a: b: c",
            """\
            pipeline.yaml:1:5: not readable as YAML: mapping values are not allowed in this context
            a: b: c
                ^
            expected: quotes around a value that contains ": \"""",
        ),
    ],
)
def test_the_whole_message(refusal, text, message):
    assert refusal(text, {"SETTLE": "1"}) == textwrap.dedent(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("backends: {b: {type: runpod, api_key: k}}", "a runpod back end has either `endpoint` or `url`"),
        ("backends: {b: {type: runpod, endpoint: e, url: 'http://h', api_key: k}}", "has either `endpoint` or `url`"),
        ("backends: {b: {type: runpod, endpoint: e}}", "`api_key` is missing"),
        ("backends: {b: {type: runpod, url: 'http://h', worker: custom}}", "`input` is missing"),
        ("backends: {b: {type: runpod, url: 'http://h', worker: sdlx}}", 'did you mean "sdxl"?'),
        ("backends: {b: {type: a1111, user: me}}", "`user` and `password` go together"),
        ("backends: {b: {type: sketch, concurrency: 0}}", "backends.b.concurrency: 0 is out of range"),
        ("backends: {b: {type: sketch, timeout: 0}}", "backends.b.timeout: 0 is out of range"),
        ("backends: {b: {type: sketch, poll_rate: 0}}", "backends.b.poll_rate: 0 is out of range"),
        ("backends: {b: {type: sketch, fail_seeds: [x]}}", 'backends.b.fail_seeds[1]: "x" is not a whole number'),
        ("backends: {'b c': {type: sketch}}", 'pipeline.yaml:1:12: backends: "b c" is not allowed'),
        ("styles:\n  '': {}", 'pipeline.yaml:2:3: styles: "" is empty'),
        ('state: ""', 'state: "" is empty'),
        ('store: {folder: ""}', 'store.folder: "" is empty'),
        ("backends: {b: {type: a1111, url: 'http://me:pw@h'}}", "carries a user or a password"),
        ("backends: {b: {type: a1111, url: 'http://h/?x=1'}}", "ends in a query or a fragment"),
        ("gallery: {public_url: 'https://h/g#top'}", "ends in a query or a fragment"),
        ("backends: {x-large: {type: sktch}}", 'unknown type "sktch"; did you mean "sketch"?'),
        ("gallery: {port: 99999}", "gallery.port: 99999 is out of range"),
        ("gallery: {enabled: maybe}", 'gallery.enabled: "maybe" is neither true nor false'),
        ("gallery: {jwt: {}}", "`jwt` has one of `secret`, `key`, `jwks`"),
        ("gallery: {jwt: {key: a, jwks: b}}", "`jwt` has one of `secret`, `key`, `jwks`"),
        ("gallery: {jwt: {key: a, algorithm: HS256}}", "HS256 does not go with what is given"),
        ("gallery: {jwt: {secret: short}}", "`secret` is too short"),
        ("store: {type: ftp}", 'unknown type "ftp"'),
        ("store: here", 'store: "here" is not a mapping'),
        ("store: {type: [local]}", 'unknown type ""'),
        ("scan_interval: 0", "scan_interval: 0 is out of range"),
        ("default_owner: a b", 'default_owner: "a b" is not allowed'),
        ("styles: {s: {id: x}}", 'unknown key "id"'),
        ("notify: ftp://x", 'notify: "ftp://x" is no http or https address'),
    ],
)
def test_what_cannot_be_used(refusal, text, message):
    assert message in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "store: {type: cloudinary, api_secret: [hush], cloud_name: c}",
        "store:\n  type: cloudinary\n  api_secret:\n    - hush\n  cloud_name: c",
        "backends: {b: {type: runpod, endpoint: e, api_kye: hush}}\napi_key: hush",
        "gallery: {jwt: {secret: hush, key: k}}",
        "backends: {b: {type: comfyui, url: 'http://me:hush@h'}}",
        "settle: ${HUSH}",
        "backends: {b: {type: runpod, endpoint: '${HUSH}', api_key: k}}",
        "backends: {b: {type: '${HUSH}'}}",
        "default_backend: ${HUSH}",
        "store: {access: '${HUSH}'}",
        "default_style: ${HUSH}\nstyles: {s: {steps: 4}}",
    ],
)
def test_no_complaint_shows_a_secret(refusal, text):
    assert "hush" not in refusal(text, {"HUSH": "hush!"} | CLOUD)


def test_secrets_are_not_shown_by_repr_either(load):
    config = load(CONTRACT.replace("${HOOK:-whisper}", "${RUNPOD_API_KEY}"), ENVIRON | {"RUNPOD_API_KEY": "hush"})
    assert "hush" not in repr(config)
    assert "hush" not in config.model_dump_json()


def test_the_configuration_is_frozen(load):
    with pytest.raises(ValueError, match="frozen"):
        load("").settle = 3
