"""Reads JSON text into the same tree: the standard library decodes every scalar, this only walks brackets and keeps the places."""

import bisect
import json
import re

from pipeline.errors import SpecError
from pipeline.spec.complaint import Source
from pipeline.spec.nodes import Mapping, Node, Scalar, Sequence, Tree, decoded

_SPACE = re.compile(r"[ \t\r\n]*")
_BREAK = re.compile(r"\r\n|[\r\n]")


class _NotJson(ValueError):
    """NaN and Infinity, which Python would read."""


def _refuse_constant(name: str) -> None:
    raise _NotJson(name)


_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant)


def read_json(data: bytes, *, source: str) -> tuple[Node, Source]:
    """Read one JSON value; return its root and the text to quote complaints from.

    Raises:
        SpecError: whatever the bytes are, if they are not one JSON value within the limits.
    """
    text = decoded(data, source, json=True)
    walk = _Walk(text)
    return walk.root(), text


class _Walk:
    def __init__(self, source: Source) -> None:
        self.text = source.text
        self.tree = Tree(source)
        self.at = 0
        self.starts = [0, *(found.end() for found in _BREAK.finditer(self.text))]

    def root(self) -> Node:
        brackets: list[str] = []
        while True:
            self.value(brackets)
            while brackets and self.peek() == brackets[-1]:
                self.close(brackets)
            if not brackets:
                break
            self.expect(",", f'"," or "{brackets[-1]}"')
            if brackets[-1] == "}":
                self.key()
        if self.peek():
            raise self.wrong("something follows the job", "one file is one job: put the second one into its own file")
        assert self.tree.root is not None
        return self.tree.root

    def value(self, brackets: list[str]) -> None:
        """Read a scalar, or go down into brackets until one is reached or an empty pair is open."""
        while self.peek() in ("{", "["):
            line, column = self.place()
            mapping = self.peek() == "{"
            self.tree.open(Mapping(line, column) if mapping else Sequence(line, column))
            brackets.append("}" if mapping else "]")
            self.at += 1
            if self.peek() == brackets[-1]:
                return
            if mapping:
                self.key()
        self.scalar()

    def key(self) -> None:
        if self.peek() != '"':
            raise self.wrong("not readable as JSON", "a key in double quotes")
        self.scalar()
        self.expect(":", '":" after a key')

    def scalar(self) -> None:
        self.peek()
        line, column = self.place()
        start = self.at
        try:
            value, self.at = _DECODER.raw_decode(self.text, start)
        except json.JSONDecodeError as error:
            self.at = min(error.pos, len(self.text))
            raise self.wrong(f"not readable as JSON: {error.msg}", None) from error
        except _NotJson as error:
            raise self.wrong(
                f"not readable as JSON: {error} is no JSON value", "a number, a text, true, false or null"
            ) from error
        text = self.text[start] == '"'
        self.tree.add(Scalar(value if text else self.text[start : self.at], not text, line, column))

    def close(self, brackets: list[str]) -> None:
        brackets.pop()
        self.at += 1
        self.tree.close()

    def expect(self, char: str, expected: str) -> None:
        if self.peek() != char:
            raise self.wrong("not readable as JSON", expected)
        self.at += 1

    def peek(self) -> str:
        """Skip white space; return the next character, empty at the end."""
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return self.text[self.at : self.at + 1]

    def place(self) -> tuple[int, int]:
        line = bisect.bisect_right(self.starts, self.at)
        return line, self.at - self.starts[line - 1] + 1

    def wrong(self, message: str, expected: str | None) -> SpecError:
        return self.tree.refuse(*self.place(), message, expected)
