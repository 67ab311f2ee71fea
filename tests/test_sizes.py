import pytest

from pipeline.tools.sizes import in_words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_000, "1 kB"),
        (50_000, "50 kB"),
        (999_400, "999 kB"),
        (999_600, "1 MB"),
        (10_485_761, "10.5 MB"),
        (10_000_000_000, "10 GB"),
        (1_234_000_000_000, "1.23 TB"),
    ],
)
def test_a_size_has_three_digits_at_most(count, words):
    assert in_words(count) == words
