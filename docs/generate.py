"""Writes the reference's tables from the code: `python docs/generate.py`, or with `--check` only compares.

A page holds `<!-- generated: NAME -->` and `<!-- end of NAME -->`; what stands between them is replaced.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import trio
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipeline.catalogue import Catalogue
from pipeline.cli import SECTIONS, main
from pipeline.config.adapters import (
    A1111Config,
    AnyBackend,
    CloudinaryConfig,
    ComfyuiConfig,
    LocalConfig,
    RunpodConfig,
    SketchConfig,
)
from pipeline.config.model import Config, GalleryConfig, JwtConfig, NotifyConfig
from pipeline.gallery import metrics, openapi
from pipeline.gallery.settings import GallerySettings
from pipeline.ledger import open_ledger
from pipeline.model import Pulse
from pipeline.spec.job import JobSpec
from pipeline.spec.keys import CharacterSpec, LoraSpec
from pipeline.spec.shapes import record_of

DOCS = Path(__file__).parent
WIDTH = 100  # columns of a help page
_PART = re.compile(r"<!-- generated: ([a-z0-9-]+) -->\n.*?<!-- end of \1 -->", re.DOTALL)

# Defaults that are made, or that read better in words.
_WORDS = {
    (Config, "gallery"): "see below",
    (Config, "store"): "Cloudinary where CLOUDINARY_URL is set, else local",
    (Config, "backends"): "one, `sketch`",
    (Config, "styles"): "none: a style is only a label",
    (Config, "spool_limit"): "`10GB`",
    (Config, "default_backend"): "all back ends",
    (GalleryConfig, "public_url"): "`http://HOST:PORT`",
    (SketchConfig, "concurrency"): "the number of cores",
    (JobSpec, "seed"): "`-1`: drawn once, and recorded",
    (JobSpec, "on_failure"): "`placeholder`",
    (JobSpec, "params"): "none",
}


def keys(model: type[BaseModel], *, leave_out: frozenset[str] = frozenset()) -> str:
    """A table of a model's keys: what each may be, what it is where it is absent."""
    rows = [
        f"| `{name}` | {_cell(field.description or '')} | {_default(model, name, field)} |"
        for name, field in model.model_fields.items()
        if name not in leave_out
    ]
    return "\n".join(["| key | value | default |", "|---|---|---|", *rows])


def own_keys(model: type[AnyBackend]) -> str:
    """The keys that a type of back end has beside those of all, and those whose default is its own."""
    same = {
        name
        for name, field in AnyBackend.model_fields.items()
        if _default(model, name, model.model_fields[name]) == _default(AnyBackend, name, field)
    }
    return keys(model, leave_out=frozenset(same | {"type"}))


def spellings() -> str:
    """Every way a job's key may be written, beside its own."""
    others: dict[tuple[str, ...], list[str]] = {}
    for shape, below in ((record_of(JobSpec), ()), (record_of(LoraSpec), ("loras",))):
        for spelling, place in shape.keys.items():
            if spelling != place[-1] or len(place) > 1:
                others.setdefault((*below, *place), []).append(spelling)
    rows = [f"| `{'.'.join(place)}` | {', '.join(f'`{name}`' for name in names)} |" for place, names in others.items()]
    return "\n".join(["| key | may also be written |", "|---|---|", *rows])


def commands() -> str:
    """Every command's help page, by section."""
    root = click.Context(main, info_name="pipeline", terminal_width=WIDTH, **main.context_settings)
    parts = [_page(root)]
    for section, entries in SECTIONS.items():
        parts.append(f"## {section}")
        for name in entries:
            command = main.get_command(root, name)
            assert command is not None
            parts += [f"### pipeline {name}", *_pages(command, name, root)]
    return "\n\n".join(parts)


def _pages(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH)
    yield _page(context)
    if isinstance(command, click.Group):
        for inner_name, inner in command.commands.items():
            yield from _pages(inner, inner_name, context)


def _page(context: click.Context) -> str:
    lines = (line.rstrip() for line in context.get_help().splitlines())
    return "\n".join(["```text", *lines, "```"])


def _described() -> dict[str, Any]:
    return openapi.document(public_url="", logins=False, longest_wait=GallerySettings().longest_wait)


def endpoints() -> str:
    """Every path that `/openapi.json` describes, and what may be asked of it."""
    rows = []
    for path, methods in _described()["paths"].items():
        asked = [one["name"] for one in methods["get"].get("parameters", ()) if one["in"] == "query"]
        words = ", ".join(f"`{name}`" for name in asked) or "none"
        rows.append(f"| `{path}` | {methods['get']['summary']} | {words} |")
    return "\n".join(["| path | what it answers | parameters |", "|---|---|---|", *rows])


def parameters() -> str:
    """Every query parameter once."""
    found = {}
    for methods in _described()["paths"].values():
        for one in methods["get"].get("parameters", ()):
            if one["in"] == "query":
                found[one["name"]] = f"| `{one['name']}` | {_bounds(one['schema'])} | {_cell(one['description'])} |"
    return "\n".join(["| parameter | value | meaning |", "|---|---|---|", *found.values()])


def answer(name: str) -> str:
    """The fields of one kind of answer."""
    schema = _described()["components"]["schemas"][name]
    rows = [
        f"| `{field}` | {_kind(body)} | {_cell(body.get('description', ''))} |"
        for field, body in schema["properties"].items()
    ]
    return "\n".join(["| field | type | |", "|---|---|---|", *rows])


def _bounds(schema: dict[str, Any]) -> str:
    kind = str(schema["type"])
    if "maximum" in schema:
        kind += f", {schema['minimum']:g} to {schema['maximum']:,.12g}"
    if "anyOf" in schema:
        kind = "a date, or a moment"
    return kind + (f"; default `{schema['default']}`" if "default" in schema else "")


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2].removesuffix("Answer").lower()
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    if "const" in schema:
        return f"`{str(schema['const']).lower()}`"
    if schema["type"] == "array":
        return f"list of {_kind(schema['items'])}"
    return "moment" if schema.get("format") == "date-time" else str(schema["type"])


def _default(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    if (model, name) in _WORDS:
        return _WORDS[model, name]
    if field.is_required():
        return "needed"
    value = field.default
    if value is None or value in ((), PydanticUndefined):
        return ""
    assert not isinstance(value, SecretStr)
    return f"`{f'{value:g}' if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def figures() -> str:
    """Every metric of our own, as an empty index has it."""
    with TemporaryDirectory() as folder:
        index = Path(folder) / "index.db"
        trio.run(_make_index, index)
        pulse = Pulse(None, None, taken=0, rejected=0, duplicates=0, lag=0.0, passed_at=0, free_bytes=0)
        with closing(Catalogue(index)) as catalogue:
            families = metrics.families(catalogue, now=0, held=0, requests={}, pulse=pulse)
    rows = []
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family._labelnames)  # noqa: SLF001 - told nowhere else without samples
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append(f"| `{name}` | {family.type} | {labels} | {_cell(family.documentation)} |")
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows])


async def _make_index(path: Path) -> None:
    async with open_ledger(path):
        pass


PARTS: dict[str, Callable[[], str]] = {
    "job-keys": lambda: keys(JobSpec),
    "character-keys": lambda: keys(CharacterSpec),
    "lora-keys": lambda: keys(LoraSpec),
    "spellings": spellings,
    "config-keys": lambda: keys(Config),
    "gallery-keys": lambda: keys(GalleryConfig),
    "jwt-keys": lambda: keys(JwtConfig),
    "notify-keys": lambda: keys(NotifyConfig),
    "local-keys": lambda: keys(LocalConfig, leave_out=frozenset({"type"})),
    "cloudinary-keys": lambda: keys(CloudinaryConfig, leave_out=frozenset({"type"})),
    "backend-keys": lambda: keys(AnyBackend),
    "sketch-keys": lambda: own_keys(SketchConfig),
    "runpod-keys": lambda: own_keys(RunpodConfig),
    "comfyui-keys": lambda: own_keys(ComfyuiConfig),
    "a1111-keys": lambda: own_keys(A1111Config),
    "commands": commands,
    "endpoints": endpoints,
    "metrics": figures,
    "parameters": parameters,
    "image-fields": lambda: answer("ImageAnswer"),
    "character-fields": lambda: answer("CharacterAnswer"),
    "job-fields": lambda: answer("JobData"),
    "job-image-fields": lambda: answer("JobImageAnswer"),
}


def rewritten(text: str) -> str:
    """Return a page with every generated part as the code would have it now."""
    return _PART.sub(
        lambda found: f"<!-- generated: {found[1]} -->\n{PARTS[found[1]]()}\n<!-- end of {found[1]} -->", text
    )


def stale() -> Iterator[tuple[Path, str]]:
    """Yield every page that is not as it should be, with the text it should have."""
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text()
        if (new := rewritten(text)) != text:
            yield page, new


if __name__ == "__main__":
    found = list(stale())
    for page, text in found:
        print(f"{page.name} is {'out of date' if '--check' in sys.argv else 'written anew'}")
        if "--check" not in sys.argv:
            page.write_text(text)
    sys.exit(bool(found) and "--check" in sys.argv)
