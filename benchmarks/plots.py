"""Plots of benchmarks/results/figures.json, as SVG beside it. Needs matplotlib: uv run --with matplotlib …"""

import json
import re
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.contenders.running import NAMES

RESULTS = Path(__file__).parent / "results"
OURS, OTHERS, TARGET = "#2f6f5e", "#b9b4a8", "#b3402a"


def bars(axes, figures: list[dict], names: list[str], unit: str, bound: float | None = None) -> None:
    """Medians, with a line from the least to the greatest value."""
    middles = [figure["median"] for figure in figures]
    spread = [
        [figure["median"] - min(figure["values"]) for figure in figures],
        [max(figure["values"]) - figure["median"] for figure in figures],
    ]
    colors = [OURS if name.startswith("pipeline") else OTHERS for name in names]
    axes.barh(names, middles, xerr=spread, color=colors, error_kw={"elinewidth": 1})
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    if bound is not None:
        axes.axvline(bound, color=TARGET, linewidth=1)
        axes.text(bound, -0.6, f"target {bound:g}", color=TARGET, fontsize=8, ha="center")


def of_contenders(part: dict, what: str) -> tuple[list[dict], list[str]]:
    found = {figure["what"]: figure for figure in part["figures"]}
    names = [name for name in ("pipeline", *NAMES) if f"{name}: {what}" in found]
    return [found[f"{name}: {what}"] for name in names], names


def drawn(name: str, title: str, draw) -> None:
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    axes.set_title(title, loc="left", fontsize=10, pad=14)
    draw(axes)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def main() -> None:
    mpl.rcParams["svg.hashsalt"] = "pipeline"
    parts = json.loads((RESULTS / "figures.json").read_text())
    if main_job := parts.get("main"):
        ratios, names = of_contenders(main_job, "makespan to the ideal")
        title = "Makespan of 300 images of 1 s, 50 slots, to the ideal"
        drawn("makespan", title, lambda axes: bars(axes, ratios, names, "times the ideal", 1.12))
    for part, what in (("main", "200 kB"), ("large", "1 MB")):
        if part in parts:
            costs, names = of_contenders(parts[part], "CPU an image")
            drawn(f"cpu-{part}", f"CPU an image of {what}", lambda axes, c=costs, n=names: bars(axes, c, n, "ms"))
    if many := parts.get("many"):
        seconds = next(figure["values"] for figure in many["figures"] if figure["what"] == "memory in each second")
        drawn("memory", many["figures"][0]["what"].replace(": peak", ": memory"), lambda axes: over_time(axes, seconds))
    if growth := parts.get("growth"):
        costs = [figure for figure in growth["figures"] if re.search(r" to [\d,]+ indexed", figure["what"])]
        drawn("growth", "What a large index costs, beside a small one",
              lambda axes: bars(axes, costs, [f"pipeline: {figure['what']}" for figure in costs], "times", 1.2))  # fmt: skip


def over_time(axes, values: list[float]) -> None:
    axes.plot(values, color=OURS, linewidth=1)
    axes.axhline(200, color=TARGET, linewidth=1)
    axes.set_ylim(0, 220)
    axes.set_xlabel("seconds")
    axes.set_ylabel("MB")


if __name__ == "__main__":
    main()
