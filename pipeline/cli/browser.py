"""`pipeline gallery --open`: the page in a browser, signed in.

A browser's arguments can be read by everybody on the machine (`ps`), so it is given a local file that only its owner
can read; that file goes on to the page with a token in the fragment, which is sent to no server.
"""

import html
import webbrowser
from pathlib import Path
from urllib.parse import quote

import click
import httpx

from pipeline.cli.common import FAILED
from pipeline.config import Config
from pipeline.gallery.tokens import Tokens
from pipeline.tools.files import write_durably

SECONDS = 3600.0  # how long the token opens the gallery
ANSWERS_IN = 2.0  # seconds

_PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={address}">
<title>Pipeline</title>
<p><a href="{address}">Open the gallery</a></p>
"""


def open_page(config: Config, owner: str | None, character_id: str | None) -> None:
    """Open the gallery of everybody, or of one character with its owner's rights; exit code 1 if nothing answers."""
    base = config.gallery.public_url.rstrip("/")
    try:
        httpx.get(f"{base}/healthz", timeout=ANSWERS_IN, trust_env=False).raise_for_status()
    except httpx.HTTPError:
        click.echo(f"nothing answers at {base}: start `pipeline run`, or `pipeline serve`", err=True)
        raise SystemExit(FAILED) from None
    token = Tokens(config.state / "tokens").create(owner, seconds=SECONDS, name="gallery --open")
    path = f"/gallery/{quote(character_id, safe='')}" if character_id else "/"
    file = _written(config.state, f"{base}{path}#t={token}")
    if webbrowser.open(file.as_uri()):
        click.echo(f"opened {base}{path}; this sign-in ends in an hour", err=True)
    else:
        click.echo(f"no browser could be started; open this file in one: {file}", err=True)
        raise SystemExit(FAILED)


def _written(state: Path, address: str) -> Path:
    file = state / "open.html"
    write_durably(file, _PAGE.format(address=html.escape(address)).encode(), replace=True, mode=0o600)
    return file
