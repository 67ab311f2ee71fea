"""Every rule of a job file broken once: the whole message, as a person reads it."""

import textwrap
import time

import pytest

from pipeline.errors import SpecError
from pipeline.plan import make_job
from pipeline.spec.complaint import Complaint, Source, without_secrets
from pipeline.spec.job import JobSpec, parse_job
from pipeline.spec.keys import Rules
from pipeline.spec.shapes import record_of

RULES = Rules(styles={"anime": JobSpec(), "realistic": JobSpec()}, backends=("pod", "xl"))
BROKEN = {
    "unknown key": (
        "character: Mary\nprompt: x\nquantty: 5",
        """\
        mary.yaml:3:1: unknown key "quantty"; did you mean "quantity"?
        quantty: 5
        ^""",
    ),
    "unknown key, hyphens": (
        "character: Mary\nprompt: x\nNegative-Prompt: y",
        """\
        mary.yaml:3:1: unknown key "Negative-Prompt"; did you mean "negative_prompt"?
        Negative-Prompt: y
        ^""",
    ),
    "unknown key in character": (
        "character: {name: Mary, nmae: y, zzz: 1}\nprompt: x",
        """\
        mary.yaml:1:25: unknown key "nmae"; did you mean "name"?
        character: {name: Mary, nmae: y, zzz: 1}
                                ^

        mary.yaml:1:34: unknown key "zzz"
        character: {name: Mary, nmae: y, zzz: 1}
                                         ^
        expected: one of id, name, owner, embedding""",
    ),
    "duplicate key": (
        "character: Mary\nprompt: x\nprompt: x",
        """\
        mary.yaml:3:1: duplicate key "prompt": it stands in line 1 already
        prompt: x
        ^
        expected: each key once""".replace("line 1", "line 2"),
    ),
    "no character": (
        "prompt: x",
        """\
        mary.yaml:1:1: `character` is missing
        prompt: x
        ^
        expected: a name, or `{id, name}`""",
    ),
    "character without a name": (
        "prompt: x\ncharacter: {owner: al}",
        """\
        mary.yaml:2:12: `character` has neither `id` nor `name`
        character: {owner: al}
                   ^
        expected: a name, or `{id, name}`""",
    ),
    "no prompt": (
        "character: Mary\nprompt: null",
        """\
        mary.yaml:1:1: `prompt` is missing
        character: Mary
        ^
        expected: a text, or a list of texts""",
    ),
    "empty prompt": (
        "character: Mary\nprompt: ' '",
        """\
        mary.yaml:2:9: prompt: " " is empty
        prompt: ' '
                ^
        expected: a text, or a list of texts: `quantity` images of each""",
    ),
    "no text in prompts": (
        "character: Mary\nprompt:\n- x\n- ''\n- [y]",
        """\
        mary.yaml:4:3: prompt[2]: "" is empty
        - ''
          ^
        expected: a text, or a list of texts: `quantity` images of each""",
    ),
    "quantity of zero": (
        "character: Mary\nprompt: x\nn: 0",
        """\
        mary.yaml:3:4: n: 0 is out of range
        n: 0
           ^
        expected: a whole number from 1 to 10,000""",
    ),
    "quantity in words": (
        "character: Mary\nprompt: x\nquantity: five",
        """\
        mary.yaml:3:11: quantity: "five" is not a whole number
        quantity: five
                  ^
        expected: a whole number from 1 to 10,000""",
    ),
    "half an image": (
        "character: Mary\nprompt: x\nquantity: 1.5",
        """\
        mary.yaml:3:11: quantity: 1.5 is not a whole number
        quantity: 1.5
                  ^
        expected: a whole number from 1 to 10,000""",
    ),
    "too many images": (
        "character: Mary\nprompt: [a, b, c]\nquantity: 4000",
        """\
        mary.yaml:3:11: 3 prompts with 4000 images each are 12,000 images
        quantity: 4000
                  ^
        expected: at most 10,000 images in a job""",
    ),
    "width": (
        "character: Mary\nprompt: x\nwidth: 63",
        """\
        mary.yaml:3:8: width: 63 is out of range
        width: 63
               ^
        expected: pixels, 64 to 4096""",
    ),
    "height": (
        "character: Mary\nprompt: x\nheight: 4097",
        """\
        mary.yaml:3:9: height: 4097 is out of range
        height: 4097
                ^
        expected: pixels, 64 to 4096""",
    ),
    "seed": (
        "character: Mary\nprompt: x\nseed: -2",
        """\
        mary.yaml:3:7: seed: -2 is out of range
        seed: -2
              ^
        expected: a whole number from 0 to 4294967295 for every image, or -1 for one that is drawn""",
    ),
    "seed of the last image": (
        "character: Mary\nprompt: [a, b]\nseed: 4294967294\nquantity: 3",
        """\
        mary.yaml:3:7: seed: 4294967294 leaves no seed for image 3 of 6
        seed: 4294967294
              ^
        expected: at most 4294967290 for 6 images""",
    ),
    "priority": (
        "character: Mary\nprompt: x\npriority: 101",
        """\
        mary.yaml:3:11: priority: 101 is out of range
        priority: 101
                  ^
        expected: -100 to 100, higher first""",
    ),
    "steps": (
        "character: Mary\nprompt: x\nnum_inference_steps: 0",
        """\
        mary.yaml:3:22: num_inference_steps: 0 is out of range
        num_inference_steps: 0
                             ^
        expected: a whole number from 1 to 1000""",
    ),
    "cfg_scale": (
        "character: Mary\nprompt: x\ncfg: nan",
        """\
        mary.yaml:3:6: cfg: "nan" is not a number
        cfg: nan
             ^
        expected: a number from 0 to 1000""",
    ),
    "a prompt that is a list": (
        "character: Mary\nprompt: [x, [y], null]",
        """\
        mary.yaml:2:13: prompt[2]: a list is not a text
        prompt: [x, [y], null]
                    ^
        expected: a text, or a list of texts: `quantity` images of each""",
    ),
    "a negative stagger": (
        "character: Mary\nprompt: x\nstagger: -1s",
        """\
        mary.yaml:3:10: stagger: "-1s" is out of range
        stagger: -1s
                 ^
        expected: seconds between the starts of this job, or "90s", "10m\"""",
    ),
    "stagger": (
        "character: Mary\nprompt: x\nstagger: 5 parsecs",
        """\
        mary.yaml:3:10: stagger: "5 parsecs" is no duration
        stagger: 5 parsecs
                 ^
        expected: seconds between the starts of this job, or "90s", "10m\"""",
    ),
    "on_failure": (
        "character: Mary\nprompt: x\non_failure: placehodler",
        """\
        mary.yaml:3:13: on_failure: "placehodler" is not one of the choices; did you mean "placeholder"?
        on_failure: placehodler
                    ^
        expected: one of placeholder, fail""",
    ),
    "job id": (
        "character: Mary\nprompt: x\nid: ../etc",
        """\
        mary.yaml:3:5: id: "../etc" is not allowed
        id: ../etc
            ^
        expected: ASCII letters, digits, `.`, `_`, `-`, the first a letter or digit, at most 80""",
    ),
    "character id": (
        "characterId: märy\nprompt: x",
        """\
        mary.yaml:1:14: characterId: "märy" is not allowed
        characterId: märy
                     ^
        expected: exactly this character: ASCII letters, digits, `.`, `_`, `-`, the first a letter or digit, at most 64""",
    ),
    "owner": (
        "character: Mary\nprompt: x\nuserId: al ice",
        """\
        mary.yaml:3:9: userId: "al ice" is not allowed
        userId: al ice
                ^
        expected: ASCII letters, digits, `. _ - @ | : +`, the first a letter or digit, at most 128""",
    ),
    "owner in character": (
        "character: {name: M, owner: -al}\nprompt: x",
        """\
        mary.yaml:1:29: character.owner: "-al" is not allowed
        character: {name: M, owner: -al}
                                    ^
        expected: as the job's `owner`: ASCII letters, digits, `. _ - @ | : +`, the first a letter or digit, at most 128""",
    ),
    "a list for a text": (
        "character: Mary\nprompt: x\nstyle: [a]",
        """\
        mary.yaml:3:8: style: a list is not a text
        style: [a]
               ^
        expected: a style's name""",
    ),
    "a mapping for a number": (
        "character: Mary\nprompt: x\nwidth: {a: 1}",
        """\
        mary.yaml:3:8: width: a mapping is not a whole number
        width: {a: 1}
               ^
        expected: pixels, 64 to 4096""",
    ),
    "a list for the character": (
        "character: [Mary]\nprompt: x",
        """\
        mary.yaml:1:12: character: a list is not a mapping
        character: [Mary]
                   ^
        expected: a name, or `{id, name, owner, embedding}`""",
    ),
    "loras as a text": (
        "character: Mary\nprompt: x\nloras: a",
        """\
        mary.yaml:3:8: loras: "a" is not a list
        loras: a
               ^
        expected: a list of `{name, weight}`""",
    ),
    "a lora without a name": (
        "character: Mary\nprompt: x\nloras:\n  - name: a\n  - weight: 1",
        """\
        mary.yaml:5:5: `name` is missing
          - weight: 1
            ^
        expected: the LoRA's name""",
    ),
    "a lora's weight": (
        "character: Mary\nprompt: x\nloras: [{name: a}, {name: b, strength: much}]",
        """\
        mary.yaml:3:40: loras[2].strength: "much" is not a number
        loras: [{name: a}, {name: b, strength: much}]
                                               ^
        expected: a number, -100 to 100""",
    ),
    "params as a list": (
        "character: Mary\nprompt: x\nparams: [a]",
        """\
        mary.yaml:3:9: params: a list is not a mapping
        params: [a]
                ^
        expected: further parameters for the back end, as they are""",
    ),
    "params that set what a key sets": (
        "character: Mary\nprompt: x\nparams:\n  clip_skip: 2\n  cfgScale: 7",
        """\
        mary.yaml:5:3: `params` may not set "cfgScale": the key `cfg_scale` of the job does
          cfgScale: 7
          ^
        expected: `cfg_scale`""",
    ),
    "params that no back end could read": (
        "character: Mary\nprompt: x\nparams: {a: [.inf]}",
        """\
        mary.yaml:3:14: infinity and not-a-number cannot be handed on
        params: {a: [.inf]}
                     ^
        expected: in quotes where it is meant as text""",
    ),
    "notify": (
        "character: Mary\nprompt: x\nnotify: ftp://app.example",
        """\
        mary.yaml:3:9: notify: "ftp://app.example" is no http or https address
        notify: ftp://app.example
                ^
        expected: an address like https://host/path that is told of the end""",
    ),
    "labels": (
        "character: Mary\nprompt: x\nlabels: [a, [b]]",
        """\
        mary.yaml:3:13: labels[2]: a list is not a text
        labels: [a, [b]]
                    ^
        expected: a list of words, each at most 100 characters""",
    ),
    "backend": (
        "character: Mary\nprompt: x\nbackend: []",
        """\
        mary.yaml:3:10: backend: a list is empty
        backend: []
                 ^
        expected: the name of a back end, or a list of names""",
    ),
    "unknown style": (
        "character: Mary\nprompt: x\nartStyle: realistc",
        """\
        mary.yaml:3:11: unknown style "realistc"; did you mean "realistic"?
        artStyle: realistc
                  ^
        expected: one of anime, realistic""",
    ),
    "unknown back end": (
        "character: Mary\nprompt: x\nbackend: [xl, pdo]",
        """\
        mary.yaml:3:15: unknown back end "pdo"; did you mean "pod"?
        backend: [xl, pdo]
                      ^
        expected: one of pod, xl""",
    ),
    "no mapping": (
        "- character: Mary",
        """\
        mary.yaml:1:1: the file holds a list
        - character: Mary
        ^
        expected: a mapping: `key: value` lines""",
    ),
    "a lone text": (
        "Mary in a garden",
        """\
        mary.yaml:1:1: the file holds a lone value
        Mary in a garden
        ^
        expected: a mapping: `key: value` lines""",
    ),
    "two documents": (
        "character: Mary\n---\ncharacter: Anne",
        """\
        mary.yaml:2:1: a second YAML document begins here
        ---
        ^
        expected: one file is one job: put the second one into a file of its own""",
    ),
    "several at once, in the order of the file": (
        "wdth: 5\nquantity: 0\ncharacter: Mary\nheight: x",
        """\
        mary.yaml:1:1: unknown key "wdth"; did you mean "width"?
        wdth: 5
        ^

        mary.yaml:2:11: quantity: 0 is out of range
        quantity: 0
                  ^
        expected: a whole number from 1 to 10,000

        mary.yaml:4:9: height: "x" is not a whole number
        height: x
                ^
        expected: pixels, 64 to 4096""",
    ),
}


def planned(data):
    spec = parse_job(data, file="mary.yaml")
    return make_job(spec, file="mary.yaml", rules=RULES, draw_seed=lambda: 0)


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_the_whole_message(text, message):
    with pytest.raises(SpecError) as caught:
        planned(text.encode())
    assert str(caught.value) == textwrap.dedent(message)


@pytest.mark.parametrize("length", [64, 65])
def test_ids_end_at_their_length(length):
    text = f"character: {{id: {'a' * length}}}\nid: {'b' * (length + 16)}\nowner: {'c' * (length + 64)}\n".encode()
    if length == 64:
        assert parse_job(text, file="f").id == "b" * 80
        return
    with pytest.raises(SpecError) as caught:
        parse_job(text, file="f")
    assert [said.message[-14:] for said in caught.value.complaints] == ["is not allowed"] * 3


def test_every_key_is_suggested_for_its_own_misspelling():
    for key in record_of(JobSpec).fields:
        wrong = key[:-1] + "qq" if len(key) > 5 else key + "q"
        with pytest.raises(SpecError, match=f'unknown key "{wrong}"; did you mean "'):
            parse_job(f"{wrong}: x".encode(), file="f")


def test_the_caret_stands_under_wide_characters_and_after_tabs():
    source = Source("f", "庭: x\n\ta: b\n")
    assert source.complaint(1, 4, "m").render() == "f:1:4: m\n庭: x\n    ^"
    assert source.complaint(2, 2, "m").render() == "f:2:2: m\n\ta: b\n\t^"
    assert Source("f", "e\u0301: x").complaint(1, 4, "m").render() == "f:1:4: m\ne\u0301: x\n  ^"


def test_a_long_line_is_cut_around_the_place():
    line = "a" * 500 + "X" + "b" * 500
    shown = Complaint("f", 1, 501, "m", line).render().splitlines()
    assert shown[1][shown[2].index("^")] == "X"
    assert len(shown[1]) == 100


def test_a_value_is_cut_and_kept_on_one_line():
    with pytest.raises(SpecError) as caught:
        parse_job(b'quantity: "a\\nb' + b"c" * 100 + b'"', file="f")
    assert caught.value.complaints[0].message == f'quantity: "a·b{"c" * 57}…" is not a whole number'


@pytest.mark.parametrize(
    ("text", "message", "shown"),
    [
        ("\u00a0width: 9", 'unknown key "·width"; did you mean "width"?', ["·width: 9", "^"]),
        ('"\\x9b31m": 1', 'unknown key "·31m"', ['"\\x9b31m": 1', "^"]),
        ('params: {"\u202e": .inf}', None, ['params: {"·": .inf}', "              ^"]),
        ('params: {"e\u200d\u200c": .inf}', None, ['params: {"e\u200d\u200c": .inf}', "              ^"]),
        ("prompt: \x1b[31mred", "character U+001B may not stand in YAML", ["prompt: ·[31mred", "        ^"]),
    ],
)
def test_nothing_that_a_file_holds_does_anything_to_a_terminal(text, message, shown):
    with pytest.raises(SpecError) as caught:
        parse_job(text.encode(), file="f.yaml")
    said = caught.value.complaints[0]
    assert message in {None, said.message}
    assert said.render().splitlines()[1:3] == shown


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("".join(f"k{n}: 1\n" for n in range(90_000)), 'unknown key "k0"'),
        ("loras:\n" + "- {name: a, weight: b}\n" * 29_000, 'loras[1].weight: "b" is not a number'),
        ("loras:\n" + "- {name: a, weight: 1, strength: 2}\n" * 19_000, '"strength" says it differently from "weight"'),
    ],
    ids=["keys", "values", "twice"],
)
def test_of_very_many_faults_as_many_are_told_as_anybody_reads_and_soon(text, first):
    started = time.process_time()
    with pytest.raises(SpecError) as caught:
        parse_job(text.encode(), file="f.yaml")
    assert time.process_time() - started < 4
    assert (len(caught.value.complaints), caught.value.complaints[0].message) == (20, first)


def test_what_is_said_twice_and_alike_is_compared_soon():
    started = time.process_time()
    with pytest.raises(SpecError, match="too many entries"):
        parse_job(b"loras:\n" + b"- {name: a, weight: 1, strength: 1.0}\n" * 19_000, file="f.yaml")
    assert time.process_time() - started < 4


def test_params_may_set_nothing_that_any_key_of_a_job_sets_in_any_spelling():
    for key in record_of(JobSpec).keys:
        with pytest.raises(SpecError, match=f'f:1:10: `params` may not set "{key}"'):
            parse_job(f"params: {{{key}: 1}}".encode(), file="f")


def test_complaints_without_a_file_have_a_place_too():
    spec = JobSpec(style="nope")
    with pytest.raises(SpecError, match=r"f\.yaml:1:1: `character` is missing"):
        make_job(spec, file="f.yaml", rules=RULES, draw_seed=lambda: 0)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("api_key: abc, def", "api_key: ***"),
        ("  api_secret: ${NAME}", "  api_secret: ${NAME}"),
        ("xl: {password: 'a', url: b}", "xl: {password: ***"),
        ("url: http://user:pass@host/x", "url: http://***@host/x"),
        ("prompt: a portrait", "prompt: a portrait"),
    ],
)
def test_a_quoted_line_of_configuration_holds_no_secret(line, shown):
    assert without_secrets(line) == shown
