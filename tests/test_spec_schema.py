"""The JSON Schemas take what we take, and the examples are what we take."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from pipeline.config import INIT_TEMPLATE, config_schema
from pipeline.errors import SpecError
from pipeline.plan import make_job
from pipeline.spec.job import JobSpec, job_schema, parse_job
from pipeline.spec.keys import Rules
from pipeline.spec.shapes import record_of

EXAMPLES = sorted((Path(__file__).parents[1] / "jobs" / "examples").iterdir())
JOB = jsonschema.Draft202012Validator(job_schema())
CONFIG = jsonschema.Draft202012Validator(config_schema())


def test_the_schemas_are_schemas():
    jsonschema.Draft202012Validator.check_schema(job_schema())
    jsonschema.Draft202012Validator.check_schema(config_schema())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_a_job_and_fits_the_schema(path):
    spec = parse_job(path.read_bytes(), file=path.name)
    job = make_job(spec, file=path.name, rules=Rules(), draw_seed=lambda: 1)
    assert job.images
    JOB.validate(yaml.safe_load(path.read_text()))


def test_the_examples_show_every_key():
    shown = {key for path in EXAMPLES for key in parse_job(path.read_bytes(), file=path.name).model_fields_set}
    assert shown == set(JobSpec.model_fields)


def test_the_schema_knows_every_spelling():
    assert set(job_schema()["properties"]) == set(record_of(JobSpec).keys)


@pytest.mark.parametrize(
    "text",
    [
        "{character: M, prompt: x, n: '5'}",
        "{character: 7, prompt: 8, quantity: 5}",
        "{character: {id: 7, name: no}, prompt: [a, 1], stagger: 10m}",
        "{characterId: 7, prompt: x, width: null, embedding: null, x-a: {b: 1}}",
        "{characterName: M, prompt: x, loras: [a, {name: b, strength: 1}], params: {a: {b: [1]}}}",
        "{character: M, prompt: x, labels: a, backend: [a], on_failure: fail, priority: -100}",
        "{style: portrait}",
    ],
)
def test_what_is_accepted_fits(text):
    parse_job(text.encode(), file="f.yaml")
    JOB.validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text",
    [
        "{character: M, prompt: x, quantty: 5}",
        "{character: M, prompt: x, width: 63}",
        "{character: M, prompt: x, quantity: five}",
        "{character: {nmae: M}, prompt: x}",
        "{character: M, prompt: x, id: ../etc}",
        "{character: M, prompt: x, loras: [{weight: 1}]}",
        "{character: M, prompt: []}",
    ],
)
def test_what_is_refused_does_not_fit(text):
    with pytest.raises(SpecError):
        parse_job(text.encode(), file="f.yaml")
    assert not JOB.is_valid(yaml.safe_load(text))


def test_the_configuration_that_init_writes_fits_its_schema():
    assert yaml.safe_load(INIT_TEMPLATE) is None
    CONFIG.validate({})
    CONFIG.validate(
        yaml.safe_load("""
jobs: in
settle: 2s
spool_limit: 10GB
gallery: {enabled: "${GALLERY:-true}", port: 0, cors: "*"}
store: {type: local, folder: pictures}
backends:
  pod: {type: comfyui, url: "http://127.0.0.1:8188", concurrency: "${SLOTS}"}
  xl: {type: runpod, endpoint: abc, api_key: "${KEY}", worker: custom, input: {a: [1]}}
styles: {anime: {backend: [pod, xl], numInferenceSteps: 28, prompt: "{prompt}, soft light"}}
default_style: anime
notify: https://app.example/hook
""")
    )
    assert not CONFIG.is_valid({"settel": 1})
    assert not CONFIG.is_valid({"backends": {"a": {"type": "comfyui", "endpoint": "x"}}})
    assert not CONFIG.is_valid({"gallery": {"port": 99999}})
