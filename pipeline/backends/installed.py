"""What a ComfyUI has installed, as `/object_info` tells, and what a graph asks for beyond that."""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import PurePosixPath

from pipeline.backends.filling import RawGraph
from pipeline.errors import InvalidRequest
from pipeline.tools.scrub import scrub

CHECKPOINTS = ("CheckpointLoaderSimple", "ckpt_name")
LORAS = ("LoraLoader", "lora_name")
SAMPLERS = ("KSampler", "sampler_name")
SCHEDULERS = ("KSampler", "scheduler")

_LISTED = 12  # choices that a message names
_LONGEST_NAME = 60  # characters of each of them
_NAMED = re.compile(r"\w+_name\d?|scheduler")  # inputs whose choices are files or names, always checked by ComfyUI
_WORD_FOR = {
    "ckpt_name": "model",
    "unet_name": "model",
    "lora_name": "lora",
    "sampler_name": "sampler",
    "scheduler": "scheduler",
}


class Installed:
    """One answer of `/object_info`, or of `/object_info/CLASS`."""

    def __init__(self, told: object) -> None:
        self._classes: Mapping[str, object] = told if isinstance(told, dict) else {}

    def choices(self, kind: str, name: str) -> Sequence[str] | None:
        """Return what a combo box offers; None where the input is none, or its choices are not told."""
        match self._classes.get(kind):
            case {"input": dict(groups)}:
                pass
            case _:
                return None
        for group in groups.values():
            match group.get(name) if isinstance(group, dict) else None:
                case [list(options), *_] | ["COMBO", {"options": list(options)}, *_]:
                    return [option for option in options if isinstance(option, str)]
        return None

    def objections(self, graph: RawGraph) -> Iterator[InvalidRequest]:
        """Yield what ComfyUI would refuse for want of a node class, a model or a name."""
        for node_id, node in graph.items():
            kind = node["class_type"]
            if kind not in self._classes:
                yield InvalidRequest(
                    f'the workflow\'s node {node_id} is a "{kind}", which is not installed there: install the custom '
                    'node that provides it (ComfyUI Manager > "Install Missing Custom Nodes") and restart ComfyUI',
                    code="missing_node",
                )
        for node_id, node in graph.items():
            for name, value in node["inputs"].items():
                offered = self.choices(node["class_type"], name) if _NAMED.fullmatch(name) else None
                if offered is not None and isinstance(value, str) and value not in offered:
                    word = _WORD_FOR.get(name, name)
                    yield missing(word, value, offered, f"node {node_id} ({node['class_type']}) wants it")


def missing(word: str, asked: str, offered: Sequence[str], why: str = "") -> InvalidRequest:
    """Say that a model, LoRA, embedding, sampler … is not there, with the nearest name and the choices."""
    near = matching(asked, offered) or get_close_matches(asked, offered, n=1, cutoff=0.5)
    hint = f'; did you mean "{_fit(near[0])}"?' if near else ""
    shown = ", ".join(map(_fit, offered[:_LISTED])) or "none"
    more = f" and {len(offered) - _LISTED} more" if len(offered) > _LISTED else ""
    told = f" ({why})" if why else ""
    code = "missing_model" if word.endswith("_name") else f"missing_{word}"
    return InvalidRequest(f'no {word} "{asked}" is installed there{told}{hint} installed: {shown}{more}', code=code)


def _fit(name: str) -> str:
    return scrub(name, longest=_LONGEST_NAME)


def matching(asked: str, offered: Sequence[str]) -> list[str]:
    """Return the names that mean the same file: another case, without its folder, or without its extension."""

    def reduced(name: str) -> str:
        return PurePosixPath(name.replace("\\", "/").casefold()).name

    wanted = reduced(asked)
    return [name for name in offered if wanted in (reduced(name), PurePosixPath(reduced(name)).stem)]


def resolved(word: str, asked: str, offered: Sequence[str]) -> str:
    """Return the name as it is spelt there.

    Raises:
        InvalidRequest: no such name, or several that it may mean.
    """
    if asked in offered:
        return asked
    same = matching(asked, offered)
    if len(same) == 1:
        return same[0]
    raise missing(word, asked, offered, f"{len(same)} of that name" if same else "")
