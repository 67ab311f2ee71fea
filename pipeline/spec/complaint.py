"""One thing that is wrong with a file a person wrote: where, what, and what would be right."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

SHOWN_WIDTH = 100  # characters of a long source line that are shown around the place
MOST_TOLD = (
    20  # faults of one file that are told; it may hold a hundred thousand, and each costs a look at the whole text
)
_JOINERS = "\u200c\u200d"  # in Persian and Indic words, and between the parts of an emoji
_HARMLESS = "\t" + _JOINERS
_YAML_BREAK = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")
_JSON_BREAK = re.compile(r"\r\n|[\r\n]")


class Complaint(NamedTuple):
    """A fault at a place of a file; `line` and `column` count from 1, `column` in characters."""

    file: str
    line: int
    column: int
    message: str
    source_line: str = ""
    expected: str | None = None

    def render(self) -> str:
        """Return the complaint as compilers print it: place and message, the line, a caret, what is expected."""
        lines = [f"{self.file}:{self.line}:{self.column}: {self.message}"]
        if self.source_line.strip():
            start = max(0, min(self.column - 1 - SHOWN_WIDTH // 2, len(self.source_line) - SHOWN_WIDTH))
            shown = visible(self.source_line[start : start + SHOWN_WIDTH])
            lines += [shown.rstrip(), _pad(shown[: self.column - 1 - start]) + "^"]
        if self.expected:
            lines.append(f"expected: {self.expected}")
        return "\n".join(lines)


class Source(NamedTuple):
    """The text of a file, kept to quote from it; `redact` hides the values of lines that may hold a secret."""

    file: str
    text: str
    json: bool = False
    redact: bool = False

    def complaint(self, line: int, column: int, message: str, expected: str | None = None) -> Complaint:
        """Make a complaint that quotes this text."""
        return Complaint(self.file, line, column, message, self._quoted(line), expected)

    def place(self, offset: int) -> tuple[int, int]:
        """Translate an offset in characters into line and column."""
        starts = [0, *(found.end() for found in self._break().finditer(self.text, 0, offset))]
        return len(starts), offset - starts[-1] + 1

    def offset(self, line: int, column: int) -> int:
        """Translate line and column back into an offset in characters."""
        starts = [0, *(found.end() for found in self._break().finditer(self.text))]
        return starts[line - 1] + column - 1

    def _break(self) -> re.Pattern[str]:
        return _JSON_BREAK if self.json else _YAML_BREAK

    def _quoted(self, line: int) -> str:
        breaks = self._break().finditer(self.text)
        before = next(islice(breaks, line - 2, None), None) if line > 1 else None
        if line > 1 and before is None:
            return ""
        end = next(breaks, None)
        found = self.text[before.end() if before else 0 : end.start() if end else None]
        return without_secrets(found) if self.redact else found


# Bounded repeats: a line may be a megabyte long.
_SECRET_VALUE = re.compile(
    r"((?:api|key|secret|passw|pwd|token|auth)\w{0,40}[\"']?\s{0,40}[:=]\s{0,40})(?!\$\{)[^\s].*", re.IGNORECASE
)
_USERINFO = re.compile(r"://[^/@\s]+@")


def without_secrets(line: str) -> str:
    """Hide what may be a key or a password in a line of configuration; `${NAME}` stays readable."""
    return _USERINFO.sub("://***@", _SECRET_VALUE.sub(r"\1***", line))


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that `word` was probably meant to be, regardless of case, hyphens and underscores."""
    plain: dict[str, str] = {}
    for choice in choices:
        plain.setdefault(_plain(choice), choice)
    found = difflib.get_close_matches(_plain(word[:100]), plain, n=1, cutoff=0.6)
    return plain[found[0]] if found else None


def meant(word: str, choices: Iterable[str]) -> str:
    """Return `; did you mean "…"?`, or nothing where no choice is near."""
    near = nearest(word, choices)
    return f'; did you mean "{near}"?' if near is not None else ""


def quoted(text: str, *, length: int = 60) -> str:
    """Show a value inside a message: in quotes, on one line, cut where it is long."""
    shown = visible(text[: length + 1]).replace("\t", "·")
    return f'"{shown[:length]}…"' if len(shown) > length else f'"{shown}"'


def visible(text: str) -> str:
    """Put a dot for what shows nothing or would do something to a terminal; tabs and joiners within words stay."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c in _HARMLESS else "·" for c in text)


def listed(choices: Sequence[str], *, most: int = 40) -> str:
    """List choices for an `expected` line."""
    rest = f" and {len(choices) - most} more" if len(choices) > most else ""
    return ", ".join(choices[:most]) + rest


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


def _pad(before: str) -> str:
    return "".join("\t" if c == "\t" else " " * _cells(c) for c in before)


def _cells(char: str) -> int:
    if unicodedata.combining(char) or char in _JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
