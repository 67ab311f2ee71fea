"""Whatever the bytes are, the answer is a job or a complaint, soon."""

import json
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SpecError
from pipeline.plan import digest, make_job
from pipeline.spec.job import JobSpec, parse_job
from pipeline.spec.keys import Rules
from pipeline.spec.shapes import record_of

KEYS = sorted(record_of(JobSpec).keys)
MARKS = ("{", "}", "[", "]", ":", ": ", "- ", "? ", ",", "'", '"', "|\n", ">-\n", "---\n", "...\n", "%YAML 1.2\n", "@")
BLANKS = ("\n", "\n  ", "\t", "\x85", "\u2028", "\ufeff", "\x00")
SCRAPS = st.sampled_from(
    [*MARKS, *BLANKS, *KEYS, "&a ", "*a", "!!x ", "#", "\\ud800", "1e999", "0x1", "null", "~", "-1"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)


def read(data, file):
    """Return the job, or the complaints after a look at each."""
    started = time.process_time()
    try:
        spec = parse_job(data, file=file)
        return make_job(spec, file=file, rules=Rules(), draw_seed=lambda: 1)
    except SpecError as refused:
        return checked(refused)
    finally:
        assert time.process_time() - started < 2


def checked(error):
    assert str(error)
    assert all(said.line >= 1 and said.column >= 1 for said in error.complaints)
    return error.complaints


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["f.yaml", "f.json"]))
def test_any_bytes_are_a_job_or_a_complaint(data, file):
    read(data, file)


@pytest.mark.parametrize(
    ("data", "file"),
    [
        (b"\xef\xbb\xbf", "f.json"),
        (b"{" * 3000, "f.json"),
        (b"1:" + b"1" * 400_000, "f.yaml"),
        (b"quantity: " + b"9" * 400_000, "f.yaml"),
        (b"width: " + b"1:" * 200_000 + b"1", "f.yaml"),
        (b"cfg: " + b"9" * 400_000 + b"e9", "f.yaml"),
        (b"stagger: " + b"9" * 400_000, "f.yaml"),
        (b"x" * 900_000 + b": 1", "f.yaml"),
        (b"notify: http://[" + b":" * 100_000, "f.yaml"),
        (b"on_failure: " + b"p" * 900_000, "f.yaml"),
        (b"width: " + b"key" * 300_000, "f.yaml"),
        (b"width: " + b"://" * 300_000, "f.yaml"),
        (b"character: '" + b" " * 900_000 + b"'", "f.yaml"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:12].decode(errors="replace"),
)
def test_what_takes_long_elsewhere_is_refused_soon(data, file):
    assert isinstance(read(data, file), tuple)


@settings(max_examples=300, deadline=None)
@given(st.lists(SCRAPS, max_size=40), st.sampled_from(["f.yaml", "f.json"]))
def test_any_scraps_of_yaml_are_a_job_or_a_complaint(scraps, file):
    read("".join(scraps).encode(), file)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6))
def test_any_values_under_known_keys_are_a_job_or_a_complaint(said):
    read(json.dumps(said).encode(), "f.json")
    read(yaml.safe_dump(said, allow_unicode=True, sort_keys=False).encode(errors="replace"), "f.yaml")


TEXT = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20
)
JOBS = st.fixed_dictionaries(
    {"characterId": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True), "prompt": TEXT},
    optional={
        "numImages": st.integers(1, 20),
        "width": st.integers(64, 4096),
        "seed": st.integers(-1, 2**32 - 21),
        "cfg": st.floats(0, 30),
        "labels": st.lists(TEXT, max_size=3),
        "params": st.dictionaries(st.from_regex(r"p_[a-z]{1,5}", fullmatch=True), st.integers(-9, 9) | st.booleans() | TEXT, max_size=3),
    },
)  # fmt: skip


@settings(deadline=None)
@given(JOBS, st.randoms(use_true_random=False))
def test_the_same_job_in_yaml_and_json_and_in_any_order_is_the_same(said, random):
    keys = list(said)
    random.shuffle(keys)
    shuffled = {key: said[key] for key in keys}
    as_json = parse_job(json.dumps(said).encode(), file="f.json")
    as_yaml = parse_job(yaml.safe_dump(shuffled, allow_unicode=True, sort_keys=False).encode(), file="f.yaml")
    assert as_json == as_yaml
    assert digest(as_json) == digest(as_yaml)
    assert as_json.prompt == said["prompt"].strip()
    assert as_json.quantity == said.get("numImages", 1)
    assert as_json.params == said.get("params", {})
