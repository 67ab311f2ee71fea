"""Bytes into a tree: limits, encodings, what of YAML and JSON is read and what is refused."""

import time
from functools import partial

import pytest
import yaml

from pipeline.errors import SpecError
from pipeline.model import LARGEST_FILE
from pipeline.spec.jsontext import read_json
from pipeline.spec.nodes import MOST_VALUES, Mapping, Scalar, core_value
from pipeline.spec.yamltext import read_yaml


def tree(node):
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, Mapping):
        return {key: tree(child) for key, (_, child) in node.entries.items()}
    return [tree(item) for item in node.items]


def refusal(data, reader=read_yaml):
    with pytest.raises(SpecError) as caught:
        reader(data, source="f")
    (said,) = caught.value.complaints
    return said


def test_scalars_stay_as_they_are_written():
    root, _ = read_yaml(b"a: 007\nb: no\nc: 1e3\nd: '7'\ne: 2024-01-01\nf: 1:30\n", source="f")
    assert tree(root) == {"a": "007", "b": "no", "c": "1e3", "d": "7", "e": "2024-01-01", "f": "1:30"}


def test_a_place_counts_lines_and_characters_from_one():
    root, _ = read_yaml("é: 1\nmäry: {ü: [a, b]}\n".encode(), source="f")
    key, inner = root.entries["märy"]
    assert (key.line, key.column, inner.column) == (2, 1, 7)
    assert [item.column for item in inner.entries["ü"][1].items] == [12, 15]


@pytest.mark.parametrize("reader", [read_yaml, read_json])
def test_a_byte_order_mark_is_skipped(reader):
    root, _ = reader(b'\xef\xbb\xbf{"a": "b"}', source="f")
    assert tree(root) == {"a": "b"}
    assert root.column == 1


def test_json_keeps_numbers_as_text_and_knows_strings_apart():
    root, _ = read_json(b'{"a": 1.50, "b": "1.50", "c": null, "d": "null", "e": [true, {}, []]}', source="f")
    assert tree(root) == {"a": "1.50", "b": "1.50", "c": "null", "d": "null", "e": ["true", {}, []]}
    assert [root.entries[key][1].plain for key in "abcd"] == [True, False, True, False]
    assert [root.entries[key][1].null for key in "cd"] == [True, False]


def test_json_places():
    root, _ = read_json(b'{\r\n  "a":\r   "b",\n "c" : [1,\n2]}', source="f")
    assert [(key.line, key.column, node.line, node.column) for key, node in root.entries.values()] == [
        (2, 3, 3, 4),
        (4, 2, 4, 8),
    ]
    assert [(item.line, item.column) for item in root.entries["c"][1].items] == [(4, 9), (5, 1)]


def test_a_surrogate_pair_in_json_is_one_character():
    root, _ = read_json(b'{"a": "\\ud83d\\ude00"}', source="f")
    assert tree(root) == {"a": "\U0001f600"}


@pytest.mark.parametrize("reader", [read_yaml, read_json])
def test_nesting_of_fifty_is_read_and_of_fifty_one_refused(reader):
    root, _ = reader(b"[" * 50 + b"]" * 50, source="f")
    assert not isinstance(root, Scalar)
    said = refusal(b"[" * 51 + b"]" * 51, reader)
    assert (said.message, said.column) == ("nested more than 50 deep", 51)


@pytest.mark.parametrize("reader", [read_yaml, read_json])
@pytest.mark.parametrize(
    "data",
    [b"[" * 1_000_000, b'{"a":' * 200_000, b"{" * 1_000_000, b"- " * 500_000, b"? " * 500_000, b"[1," * 300_000],
    ids=["brackets", "mappings", "braces", "dashes", "questions", "flow"],
)
def test_a_megabyte_of_nesting_is_refused_quickly(reader, data):
    started = time.process_time()
    assert refusal(data, reader).message
    assert time.process_time() - started < 1


@pytest.mark.parametrize("reader", [read_yaml, read_json])
def test_brackets_past_what_the_parser_itself_takes_are_told_the_same(reader):
    said = refusal(b"[" * 100_000, reader)
    assert (said.message, said.expected) == ("nested more than 50 deep", "a flatter file; nothing was built")


@pytest.mark.parametrize("reader", [read_yaml, read_json])
def test_more_values_than_a_job_needs_are_refused_before_they_fill_the_memory(reader):
    said = refusal(b"[" + b"1," * (MOST_VALUES + 10) + b"1]", reader)
    assert said.message == "more than 200,000 keys and values"


@pytest.mark.parametrize("reader", [read_yaml, read_json])
def test_one_byte_more_than_a_mebibyte_is_refused(reader):
    exact = b'{"a": "' + b"x" * (LARGEST_FILE - 9) + b'"}'
    assert len(exact) == LARGEST_FILE
    root, _ = reader(exact, source="f")
    assert len(tree(root)["a"]) == LARGEST_FILE - 9
    said = refusal(exact + b" ", reader)
    assert (said.message, said.expected) == ("the file is larger than 1 MiB", "at most 1 MiB")


@pytest.mark.parametrize(
    ("data", "place", "message"),
    [
        (b"", (1, 1), "the file is empty"),
        (b" \n\t\n", (1, 1), "the file is empty"),
        (b"\xef\xbb\xbf", (1, 1), "the file is empty"),
        (b"# nothing\n", (1, 1), "the file holds nothing but comments"),
        ("a: b".encode("utf-16"), (1, 1), "the file is UTF-16"),
        ("a: b".encode("utf-32"), (1, 1), "the file is UTF-32"),
        (b"a: b\n\xc3\xa9: \xff", (2, 4), "byte 0xff is not UTF-8"),
        (b"a: \xed\xa0\x80", (1, 4), "byte 0xed is not UTF-8"),
        (b"a: b\nc: \x00", (2, 4), "character U+0000 may not stand in YAML"),
        (b'a: "\\0"', (1, 4), "a control character or half a surrogate pair"),
        (b"a: &x 1", (1, 4), "anchor &x: anchors are not read"),
        (b"a: &x [1]", (1, 4), "anchor &x: anchors are not read"),
        (b"a: *x", (1, 4), "alias *x: aliases are not read"),
        (b"a: !!python/name:os.system x", (1, 4), "tag !!python/name:os.system: tags are not read"),
        (b"a: !mine {b: c}", (1, 4), "tag !mine: tags are not read"),
        (b"a: ! x", (1, 4), "tag !: tags are not read"),
        (b"a: 1\na: 1", (2, 1), 'duplicate key "a": it stands in line 1 already'),
        (b"p: {b: 1, 'b': 2}", (1, 11), 'duplicate key "b": it stands in line 1 already'),
        (b"? [a]\n: b", (1, 3), "a list or mapping stands as a key"),
        (b"---\na: 1\n---\na: 2", (3, 1), "a second YAML document begins here"),
        (b"a: b: c", (1, 5), "not readable as YAML: mapping values are not allowed in this context"),
        (b"a:\n\tb: c", (2, 1), "not readable as YAML: found character that cannot start any token"),
        (b"a: [1, 2", (1, 4), "not readable as YAML: did not find expected ',' or ']'"),
        (b"a: @b", (1, 4), "not readable as YAML: found character that cannot start any token"),
        (b"a: 1\n  b: 2\nc", (2, 4), "not readable as YAML: mapping values are not allowed in this context"),
    ],
)
def test_what_yaml_is_refused_and_where(data, place, message):
    said = refusal(data)
    assert ((said.line, said.column), said.message) == (place, message)


@pytest.mark.parametrize(
    ("data", "place", "message"),
    [
        (b'{"a": 1, "a": 1}', (1, 10), 'duplicate key "a": it stands in line 1 already'),
        (b'{"a": 1,}', (1, 9), "not readable as JSON"),
        (b'{"a" 1}', (1, 6), "not readable as JSON"),
        (b"{a: 1}", (1, 2), "not readable as JSON"),
        (b'{"a": 01}', (1, 8), "not readable as JSON"),
        (b'{"a": NaN}', (1, 7), "not readable as JSON: NaN is no JSON value"),
        (b'{"a": [1 2]}', (1, 10), "not readable as JSON"),
        (b'{"a": "b', (1, 7), "not readable as JSON: Unterminated string starting at"),
        (b'{"a": "\n"}', (1, 8), "not readable as JSON: Invalid control character at"),
        (b'{"a": ', (1, 7), "not readable as JSON: Expecting value"),
        (b'{"a": 1', (1, 8), "not readable as JSON"),
        (b'{"a": "\\ud800"}', (1, 7), "a control character or half a surrogate pair"),
        (b'{"\\ud800": 1}', (1, 2), "a control character or half a surrogate pair"),
        (b'{"a": 1}\n{"a": 2}', (2, 1), "something follows the job"),
        (b"# a", (1, 1), "not readable as JSON: Expecting value"),
        (b"\xff", (1, 1), "byte 0xff is not UTF-8"),
    ],
)
def test_what_json_is_refused_and_where(data, place, message):
    said = refusal(data, read_json)
    assert ((said.line, said.column), said.message) == (place, message)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a: b: c", 'quotes around a value that contains ": "'),
        (b"a:\n\tb: c", "spaces before a key: YAML does not indent with tabs"),
        (b"a: 1\nb\nc: 2", "one `key: value` a line, keys of one mapping equally indented"),
        (b"a: @b", "quotes around a value that begins with a special character"),
        (b"a: [1, 2", "the closing bracket, and a comma between entries"),
        (b'a: "x', None),
    ],
)
def test_a_syntax_error_comes_with_its_remedy(data, expected):
    assert refusal(data).expected == expected


def test_the_pure_parser_reads_the_same_where_libyaml_is_missing():
    data = "ä: 007\nb: ['no', {c: 1.0}]\nd: |\n  text\ne: ~\n".encode()
    fast, _ = read_yaml(data, source="f")
    pure = partial(read_yaml, loader=yaml.BaseLoader)
    assert pure(data, source="f")[0] == fast
    assert refusal(b"[" * 2000, pure).message == "nested more than 50 deep"
    assert refusal(b"a: &x 1", pure).message == "anchor &x: anchors are not read"
    assert refusal(b'a: "\\ud800"', pure).message == "a control character or half a surrogate pair"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("FALSE", False),
        ("no", "no"),
        ("yes", "yes"),
        ("12", 12),
        ("-0", 0),
        ("+7", 7),
        ("007", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("18446744073709551615", 2**64 - 1),
        ("-9223372036854775808", -(2**63)),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
    ],
)
def test_the_core_schema(text, value):
    read = core_value(Scalar(text, plain=True, line=1, column=1))
    assert (read, type(read)) == (value, type(value))
    assert core_value(Scalar(text, plain=False, line=1, column=1)) == text


@pytest.mark.parametrize("text", ["18446744073709551616", "9" * 400_000, "1e400", ".inf", "-.INF", ".NaN"])
def test_numbers_that_cannot_be_handed_on(text):
    with pytest.raises(ValueError, match=r"too large|cannot be handed on"):
        core_value(Scalar(text, plain=True, line=1, column=1))
