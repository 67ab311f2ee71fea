"""The tree a file is read into: scalars as they are written, each with its place, and the limits every file keeps to."""

import math
import re
from dataclasses import dataclass, field

from pipeline.errors import SpecError
from pipeline.model import LARGEST_FILE
from pipeline.spec.complaint import Source

DEEPEST_NESTING = 50
MOST_VALUES = 200_000  # keys and values: bounds the memory that a file of allowed size can take
BOM = b"\xef\xbb\xbf"

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_UNUSABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(slots=True)
class Scalar:
    """A value as it is written; `plain` where nothing marks it as text (no quotes in YAML, no string in JSON)."""

    text: str
    plain: bool
    line: int
    column: int
    written: str | None = None  # what stands in the file, where `text` was filled in from the environment

    @property
    def shown(self) -> str:
        """What a message may show: as it stands in the file, whatever the environment holds."""
        return self.text if self.written is None else self.written

    @property
    def null(self) -> bool:
        """Whether this says that the key is absent; of what the environment holds, nothing but an empty text does."""
        return self.plain and self.text in _NULLS and (self.written is None or not self.text)


@dataclass(slots=True)
class Sequence:
    """A list."""

    line: int
    column: int
    items: list["Node"] = field(default_factory=list)


@dataclass(slots=True)
class Mapping:
    """Keys, each with the place it stands at, and values, in the order they are written."""

    line: int
    column: int
    entries: dict[str, tuple[Scalar, "Node"]] = field(default_factory=dict)


Node = Scalar | Sequence | Mapping


class Tree:
    """Builds nodes from what a parser reports, and stops at the limits before anything grows beyond them."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.root: Node | None = None
        self._open: list[Sequence | Mapping] = []
        self._keys: list[Scalar | None] = []
        self._values = 0

    def refuse(self, line: int, column: int, message: str, expected: str | None = None) -> SpecError:
        """Return the error for one complaint about the whole file."""
        return SpecError([self.source.complaint(line, column, message, expected)])

    def too_deep(self, line: int, column: int) -> SpecError:
        """Return the error for nesting that goes down too far."""
        return self.refuse(
            line, column, f"nested more than {DEEPEST_NESTING} deep", "a flatter file; nothing was built"
        )

    def add(self, node: Node) -> None:
        """Put a node where the parser is."""
        self._values += 1
        if self._values > MOST_VALUES:
            raise self.refuse(node.line, node.column, f"more than {MOST_VALUES:,} keys and values", "a smaller file")
        if isinstance(node, Scalar) and not node.text.isprintable() and _UNUSABLE.search(node.text):
            raise self.refuse(
                node.line, node.column, "a control character or half a surrogate pair", "text without them"
            )
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if isinstance(parent, Sequence):
            parent.items.append(node)
            return
        key = self._keys[-1]
        if key is None:
            self._keys[-1] = self._checked_key(parent, node)
        else:
            parent.entries[key.text] = (key, node)
            self._keys[-1] = None

    def open(self, node: Sequence | Mapping) -> None:
        """Begin a list or a mapping."""
        if len(self._open) >= DEEPEST_NESTING:
            raise self.too_deep(node.line, node.column)
        self.add(node)
        self._open.append(node)
        self._keys.append(None)

    def close(self) -> None:
        """End the innermost list or mapping."""
        self._open.pop()
        self._keys.pop()

    def _checked_key(self, parent: Mapping, node: Node) -> Scalar:
        if not isinstance(node, Scalar):
            raise self.refuse(node.line, node.column, "a list or mapping stands as a key", "a word, then a colon")
        if node.text in parent.entries:
            first = parent.entries[node.text][0].line
            raise self.refuse(
                node.line,
                node.column,
                f'duplicate key "{node.text}": it stands in line {first} already',
                "each key once",
            )
        return node


def decoded(data: bytes, file: str, *, json: bool, redact: bool = False) -> Source:
    """Decode a file of allowed size as UTF-8, with or without a byte order mark.

    Raises:
        SpecError: too large, empty, or not UTF-8.
    """
    if len(data) > LARGEST_FILE:
        raise SpecError([Source(file, "").complaint(1, 1, "the file is larger than 1 MiB", "at most 1 MiB")])
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")):
        wide = "UTF-32" if data[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff") else "UTF-16"
        raise SpecError(
            [Source(file, "").complaint(1, 1, f"the file is {wide}", "UTF-8: save it again with that encoding")]
        )
    body = data.removeprefix(BOM)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        source = Source(file, body.decode(errors="replace"), json, redact)
        line, column = source.place(len(body[: error.start].decode(errors="replace")))
        message = f"byte 0x{body[error.start]:02x} is not UTF-8"
        raise SpecError(
            [source.complaint(line, column, message, "UTF-8: save the file again with that encoding")]
        ) from error
    if not text.strip():
        raise SpecError(
            [Source(file, "").complaint(1, 1, "the file is empty", "a job: at least `character` and `prompt`")]
        )
    return Source(file, text, json, redact)


def core_value(scalar: Scalar) -> object:
    """Read a scalar by YAML 1.2's core schema, which is also JSON's where the file is JSON.

    Raises:
        ValueError: a number that JSON cannot carry, or no back end would take.
    """
    text = scalar.text
    if not scalar.plain:
        return text
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _NOT_FINITE.fullmatch(text):
        raise ValueError("infinity and not-a-number cannot be handed on")
    if _INT.fullmatch(text):
        return _whole(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if not math.isfinite(number):
            raise ValueError("the number is too large")
        return number
    return text


def _whole(text: str) -> int:
    if len(text) > 100:
        raise ValueError("the number is too large")
    number = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if not -(2**63) <= number < 2**64:
        raise ValueError("the number is too large")
    return number
