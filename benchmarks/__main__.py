"""`just bench`: all figures, in one table, one JSON and plots in benchmarks/results.

just bench                          everything but the longest parts
just bench --quick                  small numbers, one round: does it all still run?
just bench --only main,large        some parts; the others' figures stay as they were
just bench --only many,suite        the longest: 50,000 images (a quarter of an hour), the test suite
"""

import argparse
import json
import os
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import arrivals, commands, comparison, figures, gallery_figures, growth, memory, processes

PARTS = {
    "main": ("1 s images of 200 kB", comparison.quick_images),
    "slow": ("10 s images of 200 kB", comparison.slow_images),
    "large": ("1 s images of 1 MB", comparison.large_images),
    "intake": ("Files taken", arrivals.intake),
    "idle": ("A file dropped while nothing runs", arrivals.idle),
    "busy": ("A file dropped while 500 images run", arrivals.busy),
    "start": ("A start with much behind it", growth.start),
    "growth": ("A large index", growth.growth),
    "gallery": ("The gallery", gallery_figures.gallery),
    "beside": ("Galleries beside images being made", gallery_figures.beside),
    "commands": ("Commands", commands.commands),
    "results": ("Large results", memory.large_results),
    "many": ("Many images", memory.many_images),
    "suite": ("The tests", commands.suite),
}
LONGEST = {"many", "suite"}
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="for trying; the results go to the temporary folder")
    parser.add_argument("--huge", action="store_true", help="growth with an index of ten million images, too")
    parser.add_argument("--many", type=int, default=50_100, help="images of the part `many`, in steps of 300")
    parser.add_argument("--lock", type=Path, help="a file to lock during each measurement, where others work too")
    said = parser.parse_args()
    processes.end_orderly()
    conditions = figures.Conditions(1 if said.quick else said.rounds, said.quick, said.huge, said.many, said.lock)
    names = said.only.split(",") if said.only else [name for name in PARTS if name not in LONGEST]
    folder = Path(tempfile.gettempdir(), "pipeline-bench", "quick") if said.quick else RESULTS
    file = folder / "figures.json"
    told = json.loads(file.read_text()) if file.exists() else {}
    for name in names:
        title, measure = PARTS[name]
        conditions.said(f"{name}: {measure.__doc__}")
        part = {"title": title, **_circumstances(), "figures": [figure.told() for figure in measure(conditions)]}
        told = {key: part if key == name else told[key] for key in PARTS if key in told or key == name}
        _write(file, json.dumps(told, indent=1) + "\n")
    table = figures.table({part["title"]: part["figures"] for part in told.values()})
    _write(folder / "figures.md", table + "\n")
    print(table)


def _circumstances() -> dict:
    return {
        "measured": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}",
        "cores": len(os.sched_getaffinity(0)),
        "load_at_start": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


if __name__ == "__main__":
    main()
