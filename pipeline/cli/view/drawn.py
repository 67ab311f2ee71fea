"""The overview as a person sees it in a terminal; colour only for what is down and for placeholders."""

from collections.abc import Iterator
from datetime import datetime

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from pipeline.cli.view.overview import Overview, ended
from pipeline.cli.words import ago, countdown, span, spoilt
from pipeline.model import LaneState
from pipeline.tools import sizes

WIDEST = 100  # columns: beyond that the eye loses the line
LONGEST_ID = 28
BAR = 20
SPOILT, DOWN = "yellow", "red"


def drawn(overview: Overview) -> RenderableType:
    """Return the whole picture."""
    return Group(
        _head(overview),
        Text(),
        Text(_jobs_line(overview)),
        *_jobs(overview),
        Text(),
        _lanes(overview),
        Text(),
        _today(overview),
        _foot(overview),
    )


def bar(done: int, total: int, width: int = BAR) -> str:
    """Draw how far something has come."""
    halves = 2 * width * done // total if total else 0
    full, half = divmod(halves, 2)
    return "━" * full + ("╸" * half) + "─" * (width - full - half)


def _head(overview: Overview) -> RenderableType:
    holder = overview.holder
    daemon = "not running" if holder is None else f"running {ago(holder.since, overview.at)}".rstrip()
    if overview.all_paused:
        daemon += " · paused"
    table = Table.grid(expand=True)
    table.add_column()
    table.add_column(justify="right")
    moment = datetime.fromtimestamp(overview.at / 1000).astimezone()
    table.add_row(Text(f"{overview.workspace} · {daemon}", style="bold"), moment.strftime("%H:%M:%S"))
    if holder is not None and holder.trouble and not overview.troubles:  # the index could not be told
        table.add_row(Text(holder.trouble, style=DOWN))
    return table


def _jobs_line(overview: Overview) -> str:
    told = f"JOBS {overview.running} running, {overview.waiting} waiting"
    if overview.dropped:
        told += f" · {overview.dropped:,} {'file' if overview.dropped == 1 else 'files'} not taken yet"
    if again := overview.summary.retrying:
        told += f" · {again:,} {'image is' if again == 1 else 'images are'} made again"
    if not overview.rate or not overview.holder:
        return told
    per_minute = overview.rate * 60
    return f"{told} · about {per_minute:,.{0 if per_minute >= 10 else 1}f} images a minute"


class _Bar:
    """A bar as long as there is room for: a narrow terminal keeps the figures beside it."""

    def __init__(self, done: int, total: int) -> None:
        self._done = done
        self._total = total

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield Text(bar(self._done, self._total, min(BAR, options.max_width)))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, BAR)


def _jobs(overview: Overview) -> Iterator[RenderableType]:
    table = Table.grid(padding=(0, 2), pad_edge=False, expand=True)
    for gives_way in (True, True, False, False):
        table.add_column(no_wrap=not gives_way)
    table.add_column(overflow="ellipsis", no_wrap=True, ratio=1)
    width = max((len(str(job.quantity)) for job in overview.jobs), default=1)
    for job in overview.jobs:
        done = ended(job)
        name = job.id if len(job.id) <= LONGEST_ID else f"{job.id[: LONGEST_ID - 1]}…"
        remaining, without = overview.remaining(job), ", ".join(spoilt(job.counts))
        table.add_row(
            Text(name, no_wrap=True, overflow="ellipsis"),
            _Bar(done, job.quantity),
            f"{done:>{width}}/{job.quantity}",
            Text(without, style=SPOILT if without else ""),
            Text(overview.waits_for(job) or (span(remaining) if remaining is not None else "")),
        )
    yield table
    if overview.more > 0:
        yield Text(f"and {overview.more} more")


def _lanes(overview: Overview) -> RenderableType:
    table = Table.grid(padding=(0, 2), pad_edge=False, expand=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    for _ in range(3):
        table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=1)
    table.add_row("BACK ENDS", "", "slots", "typical", "waiting", "")
    for lane in overview.lanes:
        table.add_row(
            Text(lane.name),
            Text(lane.state, style=DOWN if lane.state == "down" else ""),
            f"{lane.busy}/{lane.slots}",
            span(lane.typical) if lane.typical else "-",
            str(lane.waiting),
            Text(why(lane, overview.at)),
        )
    return table


def why(lane: LaneState, at: int) -> str:
    """Why a back end takes nothing, and when it is asked again."""
    return f"{lane.reason or ''}{_next_try(lane.next_try, at)}".strip()


def _next_try(moment: int | None, at: int) -> str:
    return f"  next try {countdown((moment - at) / 1000)}" if moment is not None and moment > at else ""


def _today(overview: Overview) -> RenderableType:
    days = overview.summary.today
    done, placeholders = sum(day.done for day in days), sum(day.placeholder for day in days)
    failed, gpu = sum(day.failed for day in days), sum(day.gpu_seconds for day in days)
    line = Text(f"Today {done:,} done · ")
    line.append(
        f"{placeholders:,} {'placeholder' if placeholders == 1 else 'placeholders'}", SPOILT if placeholders else ""
    )
    parts = [f"{failed:,} failed"] if failed else []
    parts += [f"{gpu / 3600:.1f} GPU h" if gpu >= 360 else f"{gpu:.0f} GPU s"] if gpu else []
    cost = overview.cost(days)
    parts += [f"${cost:,.2f}"] if cost is not None else []
    return line.append("".join(f" · {part}" for part in parts))


def _foot(overview: Overview) -> RenderableType:
    summary, troubles = overview.summary, {trouble.what: trouble for trouble in overview.troubles}
    line = Text()
    if overview.holder is not None:
        store = troubles.pop("store", None)
        if store is None:
            line.append("Store fine · ")
        else:
            since = span(max(0, overview.at - store.since) / 1000)
            line.append("Store ").append("down", DOWN).append(f" {since}: {store.reason}")
            line.append(f"{_next_try(store.next_try, overview.at)} · ")
    waits = f"{summary.to_store:,} waiting for the store ({sizes.in_words(summary.spool_bytes)})"
    line.append(waits if summary.to_store else "spool empty")
    if overview.rejected:
        line.append(f" · {len(overview.rejected):,} rejected: {overview.rejected[-1].reason}")
    if overview.holder is not None:
        for trouble in troubles.values():
            line.append(f"\n{trouble.what}: {trouble.reason}")
    return line
