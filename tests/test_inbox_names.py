import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.inbox.names import (
    first_free,
    has_job_shape,
    is_job_file,
    new_job_id,
    numbered,
    readable,
    split,
)

NOON = 1_753_704_000_123  # 2025-07-28 12:00:00.123 UTC


@pytest.mark.parametrize(
    "name", ["a.yaml", "a.yml", "a.json", "a.b.yaml", "a b.yaml", "émile.yaml", "-.yml", "a.tmp.json"]
)
def test_these_may_be_jobs(name):
    assert is_job_file(name)


@pytest.mark.parametrize(
    "name",
    [
        "a.yaml~",
        "a.yaml.tmp",
        "a.yaml.part",
        ".a.yaml",
        ".yaml",
        "a.yaml.swp",
        ".a.yaml.swp",
        "a.YAML",
        "a.txt",
        "yaml",
        "a.yaml.bak",
        "#a.yaml#",
        "a.yaml (copy)",
        "a.yam",
        "",
    ],
)
def test_these_are_left_alone(name):
    assert not is_job_file(name)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("mary.v2.yaml", ("mary.v2", ".yaml")),
        ("a.json", ("a", ".json")),
        ("a.txt", ("a.txt", "")),
        (".yaml", (".yaml", "")),
        ("", ("", "")),
    ],
)
def test_only_a_job_files_ending_is_parted_off(name, parts):
    assert split(name) == parts


def test_a_job_is_named_for_moment_and_file():
    job_id = new_job_id("Mary's Garden", now=NOON, draw=random.Random(1))
    assert re.fullmatch(r"20250728-120000-mary-s-garden-[a-z0-9]{4}", job_id)


@given(st.text(max_size=300), st.integers(0, 4_000_000_000_000))
def test_every_file_name_gives_a_job_id_of_its_shape_and_length(stem, now):
    job_id = new_job_id(stem, now=now, draw=random.Random(0))
    assert has_job_shape(job_id)
    assert len(job_id) <= 80
    assert len(new_job_id(stem, now=now, draw=random.Random(0), ending=8)) <= 80


@pytest.mark.parametrize(
    "stem",
    [
        "mary",
        "20250728-120000-mary",
        "20250728-120000-Mary-ab12",
        "2025-120000-mary-ab12",
        "20250728-120000--ab12",
        "20250728-120000-" + "a" * 59 + "-ab12",
        "x20250728-120000-mary-ab12",
        "20250728-120000-ma_ry-ab12",
    ],
)
def test_other_names_do_not_have_a_jobs_shape(stem):
    assert not has_job_shape(stem)


def test_a_name_of_greatest_length_still_has_a_jobs_shape():
    assert has_job_shape("20250728-120000-" + "a" * 58 + "-ab12")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("mary.yaml", "mary.yaml"),
        ("émile 世界.yaml", "émile 世界.yaml"),
        ("a\nb\x1b[31m.yaml", r"a\nb\x1b[31m.yaml"),
        ("caf\udce9.yaml", r"caf\xe9.yaml"),
        ("right\u202eleft.yaml", r"right\u202eleft.yaml"),
    ],
)
def test_names_are_shown_without_what_a_terminal_would_obey(name, shown):
    assert readable(name) == shown


def test_numbered_names_begin_with_the_plain_one():
    assert [numbered("mary", n) for n in (1, 2, 30)] == ["mary", "mary-2", "mary-30"]


@pytest.mark.parametrize("stem", ["a" * 250, "世" * 80, "\udce9" * 250])
def test_a_long_name_is_cut_so_that_the_suffix_fits(stem):
    name = numbered(stem, 12, longest_suffix=10) + ".error.txt"
    assert len(name.encode("utf-8", "surrogateescape")) <= 255
    assert name.endswith("-12.error.txt")


@given(st.integers(0, 5_000))
def test_the_first_free_number_is_found_in_few_questions(used):
    asked = []

    def taken(n):
        asked.append(n)
        return n <= used

    assert first_free(taken) == used + 1
    assert len(asked) <= 28


@given(st.sets(st.integers(1, 60)))
def test_a_free_number_is_free_also_where_there_are_gaps(used):
    assert first_free(used.__contains__) not in used
