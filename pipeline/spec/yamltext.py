"""Reads YAML text into a tree of nodes, from parser events: nothing is composed, resolved or constructed by the YAML library."""

import re
from typing import Any

import yaml
from yaml import events

from pipeline.errors import SpecError
from pipeline.spec.complaint import Source
from pipeline.spec.nodes import Mapping, Node, Scalar, Sequence, Tree, decoded

# libyaml where it is there: twenty times faster; its events are safe, only its composer is not (deep nesting).
_PARSER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
# What may stand in YAML takes ten times as long to compile as what may not.
_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
_ONE_FILE_ONE_JOB = "one file is one job: put the second one into a file of its own"
_ONE_CONFIGURATION = "one document: all of the configuration in it"
_TOO_DEEP = "exceeded maximum nesting depth"  # libyaml's own limit, which it meets by looking ahead

# To YAML the braces of `${NAME}` are brackets of its own; these stand for them, which Unicode promises never to use.
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*(?::-[^{}'\"\r\n]*)?)\}")
_VEILED = "$\ufdd0\\1\ufdd1"
_UNVEIL = str.maketrans("\ufdd0\ufdd1", "{}")


def read_yaml(
    data: bytes,
    *,
    source: str,
    redact: bool = False,
    references: bool = False,
    loader: Any = _PARSER,  # noqa: ANN401  # libyaml's and the pure one share no base
) -> tuple[Node, Source]:
    """Read one YAML document; return its root and the text to quote complaints from.

    With `references`, `${NAME}` needs no quotes between brackets.

    Raises:
        SpecError: whatever the bytes are, if they are not one plain YAML document within the limits.
    """
    text = decoded(data, source, json=False, redact=redact)
    tree = Tree(text)
    unreadable = _UNREADABLE.search(text.text)
    if unreadable:
        line, column = text.place(unreadable.start())
        raise tree.refuse(line, column, f"character U+{ord(unreadable[0]):04X} may not stand in YAML", "printable text")
    try:
        _build(_REFERENCE.sub(_VEILED, text.text) if references else text.text, tree, loader, references=references)
    except yaml.MarkedYAMLError as error:
        raise _syntax(error, tree) from error
    except yaml.YAMLError as error:
        raise tree.refuse(1, 1, f"not readable as YAML: {error}") from error
    if tree.root is None:
        raise tree.refuse(1, 1, "the file holds nothing but comments", "a job: at least `character` and `prompt`")
    return tree.root, text


def _build(text: str, tree: Tree, loader: Any, *, references: bool) -> None:  # noqa: ANN401  # likewise
    next_event = loader(text).get_event
    while (event := next_event()) is not None:
        if isinstance(event, events.ScalarEvent):
            value = event.value.translate(_UNVEIL) if references else event.value
            tree.add(Scalar(value, not event.style, *_node_place(event, tree)))
        elif isinstance(event, events.MappingStartEvent):
            tree.open(Mapping(*_node_place(event, tree)))
        elif isinstance(event, events.SequenceStartEvent):
            tree.open(Sequence(*_node_place(event, tree)))
        elif isinstance(event, events.CollectionEndEvent):
            tree.close()
        elif isinstance(event, events.AliasEvent):
            raise tree.refuse(
                *_place(event.start_mark), f"alias *{event.anchor}: aliases are not read", "the value itself"
            )
        elif isinstance(event, events.DocumentStartEvent) and tree.root is not None:
            remedy = _ONE_CONFIGURATION if references else _ONE_FILE_ONE_JOB  # only a configuration has references
            raise tree.refuse(*_place(event.start_mark), "a second YAML document begins here", remedy)


def _place(mark: Any) -> tuple[int, int]:  # noqa: ANN401  # two unrelated classes, libyaml's and the pure one
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def _node_place(event: Any, tree: Tree) -> tuple[int, int]:  # noqa: ANN401  # their common base has no tag
    place = _place(event.start_mark)
    if event.anchor is not None:
        raise tree.refuse(*place, f"anchor &{event.anchor}: anchors are not read", "the value itself")
    if event.tag is not None:
        shown = event.tag.replace("tag:yaml.org,2002:", "!!")
        raise tree.refuse(*place, f"tag {shown}: tags are not read", "the value itself, in quotes where it is text")
    return place


def _syntax(error: yaml.MarkedYAMLError, tree: Tree) -> SpecError:
    mark = error.problem_mark
    at_the_end = mark is not None and mark.index >= len(tree.source.text.rstrip())
    line, column = _place(error.context_mark if at_the_end and error.context_mark else mark)
    problem = error.problem or str(error)
    if problem == _TOO_DEEP:
        return tree.too_deep(line, column)
    complaint = tree.source.complaint(line, column, f"not readable as YAML: {problem}")
    return tree.refuse(line, column, complaint.message, _remedy(problem, complaint.source_line))


def _remedy(problem: str, line: str) -> str | None:
    if "\t" in line[: len(line) - len(line.lstrip())] or "found character '\\t'" in problem:
        return "spaces before a key: YAML does not indent with tabs"
    if "mapping values are not allowed" in problem:
        return 'quotes around a value that contains ": "'
    if "',' or" in problem:
        return "the closing bracket, and a comma between entries"
    if "block mapping" in problem or "could not find expected ':'" in problem:
        return "one `key: value` a line, keys of one mapping equally indented"
    if "start any token" in problem:
        return "quotes around a value that begins with a special character"
    return None
