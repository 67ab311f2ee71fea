"""The front desk: arguments become a Config, then a daemon or a read of the index.

Commands are loaded when they are called: importing every library costs more than half a second, and `pipeline --help`
needs none of them. Exit codes: 0 done, 1 something failed, 2 wrong usage or invalid input.
"""

import atexit
import gc
import os
from importlib import import_module
from typing import Any

import click

from pipeline import __version__

# section -> command -> (module, one line)
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Work": {
        "run": ("run", "Watch the jobs folder and make what is dropped there."),
        "demo": ("demo", "Show the whole thing on this machine: no account, no GPU."),
        "init": ("init", "Write a commented pipeline.yaml and the folders."),
        "submit": ("submit", "Drop a job into the folder, from a file or from options."),
        "validate": ("validate", "Check job files without running them."),
    },
    "Look": {
        "status": ("status", "What is running, waiting and failing; one job in detail."),
        "gallery": ("gallery", "List characters and their images."),
        "verify": ("verify", "Check the index, the files and the numbers."),
        "schema": ("schema", "Print the JSON Schema of job files or of the configuration."),
    },
    "Steer": {
        "cancel": ("cancel", "End a job, or all jobs with a label."),
        "retry": ("retry", "Make placeholders and failed images again, in place."),
        "pause": ("pausing", "Start nothing more: of a job, at a back end, or at all."),
        "resume": ("pausing", "Let go on what was paused."),
        "remove": ("keeping", "Delete images for good; their numbers stay held."),
        "favorite": ("keeping", "Mark images as favorites."),
        "unfavorite": ("keeping", "Take the marks away."),
    },
    "Care": {
        "token": ("token", "Create, list and revoke the tokens that open galleries."),
        "serve": ("serve", "Serve the gallery alone, without working on jobs."),
        "doctor": ("doctor", "Check configuration, folders, back ends, store; name each remedy."),
        "backup": ("backup", "Copy the index into a file, also while the daemon works."),
        "reindex": ("reindex", "Make a lost index anew from the store and the jobs folder."),
        "adopt": ("adopt", "Take over images that another tool left at Cloudinary."),
        "export": ("export", "Copy a character's images into a folder, with a list."),
    },
}

COMMANDS = {name: entry for commands in SECTIONS.values() for name, entry in commands.items()}


class Commands(click.Group):
    """A group that knows its commands' names and sentences, and imports a command only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands in the order of the help page."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command."""
        if cmd_name not in COMMANDS:
            return None
        gc.disable()  # nothing that is imported becomes garbage: it need not be searched meanwhile, nor ever
        module = import_module(f"pipeline.cli.{COMMANDS[cmd_name][0]}")
        gc.freeze()
        gc.enable()
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Add the nearest command's name to click's complaint about an unknown one."""
        from difflib import get_close_matches  # noqa: PLC0415  # only where a name was mistyped

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f' Did you mean "{near[0]}"?' if near else ""
            ctx.fail(f'No such command "{args[0]}".{hint}')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the commands by section, without importing any."""
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, line) for name, (_, line) in commands.items()], col_max=12)


def _version(ctx: click.Context, _: click.Parameter, value: Any) -> None:  # noqa: ANN401  # click's callback type
    if value:
        click.echo(f"pipeline {__version__}")
        ctx.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog='Start with: pipeline demo. Completion: eval "$(_PIPELINE_COMPLETE=bash_source pipeline)" (zsh_source, fish_source).',
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
)
@click.option(
    "--config",
    metavar="PATH",
    envvar="PIPELINE_CONFIG",
    help="The configuration; default: $PIPELINE_CONFIG, else ./pipeline.yaml, else built-in defaults.",
)
@click.pass_context
def main(ctx: click.Context, config: str | None) -> None:
    """Drop a YAML file into a folder, get a numbered gallery of images; nothing accepted is ever lost."""
    ctx.obj = config
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    atexit.register(gc.freeze)  # else the interpreter searches all libraries for garbage before it ends
