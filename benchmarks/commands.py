"""How long commands take, from the start of the process to its end."""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks import growth, processes
from benchmarks.figures import Conditions, Figure
from benchmarks.processes import REPOSITORY

PIPELINE = (sys.executable, "-m", "pipeline")


def commands(conditions: Conditions) -> list[Figure]:
    """`--help`, and `status` beside a large index."""
    size = 100_000 if conditions.quick else growth.LARGE
    times = 10 * conditions.rounds
    with growth.workspace(size) as folder, conditions.quiet():
        (folder / "pipeline.yaml").write_text("gallery: {enabled: false}\n")
        _took("status", folder=folder)  # so that all bytecode is there
        helped = [_took("--help", folder=folder) for _ in range(times)]
        told = [_took("status", folder=folder) for _ in range(times)]
    return [
        Figure("pipeline --help", "ms", helped, 300),
        Figure(f"pipeline status, {size:,} indexed", "ms", told, 400),
    ]


def suite(conditions: Conditions) -> list[Figure]:
    """The project's own tests, as `uv run pytest` runs them."""
    with conditions.quiet():
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
        return [Figure("the test suite", "s", [time.monotonic() - began], 180)]


def _took(*words: str, folder: Path) -> float:
    began = time.monotonic()
    used = processes.ended(processes.start([*PIPELINE, *words], folder))
    assert used.code == 0, used
    return 1000 * (time.monotonic() - began)
