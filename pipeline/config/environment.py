"""`${NAME}` and `${NAME:-default}` in values, secrets that stand in files, and what CLOUDINARY_URL says."""

import re
from collections.abc import Iterator
from collections.abc import Mapping as Environ
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from pipeline.errors import ConfigError
from pipeline.spec.complaint import Complaint, Source, meant
from pipeline.spec.nodes import Mapping, Node, Scalar, Sequence

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FORM = "${NAME} or ${NAME:-default}; $${ for the characters themselves"


def with_credentials(environ: Environ[str, str]) -> Environ[str, str]:
    """Return the environment and, for names that it lacks, the files in CREDENTIALS_DIRECTORY: systemd's, a container's.

    Raises:
        ConfigError: a file there cannot be read.
    """
    folder = Path(environ.get("CREDENTIALS_DIRECTORY", ""))
    if not folder.is_absolute() or not folder.is_dir():
        return environ
    try:
        found = {
            file.name: file.read_text().removesuffix("\n")
            for file in sorted(folder.iterdir())
            if _NAME.fullmatch(file.name) and file.name not in environ and file.is_file()
        }
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{folder}: a credential cannot be read ({type(error).__name__}); each file there is one text, readable for this user"
        ) from None
    return {**found, **environ}


def fill_in(node: Node, source: Source, environ: Environ[str, str], key: str = "") -> Iterator[Complaint]:
    """Replace references in every value below a node, in place; yield what cannot be replaced."""
    if isinstance(node, Mapping):
        for name, (_, child) in node.entries.items():
            yield from fill_in(child, source, environ, f"{key}.{name}" if key else name)
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from fill_in(item, source, environ, key)
    elif "${" in node.text:
        yield from _fill_scalar(node, source, environ, key)


def _fill_scalar(node: Scalar, source: Source, environ: Environ[str, str], key: str) -> Iterator[Complaint]:
    complaints = []

    def value(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        name, default = found[1], found[2]
        if name is None:
            complaints.append((f"{key}: a reference to the environment is not readable", _FORM))
            return ""
        if default is not None:
            return environ.get(name) or default
        if name not in environ:
            message = f"{key}: the environment has no {name}{meant(name, environ)}"
            complaints.append((message, f"the variable {name}, or ${{{name}:-default}}"))
        return environ.get(name, "")

    node.written = node.text
    node.text = _REFERENCE.sub(value, node.text)
    for message, expected in complaints:
        yield source.complaint(node.line, node.column, message, expected)


def cloudinary_url(environ: Environ[str, str]) -> dict[str, str]:
    """Return the parts of CLOUDINARY_URL by their key in the configuration.

    Raises:
        ConfigError: it has another form; its value is not shown.
    """
    text = environ.get("CLOUDINARY_URL", "").strip()
    if not text:
        return {}
    try:
        parts = urlsplit(text)
        whole = bool(parts.scheme == "cloudinary" and parts.username and parts.password and parts.hostname)
    except ValueError:
        parts, whole = urlsplit(""), False
    if not whole:
        raise ConfigError(
            "CLOUDINARY_URL in the environment has not the form cloudinary://API_KEY:API_SECRET@CLOUD_NAME"
        )
    said = {
        "cloud_name": parts.netloc.rpartition("@")[2],
        "api_key": unquote(parts.username or ""),
        "api_secret": unquote(parts.password or ""),
    }
    options = parse_qs(parts.query)
    return said | {name: options[name][-1] for name in ("upload_prefix",) if name in options}
