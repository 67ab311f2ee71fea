"""From a path, or none, to a `Config`; every complaint names file, line and key."""

import re
from collections.abc import Iterator
from collections.abc import Mapping as Environ
from pathlib import Path
from typing import Any

from pipeline.config.adapters import CloudinaryConfig, LocalConfig
from pipeline.config.environment import cloudinary_url, fill_in, with_credentials
from pipeline.config.model import Config
from pipeline.errors import ConfigError, SpecError
from pipeline.naming import EXTENSIONS
from pipeline.spec.binding import bind
from pipeline.spec.complaint import Complaint, Source, listed, meant
from pipeline.spec.nodes import Mapping, Node, Scalar, Sequence
from pipeline.spec.schema import schema_of
from pipeline.spec.shapes import record_of
from pipeline.spec.wording import find
from pipeline.spec.yamltext import read_yaml

DEFAULT_FILE = "pipeline.yaml"
VARIABLE = "PIPELINE_CONFIG"
_ONLY_COMMENTS = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:\s++|#[^\r\n]*+)*+"
)  # possessive: it must not try every cut of a comment


def load_config(path: Path | None, *, environ: Environ[str, str]) -> Config:
    """Read the configuration at `path`, else where $PIPELINE_CONFIG says, else ./pipeline.yaml, else the defaults.

    Raises:
        ConfigError: the file named, or a credential, cannot be read, or says something that cannot be used.
    """
    environ = with_credentials(environ)
    file = _found(path, environ)
    if file is None:
        return _checked(Mapping(1, 1), Source(DEFAULT_FILE, ""), None, environ)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}") from error
    if _ONLY_COMMENTS.fullmatch(data):
        return _checked(Mapping(1, 1), Source(str(file), "", redact=True), file, environ)
    try:
        root, source = read_yaml(data, source=str(file), redact=True, references=True)
    except SpecError as error:
        raise ConfigError(str(error)) from error
    if not isinstance(root, Mapping):
        raise ConfigError(source.complaint(root.line, root.column, "not a mapping", "`key: value` lines").render())
    return _checked(root, source, file, environ)


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema of `pipeline.yaml`, for editors."""
    return schema_of(Config, "pipeline.yaml")


def _found(path: Path | None, environ: Environ[str, str]) -> Path | None:
    named = path or (Path(environ[VARIABLE]) if environ.get(VARIABLE) else None)
    if named is not None:
        return named
    return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).exists() else None


def _checked(root: Mapping, source: Source, file: Path | None, environ: Environ[str, str]) -> Config:
    folder = file.absolute().parent if file is not None else Path.cwd()
    try:
        _raise_any(fill_in(root, source, environ))
        _choose_store(root, environ)
        config = bind(Config, root, source, context=folder)
        _raise_any(_loose_ends(config, root, source))
        _raise_any(_folders(config, file, root, source))
    except SpecError as error:
        raise ConfigError(str(error)) from error
    config._root = folder  # noqa: SLF001  # pydantic keeps private attributes off the constructor
    config._source = file.absolute() if file is not None else None  # noqa: SLF001  # likewise
    return config


def _raise_any(complaints: Iterator[Complaint]) -> None:
    if said := list(complaints):
        raise SpecError(said)


def _choose_store(root: Mapping, environ: Environ[str, str]) -> None:
    """Write into the tree which store is meant where the file leaves it open, and what CLOUDINARY_URL adds."""
    _, store = root.entries.get("store", (None, None))
    if store is None or (isinstance(store, Scalar) and store.null):
        store = Mapping(1, 1)
        root.entries["store"] = (Scalar("store", True, 1, 1), store)
    if not isinstance(store, Mapping):
        return
    if "type" not in store.entries:
        _add(store, "type", _store_type(store, environ))
    kind = store.entries["type"][1]
    if not isinstance(kind, Scalar) or kind.text != "cloudinary":
        return
    own = store.entries.get("cloud_name", (None, None))[1]
    known = cloudinary_url(environ)
    if own is None or (isinstance(own, Scalar) and own.text == known.get("cloud_name")):
        for key in CloudinaryConfig.from_environment:
            if key in known and key not in store.entries:
                _add(store, key, known[key])


def _store_type(store: Mapping, environ: Environ[str, str]) -> str:
    if store.entries.keys() & (LocalConfig.model_fields.keys() - CloudinaryConfig.model_fields.keys()):
        return "local"
    if store.entries.keys() & (CloudinaryConfig.model_fields.keys() - LocalConfig.model_fields.keys()):
        return "cloudinary"
    return "cloudinary" if environ.get("CLOUDINARY_URL", "").strip() else "local"


def _add(mapping: Mapping, key: str, text: str) -> None:
    place = (mapping.line, mapping.column)
    mapping.entries[key] = (Scalar(key, True, *place), Scalar(text, False, *place))


def _loose_ends(config: Config, root: Node, source: Source) -> Iterator[Complaint]:
    """Complain about names that lead nowhere."""

    def unknown(what: str, name: str, choices: list[str], path: tuple[str, ...]) -> Complaint:
        node = _entry(find(root, record_of(Config), path).node, name)
        shown = node.shown if isinstance(node, Scalar) else name
        message = f'{".".join(path)}: unknown {what} "{shown}"{meant(shown, choices)}'
        return source.complaint(node.line, node.column, message, f"one of {listed(choices)}")

    style = config.default_style
    if style is not None and config.styles and style not in config.styles:
        yield unknown("style", style, list(config.styles), ("default_style",))
    pools: list[tuple[tuple[str, ...], tuple[str, ...]]] = [(config.default_backend, ("default_backend",))]
    pools += [(keys.backend or (), ("styles", name, "backend")) for name, keys in config.styles.items()]
    for pool, path in pools:
        for name in pool:
            if name not in config.backends:
                yield unknown("back end", name, list(config.backends), path)


def _folders(config: Config, file: Path | None, root: Node, source: Source) -> Iterator[Complaint]:
    """Complain about folders that would get into each other's way."""

    def wrong(key: str, message: str, expected: str) -> Complaint:
        node = find(root, record_of(Config), tuple(key.split("."))).node
        return source.complaint(node.line, node.column, f"{key}: {message}", expected)

    for key, path in (("jobs", config.jobs), ("state", config.state), ("store.folder", config.images)):
        shown = str(path).encode("utf-8", "backslashreplace").decode()
        if path is not None and shown != str(path):
            yield wrong(key, f"{shown} is not UTF-8, as the index and results need it", "a folder named in UTF-8")
            break  # one says it of the whole workspace
    jobs = config.jobs.resolve()
    if jobs == config.state.resolve():
        yield wrong("state", "the jobs folder cannot be the state folder as well", "a folder of its own")
    if file is not None and file.name.endswith(EXTENSIONS) and jobs == file.absolute().parent.resolve():
        message = f"{file.name} lies in this folder and would be taken for a job"
        yield wrong("jobs", message, "a folder for job files, like `jobs`")


def _entry(node: Node, text: str) -> Node:
    """Return the entry of a list that reads so, else the node itself."""
    items = node.items if isinstance(node, Sequence) else []
    return next((item for item in items if isinstance(item, Scalar) and item.text.strip() == text), node)
