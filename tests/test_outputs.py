"""Images and errors in every shape that workers hand them back in."""

import json
from base64 import b64encode, urlsafe_b64encode

import pytest

from pipeline.backends.outputs import Link, failure, images_in, trouble_in, used_embedding, words_of
from pipeline.errors import AttemptFailed, InvalidRequest
from tests.support import pictures

ONE, TWO = pictures.plain(), pictures.plain(shade=9)
B64, B64_TWO = b64encode(ONE).decode(), b64encode(TWO).decode()
URI = f"data:image/png;base64,{B64}"
URL = "https://bucket.s3.example.com/a.png?X-Amz-Signature=abc"
WRAPPED = "\n".join(B64[i : i + 76] for i in range(0, len(B64), 76))

SHAPES = {
    "worker-comfyui 5": ({"images": [{"filename": "a.png", "type": "base64", "data": B64}]}, [ONE]),
    "worker-comfyui 5 with a bucket": ({"images": [{"filename": "a.png", "type": "s3_url", "data": URL}]}, [Link(URL)]),
    "worker-comfyui 4": ({"message": B64, "status": "success"}, [ONE]),
    "worker-comfyui 4 with a bucket": ({"message": URL, "status": "success"}, [Link(URL)]),
    "worker-comfyui without images": ({"status": "success_no_images", "images": []}, []),
    "previews are no results": ({"images": [{"filename": "p.png", "type": "temp", "data": B64}]}, []),
    "worker-a1111": ({"images": [B64], "parameters": {}, "info": "{}"}, [ONE]),
    "a1111 with a grid": ({"images": [B64_TWO, B64], "info": json.dumps({"index_of_first_image": 1})}, [ONE]),
    "a1111 with a strange index": ({"images": [B64], "info": json.dumps({"index_of_first_image": 4})}, [ONE]),
    "a1111 with broken info": ({"images": [B64], "info": "{"}, [ONE]),
    "worker-sdxl": ({"images": [URI, f"data:image/png;base64,{B64_TWO}"], "image_url": URI, "seed": 1}, [ONE, TWO]),
    "public endpoint": ({"image_url": URL, "cost": 0.02}, [Link(URL)]),
    "openai": ({"created": 1, "data": [{"b64_json": B64}]}, [ONE]),
    "ashleykleynhans": ({"images": [B64]}, [ONE]),
    "one image under image": ({"image": B64}, [ONE]),
    "a bare string": (B64, [ONE]),
    "a bare URL": (URL, [Link(URL)]),
    "a bare list": ([URI], [ONE]),
    "a generator's list": ([{"images": [B64]}, {"images": [B64_TWO]}], [ONE, TWO]),
    "inside output": ({"output": {"images": [B64]}}, [ONE]),
    "broken into lines": ({"image": WRAPPED}, [ONE]),
    "URL-safe, without padding": ({"image": urlsafe_b64encode(ONE).decode().rstrip("=")}, [ONE]),
    "words": ({"message": "success", "status": "success"}, []),
    "words that are base64": ("success1", []),
    "nothing": (None, []),
    "a number": (7, []),
    "empty text": ({"images": [""]}, []),
    "no base64": ({"images": ["%%%"]}, []),
    "undecodable bytes are for the picture check": ({"images": [b64encode(b"no picture").decode()]}, [b"no picture"]),
    "too deep": ([[[[[[[[B64]]]]]]]], []),
}


@pytest.mark.parametrize("name", SHAPES)
def test_images_are_found(name):
    output, expected = SHAPES[name]
    assert images_in(output) == expected


def test_a_link_does_not_show_its_url():
    assert "Amz" not in repr(Link(URL))


ERRORS = [
    ("it broke", "it broke"),
    (json.dumps({"error_type": "<class 'ValueError'>", "error_message": "no", "error_traceback": "Trace…", "hostname": "h"}),
     "ValueError: no"),
    ({"output": "Traceback (most recent call last):\n  File \"/handler.py\", line 3, in run\nKeyError: 'ckpt'\n", "refresh_worker": True},
     "KeyError: 'ckpt'"),
    (["Unexpected input. cfg is not a valid input option.", "prompt is a required input."],
     "Unexpected input. cfg is not a valid input option.; prompt is a required input."),
    ({"error": "OutOfMemoryError", "detail": "", "body": "", "errors": "CUDA out of memory"},
     "OutOfMemoryError: CUDA out of memory"),
    ([{"loc": ["body", "steps"], "msg": "value is not a valid integer", "type": "type_error"}],
     "type_error: steps: value is not a valid integer"),
    ('{"half', '{"half'),
    (None, ""),
    (7, "7"),
    ({"unknown": 1}, ""),
    ({"output": {"error": {"error": {"error": {"error": {"error": {"error": "deep"}}}}}}}, ""),
    ([[[[[[[["deep"]]]]]]]], ""),
]  # fmt: skip


@pytest.mark.parametrize(("error", "words"), ERRORS)
def test_errors_become_sentences(error, words):
    assert words_of(error) == words


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ({"detail": [{"loc": ["body"], "msg": "field required"}]}, "field required"),
        ({"errors": ["node 7 failed"], "images": []}, "node 7 failed"),
        ({"error": "boom", "details": ["more"]}, "boom; more"),
        ({"status": "error", "message": "no such model"}, "no such model"),
        ({"status": "error"}, "error"),
        ({"status": "success_no_images", "images": []}, ""),
        ({"images": []}, ""),
        (None, ""),
    ],
)
def test_errors_inside_an_output_are_found(output, words):
    assert trouble_in(output) == words


@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        ("CUDA out of memory. Tried to allocate", AttemptFailed, "out_of_memory"),
        ("OutOfMemoryError", AttemptFailed, "out_of_memory"),
        ("Workflow validation failed: node 4: ckpt_name", InvalidRequest, "invalid_request"),
        ("Unexpected input. foo is not a valid input option.", InvalidRequest, "invalid_request"),
        ("['body', 'steps']: value is not a valid integer (validation error)", InvalidRequest, "invalid_request"),
        ("Sampler not found", InvalidRequest, "invalid_request"),
        ("the GPU fell off the bus", AttemptFailed, "failed"),
        ("", AttemptFailed, "failed"),
    ],
)
def test_a_worker_s_words_tell_whether_another_attempt_could_help(words, kind, code):
    error = failure(words, where="job 1")
    assert (type(error), error.code) == (kind, code)
    assert str(error).startswith("job 1: ")


def test_a_worker_s_words_are_scrubbed():
    error = failure(f"key rpa_123456789 at {URL} with {B64 * 9}", where="job 1", secrets=("rpa_123456789",))
    for secret in ("rpa_1", "Amz", B64[:40]):
        assert secret not in str(error)
    assert len(str(error)) < 700


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ('Steps: 20, TI hashes: "mary-v2: 0a1b, glow: 77", Version: 1', True),
        ("Steps: 20, TI hashes: mary-v2: 0a1b", True),
        ('TI hashes: "mary-v22: 0a1b"', False),
        ('TI hashes: "old-mary-v2: 0a1b"', False),
        ("mary-v2: in the prompt", False),
    ],
)
def test_a1111_s_record_tells_whether_the_embedding_was_used(text, used):
    assert used_embedding({"info": json.dumps({"infotexts": [text]})}, "mary-v2") is used


@pytest.mark.parametrize(
    "output", [None, [], {}, {"info": "x"}, {"info": {"infotexts": [7]}}, {"info": {"infotexts": []}}]
)
def test_no_record_is_no_proof(output):
    assert used_embedding(output, "mary-v2") is False
