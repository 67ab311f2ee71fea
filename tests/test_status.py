"""`pipeline status` as a person sees it: drawn whole, live in a real pseudo-terminal, and as lines where it is piped."""

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager

import pytest
from click.testing import CliRunner
from rich.console import Console

from pipeline import lifecycle as law
from pipeline.catalogue import Catalogue
from pipeline.cli import main
from pipeline.cli.view.drawn import WIDEST, bar, drawn
from pipeline.cli.view.lines import Newcomers, News, last_words, lines_of
from pipeline.cli.view.one_job import OneJob
from pipeline.cli.view.overview import overview
from pipeline.cli.view.told import told
from pipeline.config import load_config
from pipeline.model import Fault, LaneState, Paused, Trouble
from pipeline.tools import clock
from pipeline.tools.locks import Holder, hold
from tests.support.index import adopted, fetch, give_up, images_of, job, make, open_index, send

DEADLINE = 60.0
CONFIG = "backends: {pod: {type: sketch, price_per_hour: 1.1}, xl: {type: sketch}}\n"
AT = 1_785_000_000_000


class Studio:
    """A workspace with a made-up present in its index."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "pipeline.yaml").write_text(CONFIG)
        (folder / "jobs" / "rejected").mkdir(parents=True)
        (folder / ".pipeline").mkdir(mode=0o700)
        self.config = load_config(folder / "pipeline.yaml", environ={})
        self.catalogue = Catalogue(folder / ".pipeline/index.db")

    def ledger(self, moment=AT):
        return open_index(self.folder / ".pipeline", clock=lambda: moment)

    def look(self, label=None, **changes):
        with hold(self.config.state):
            seen = overview(self.config, self.catalogue, label)
        days = self.catalogue.summary(now=AT)
        known = {"at": AT, "summary": days, "holder": Holder(1, "pipeline run", clock.rfc3339(AT - 11_520_000))}
        return seen._replace(**known | changes)

    def text(self, label=None, width=80, **changes):
        return rendered(drawn(self.look(label, **changes)), width)

    def call(self, *words, code=0):
        answer = CliRunner().invoke(main, ["status", "--config", str(self.folder / "pipeline.yaml"), *words])
        assert answer.exit_code == code, answer.output
        return answer.output


def rendered(what, width=80, **more):
    console = Console(file=io.StringIO(), width=width, **more)
    console.print(what)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


@pytest.fixture
async def studio(tmp_path):
    made = Studio(tmp_path)
    async with made.ledger() as ledger:
        await adopted(ledger, "me")
        await ledger.accept([job("mary-a1b2", quantity=50), job("john-9f3c", "john", quantity=40, labels=("spring",))])
        for image in images_of(ledger, "mary-a1b2")[:30]:
            await make(ledger, image)
        await give_up(ledger, images_of(ledger, "mary-a1b2")[30])
        for image in images_of(ledger, "john-9f3c")[:6]:
            await make(ledger, image)
        for name in ("mary-a1b2", "john-9f3c"):
            await send(ledger, next(image for image in images_of(ledger, name) if image.state == "planned"))
        await ledger.accept([job(f"later-{n}", "john", backends=("xl",), labels=("spring",)) for n in range(10)])
        await ledger.notes.lane(LaneState("pod", "ready", 2, 2, 53, 11.0))
        await ledger.notes.lane(LaneState("xl", "down", 60, 0, 24, None, "proxy 404: pod stopped?", AT + 20_000))
    (tmp_path / "jobs/rejected/mary2.yaml").write_text("quantty: 1\n")
    (tmp_path / "jobs/rejected/mary2.error.txt").write_text('mary2.yaml:3:1: unknown key "quantty"\n  more\n')
    return made


async def test_the_whole_at_one_look(studio, monkeypatch):
    moment = time.strftime("%H:%M:%S", time.localtime(AT / 1000))
    assert studio.text(jobs=studio.look().jobs[:2]).splitlines() == [
        f"{studio.folder.name} · running 3 h 12 m{moment:>{80 - len(studio.folder.name) - 19}}",
        "",
        "JOBS 2 running, 10 waiting · about 11 images a minute",
        "mary-a1b2  ━━━━━━━━━━━━────────  31/50  1 placeholder  3 min",
        "john-9f3c  ━━━─────────────────   6/40                 5 min",
        "and 10 more",
        "",
        "BACK ENDS         slots  typical  waiting",
        "pod        ready    2/2     11 s       53",
        "xl         down    0/60        -       24  proxy 404: pod stopped?  next try",
        "                                           0:20",
        "",
        "Today 36 done · 1 placeholder · 90 GPU s · $0.03",
        'Store fine · spool empty · 1 rejected: mary2.yaml:3:1: unknown key "quantty"',
    ]


@pytest.mark.parametrize("width", [48, 60, 72])
async def test_in_a_narrow_terminal_names_and_bars_give_way_to_the_figures(studio, width):
    names = {name: f"{name}-of-a-job-with-a-long-name" for name in ("mary-a1b2", "john-9f3c")}
    jobs = [job._replace(id=names[job.id]) for job in studio.look().jobs[:2]]
    lines = studio.text(jobs=jobs, width=width).splitlines()
    assert max(map(len, lines)) <= width
    for start, figures in (("mary", "31/50  1 placeholder"), ("john", " 6/40  ")):
        (line,) = (line for line in lines if line.startswith(start) and "━" in line)
        assert re.search(rf"^{start}.*…  [━╸]+─+  {figures}", line)


async def test_a_rate_is_told_in_plain_figures(studio):
    for typical, words in ((0.2, "about 600 images"), (0.01, "about 12,000 images"), (70.0, "about 1.7 images")):
        lanes = [lane._replace(typical=typical) for lane in studio.look().lanes]
        assert words in studio.text(lanes=lanes)


async def test_at_most_ten_jobs_are_shown_and_a_label_counts_its_own(studio):
    text = studio.text(width=WIDEST)
    assert len(re.findall(r"─  +\d+/", text)) == 10
    assert "and 2 more" in text
    text = studio.text("spring", width=WIDEST)
    assert "JOBS 1 running, 10 waiting" in text
    assert "mary" not in text.partition("BACK ENDS")[0]
    assert "and 1 more" in text
    assert re.search(r"later-0 +─{20} +0/1 +xl: proxy 404: pod stopped\?$", text, re.MULTILINE)
    assert "JOBS 0 running, 0 waiting" in studio.text("autumn")


async def test_what_is_in_trouble_stands_at_the_foot(studio):
    async with studio.ledger(AT - 240_000) as ledger:
        await ledger.notes.troubles([Trouble("store", "503", AT + 65_000), Trouble("intake", "jobs: read-only")])
        await fetch(ledger, next(image for image in images_of(ledger, "john-9f3c") if image.state == "planned"))
    lines = studio.text(width=WIDEST, summary=studio.catalogue.summary(now=AT)).splitlines()
    assert lines[-3].startswith(
        "Store down 4 min: 503  next try 1:05 · 1 waiting for the store (1.23 kB) · 1 rejected:"
    )
    assert lines[-1] == "intake: jobs: read-only"


async def test_of_a_daemon_that_is_gone_nothing_is_told_as_if_it_were_there(studio):
    async with studio.ledger() as ledger:
        await ledger.notes.troubles([Trouble("store", "503"), Trouble("intake", "jobs: read-only")])
        await ledger.notes.lane(LaneState("xl", "paused", 60, 3, reason="back end xl is paused"))
    text = rendered(drawn(overview(studio.config, studio.catalogue, None)), WIDEST)
    assert " · not running" in text
    assert re.search(r"^pod +stopped +0/2 +11 s +53$", text, re.MULTILINE)
    assert re.search(r"^xl +paused +0/60 .* back end xl is paused$", text, re.MULTILINE)
    assert "Store" not in text
    assert "read-only" not in text
    assert not re.search(r"\d min", text)


async def test_colour_is_for_what_is_down_and_for_placeholders_alone(studio):
    console = Console(file=io.StringIO(), width=WIDEST, force_terminal=True, color_system="standard")
    console.print(drawn(studio.look()))
    coloured = re.findall(r"\x1b\[(3[0-7])m([^\x1b]*)", console.file.getvalue())
    assert [(colour, text.strip()) for colour, text in coloured] == [
        ("33", "1 placeholder"), ("31", "down"), ("33", "1 placeholder"),
    ]  # fmt: skip


async def test_jobs_of_more_priority_are_waited_for_whole_and_others_in_turn(studio):
    seen = studio.look()
    mary, john = seen.jobs[:2]  # 19 and 34 images left; two at once, 11 s each
    rate = 2 / 11
    assert seen.remaining(mary) == pytest.approx((19 + 19) / rate)
    assert seen.remaining(john) == pytest.approx((34 + 19) / rate)
    first = john._replace(priority=5)
    ahead = seen._replace(sharing=[mary, first])
    assert ahead.remaining(mary) == pytest.approx((19 + 34) / rate)
    assert ahead.remaining(first) == pytest.approx(34 / rate)
    assert seen.remaining(seen.jobs[2]) is None  # its back end is down


async def test_what_is_paused_says_so_although_images_of_it_are_under_way(studio):
    async with studio.ledger() as ledger:
        await ledger.pause(Paused("job", "mary-a1b2"))
        lines = studio.text(width=WIDEST).splitlines()
        assert re.search(r"^mary-a1b2 .* 1 placeholder  paused$", lines[3])
        assert re.search(r"^john-9f3c .* min$", lines[4])
        await ledger.pause(Paused("all"))
    assert "running 3 h 12 m · paused" in studio.text(width=WIDEST)
    assert told(studio.look())["paused"] is True
    assert lines_of(studio.look(), None)["daemon"] == "running, paused"


def test_a_bar_is_full_when_all_have_ended_and_not_before():
    assert [bar(n, 8, 4) for n in (0, 1, 2, 7, 8)] == ["────", "╸───", "━───", "━━━╸", "━━━━"]
    assert bar(9_999, 10_000)[-1] != "━"
    assert bar(0, 0, 3) == "───"


async def test_programs_are_told_the_same(studio):
    answer = told(studio.look())
    assert answer["jobs"] == {"running": 2, "queued": 10}
    assert answer["unfinished"][0]["remainingSeconds"] == 209
    assert answer["today"][-1] == {
        "backend": "pod", "done": 36, "placeholder": 0, "failed": 0, "gpuSeconds": 90.0, "cost": 0.028,
    }  # fmt: skip
    assert answer["troubles"] == []
    assert answer["imagesPerMinute"] == 10.91
    assert json.loads(studio.call("--json", "--label", "spring"))["jobs"] == {"running": 1, "queued": 10}
    assert "leave out --watch" in studio.call("--json", "--watch", code=2)
    assert "not both" in studio.call("mary-a1b2", "--label", "spring", code=2)


async def test_every_change_is_one_line_and_the_end_of_a_job_the_last(studio, capsys):
    news = News(last_words(studio.catalogue))

    def said(label=None):
        news.tell(lines_of(studio.look(label), label))
        return capsys.readouterr().out.splitlines()

    first = said()
    assert first[:2] == ["daemon  running", "back end pod  ready"]
    assert "mary-a1b2  running  31/50  1 placeholder" in first
    assert "store  fine" in first
    assert said() == []
    async with studio.ledger() as ledger:
        images = images_of(ledger, "later-3")
        await ledger.notes.troubles([Trouble("store", "503")])
        await ledger.record(images[0], law.GaveUp(Fault("x", "y")))
        await ledger.record(images_of(ledger, "later-4")[0], law.Cancelled())
    assert said() == ["later-4  cancelled  1/1  1 cancelled", "store  503", "later-3  running  0/1"]


async def test_a_job_that_came_and_ended_between_two_looks_is_told_too(studio, capsys):
    news, newcomers = News(last_words(studio.catalogue)), Newcomers(studio.catalogue, None)

    def said():
        news.tell(newcomers.lines() | lines_of(studio.look(None), None))
        return capsys.readouterr().out.splitlines()

    assert "mary-a1b2  running  31/50  1 placeholder" in said()
    async with studio.ledger() as ledger:
        await ledger.accept([job("quick"), job("slow")])
        await ledger.record(images_of(ledger, "quick")[0], law.Cancelled())
    assert said() == ["quick  cancelled  1/1  1 cancelled", "slow  queued  0/1  waits for its turn at pod"]
    assert said() == []
    async with studio.ledger() as ledger:
        await ledger.record(images_of(ledger, "slow")[0], law.Cancelled())
    assert said() == ["slow  cancelled  1/1  1 cancelled"]


async def test_one_job_with_the_history_of_each_image(studio):
    async with studio.ledger() as ledger:
        lost = next(image for image in images_of(ledger, "mary-a1b2") if image.state == "planned")
        lost = await ledger.record(await send(ledger, lost), law.AttemptLost(Fault("failed", "out of memory"), 3, 1.5))
        again = await ledger.record(lost, law.Submitting("pod", "t"))
        await ledger.record(again, law.Doubtful(Fault("unknown", "no answer"), 3))
    text = studio.call("mary-a1b2")
    assert text.splitlines()[0] == "mary-a1b2  running  31/50  1 placeholder  mary"
    assert "76.5 GPU s · $0.02 · maybe paid twice: 1" in text
    assert "mary_image_31  placeholder  -  timed_out: it took too long" in text
    history = re.split(r"^(mary_image_\d+)  .*\n", text, flags=re.MULTILINE)
    steps = [line.split(None, 2)[2] for line in history[history.index(lost.filename) + 1].splitlines()]
    assert steps[1].startswith("Accepted        remote_id remote-")
    assert [step.split()[0] for step in steps] == ["Submitting", "Accepted", "AttemptLost", "Submitting", "Doubtful"]
    assert steps[2] == "AttemptLost     failed: out of memory  gpu_seconds 1.5"
    data = json.loads(studio.call("mary-a1b2", "--json"))["data"]
    assert (data["requestedCount"], data["maybePaidTwice"]) == (50, 1)


async def test_a_job_that_has_ended_without_a_picture_was_no_success(studio):
    async with studio.ledger() as ledger:
        await ledger.record(images_of(ledger, "later-1")[0], law.Cancelled())
    assert json.loads(studio.call("later-1", "--json"))["success"] is False
    assert json.loads(studio.call("later-2", "--json"))["success"] is True


async def test_the_live_view_of_a_job_shows_what_can_still_change(studio):
    seen = OneJob(studio.catalogue, "mary-a1b2", {})
    text = rendered(seen.live(), WIDEST)
    assert "━━━━━━━━━━━━━━━━━━━━━━━━╸───────────────  31/50" in text
    assert "mary_image_31  placeholder" in text
    assert "mary_image_32  running  pod" in text
    assert len(re.findall(r"^mary_image_", text, re.MULTILINE)) == 12
    assert not seen.over
    assert "mary_image_33" not in seen.lines()


# -- in a real terminal


class Terminal:
    """A command in a pseudo-terminal of 100 columns, and all that it wrote there."""

    def __init__(self, folder, *words):
        self.main, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        environ = {
            name: value for name, value in os.environ.items() if name not in {"CLOUDINARY_URL", "COLUMNS", "LINES"}
        }
        environ |= {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
        command = [sys.executable, "-m", "pipeline", "status", *words]
        self.process = subprocess.Popen(command, cwd=folder, stdin=child, stdout=child, stderr=child, env=environ)
        os.close(child)
        self.written = ""

    def until(self, wanted):
        deadline = time.monotonic() + DEADLINE
        while not wanted(self.written):
            assert time.monotonic() < deadline, self.written
            if select.select([self.main], [], [], 0.1)[0]:
                try:
                    self.written += os.read(self.main, 65536).decode()
                except OSError:  # it has ended
                    break

    def end(self):
        """Ctrl-C. What it still writes is read meanwhile: a terminal that nobody reads holds its program up."""
        self.process.send_signal(signal.SIGINT)
        self.until(lambda _: self.process.poll() is not None)
        return self.process.wait(DEADLINE)


@contextmanager
def terminal(folder, *words):
    shown = Terminal(folder, *words)
    try:
        yield shown
    finally:
        shown.process.kill()
        shown.process.wait()
        os.close(shown.main)


async def test_the_live_view_is_redrawn_twice_a_second_in_place_and_leaves_the_terminal_as_it_was(studio):
    with hold(studio.config.state), terminal(studio.folder, "--watch") as shown:
        shown.until(lambda text: "spool empty" in text)
        assert "\x1b[?25l" in shown.written  # the cursor is hidden
        began, already = time.monotonic(), shown.written.count("JOBS")
        shown.until(lambda text: text.count("JOBS") >= already + 4)
        assert 1.4 < time.monotonic() - began < 10
        assert "\x1b[1A" in shown.written  # drawn over, not below
        async with studio.ledger() as ledger:
            for image in images_of(ledger, "later-5"):
                await ledger.record(image, law.Cancelled())
        shown.until(lambda text: "9 waiting" in text)
        assert shown.end() == 0
        shown.until(lambda text: "\x1b[?25h" in text)


async def test_a_watched_job_ends_the_watching(studio):
    with terminal(studio.folder, "later-6", "--watch") as shown:
        shown.until(lambda text: "later-6  queued  0/1" in text)
        async with studio.ledger() as ledger:
            await make(ledger, images_of(ledger, "later-6")[0])
        shown.until(lambda text: "later-6  done  1/1" in text)
        assert shown.process.wait(DEADLINE) == 0


async def test_a_watched_job_in_a_pipe_is_told_line_by_line_until_it_has_ended(studio):
    async with studio.ledger() as ledger:
        await make(ledger, images_of(ledger, "later-7")[0])
    assert studio.call("later-7", "--watch").splitlines()[0] == "later-7  done  1/1"
    assert 'no job has the id "nope"' in studio.call("nope", "--watch", code=2)
