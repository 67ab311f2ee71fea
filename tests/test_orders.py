"""The desk where orders lie, and the loop that has them carried out."""

import os
import re
import stat
import threading
import time

import pytest
import trio

from pipeline.errors import HeldElsewhere, IndexTrouble, UserError
from pipeline.orders.delivering import NoReply, NotLeft, deliver
from pipeline.orders.desk import FORGOTTEN, Desk
from pipeline.orders.kinds import Adopt, Cancel, Favorite, Pause, Remove, Reply, Resume, Retry, make_order, read_order
from pipeline.orders.stage import Orders
from pipeline.tools.locks import hold
from tests.support.waiting import inline

DONE = Reply(lines=("done",), data={"n": 1})
ORDERS = [
    Cancel(job="j1"),
    Cancel(label="spring"),
    Retry(job="j1", failed=True),
    Retry(placeholders=True, character="mary", label="spring"),
    Retry(character="mary", numbers=(1, 2)),
    Pause(),
    Pause(backend="pod"),
    Resume(job="j1"),
    Favorite(character="mary", numbers=(3,), chosen=False),
    Remove(character="mary", numbers=(3,)),
    Adopt(character="mary", prefix="old/mary", default_owner="me"),
]


def desk(folder):
    made = Desk(folder)
    made.open()
    return made


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.kind)
def test_an_order_reads_back_as_it_was_left(tmp_path, order):
    there = desk(tmp_path)
    assert there.read(there.leave(order)) == order


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "Invalid JSON"),
        ('{"kind": "explode"}', "'kind' does not match"),
        ('{"kind": "cancel"}', "name one job, or one label"),
        ('{"kind": "cancel", "job": "a", "label": "b"}', "name one job, or one label"),
        ('{"kind": "cancel", "job": "a", "force": true}', "cancel.force: Extra inputs"),
        ('{"kind": "retry", "character": "mary"}', "name a job, or a character and numbers"),
        ('{"kind": "retry", "numbers": [1]}', "numbers go with a character"),
        ('{"kind": "retry", "character": "mary", "numbers": [1], "failed": true}', "numbers go with a character"),
        ('{"kind": "pause", "job": "a", "backend": "b"}', "not both"),
        ('{"kind": "remove", "character": "mary", "numbers": []}', "remove.numbers"),
        ('{"kind": "remove", "character": "mary", "numbers": [0]}', "remove.numbers.0"),
        ('{"kind": "adopt", "character": "a/b", "prefix": "x", "default_owner": "me"}', "adopt.character"),
    ],
)
def test_what_is_no_order_is_told_with_the_reason(text, complaint):
    with pytest.raises(UserError, match=complaint):
        read_order(text)


def test_a_command_is_told_what_is_wrong_with_its_order():
    with pytest.raises(UserError, match=r"^name one job, or one label$"):
        make_order(Cancel)
    with pytest.raises(UserError, match=r"^job: \"\" is empty$"):
        make_order(Cancel, job="")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            {"character": "bad id"},
            'character: "bad id" is not allowed; expected: ASCII letters, digits, `.`, `_`, `-`,',
        ),
        ({"owner": "a b"}, 'owner: "a b" is not allowed; expected: ASCII letters, digits, `. _ - @ | : +`,'),
        ({"prefix": ""}, 'prefix: "" is empty'),
        ({"prefix": "x" * 400}, "is too long"),
    ],
)
def test_what_no_order_can_say_is_told_in_our_words(said, words):
    with pytest.raises(UserError, match=re.escape(words)):
        make_order(Adopt, **{"character": "mary", "prefix": "old", "default_owner": "me"} | said)


def test_only_the_owner_can_come_to_the_desk(tmp_path):
    there = desk(tmp_path / "state")
    there.folder.chmod(0o777)
    name = there.leave(Pause())
    assert stat.S_IMODE(there.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((there.folder / f"{name}.json").stat().st_mode) == 0o600


def test_orders_wait_in_the_order_in_which_they_were_left(tmp_path):
    there = desk(tmp_path)
    names = [there.leave(Pause()) for _ in range(5)]
    (there.folder / ".half.tmp").write_text("{")
    (there.folder / "notes.txt").write_text("not ours")
    assert there.waiting() == names


def test_a_reply_is_taken_once_and_clears_the_desk(tmp_path):
    there = desk(tmp_path)
    name = there.leave(Pause())
    assert there.take_reply(name) is None
    there.answer(name, DONE)
    assert there.take_reply(name) == DONE
    assert there.take_reply(name) is None
    assert list(there.folder.iterdir()) == []


def test_what_was_answered_before_a_crash_is_not_carried_out_again(tmp_path):
    there = desk(tmp_path)
    name = there.leave(Pause())
    order = (there.folder / f"{name}.json").read_bytes()
    there.answer(name, DONE)
    (there.folder / f"{name}.json").write_bytes(order)  # the crash came before it was taken away
    assert there.waiting() == []
    assert there.take_reply(name) == DONE


def test_an_order_that_was_taken_back_gets_no_reply(tmp_path):
    there = desk(tmp_path)
    name = there.leave(Pause())
    assert there.withdraw(name)
    assert not there.withdraw(name)
    there.answer(name, DONE)
    assert list(there.folder.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        there.read(name)


def test_a_damaged_reply_is_a_failure(tmp_path):
    there = desk(tmp_path)
    name = there.leave(Pause())
    (there.folder / f"{name}.reply").write_text("{")
    assert there.take_reply(name).exit_code == 1


def test_replies_that_nobody_came_for_are_swept_after_an_hour(tmp_path):
    there = desk(tmp_path)
    for name, age in (("old", FORGOTTEN + 60), ("new", 60.0)):
        (there.folder / f"{name}.reply").write_text("{}")
        os.utime(there.folder / f"{name}.reply", (time.time() - age,) * 2)
    there.sweep()
    assert [path.name for path in there.folder.iterdir()] == ["new.reply"]


def plant_link(path):
    secret = path.parent.parent / "elsewhere.json"
    secret.write_text('{"kind": "pause"}')
    path.symlink_to(secret)


@pytest.mark.parametrize(
    "plant",
    [
        plant_link,
        os.mkfifo,
        lambda path: path.mkdir(),
        lambda path: path.write_bytes(b" " * (1 << 20) + b"{}"),
        lambda path: path.write_text("{"),
    ],
    ids=["a link", "a pipe", "a folder", "too large", "no JSON"],
)
async def test_what_is_no_order_is_set_aside_with_the_reason(tmp_path, autojump_clock, plant):
    there, carried = desk(tmp_path / "state"), []
    plant(there.folder / "1.json")
    name = there.leave(Pause())

    async def carry_out(order):
        carried.append(order)
        await trio.lowlevel.checkpoint()
        return DONE

    async with trio.open_nursery() as nursery:
        await nursery.start(Orders(there, carry_out, run_sync=inline).run)
        nursery.cancel_scope.cancel()
    assert carried == [Pause()]
    assert there.take_reply(name) == DONE
    assert sorted(path.name for path in there.refused.iterdir()) == ["1.error.txt", "1.json"]
    assert (there.refused / "1.error.txt").read_text().strip()


async def test_orders_are_carried_out_one_after_the_other_and_within_a_quarter_second(tmp_path, autojump_clock):
    there, log = desk(tmp_path), []

    async def carry_out(order):
        log.append((trio.current_time(), order.job))
        await trio.sleep(1)
        return DONE

    async with trio.open_nursery() as nursery:
        await nursery.start(Orders(there, carry_out, run_sync=inline).run)
        await trio.sleep(10.1)
        names = [there.leave(Cancel(job=job)) for job in "abc"]
        await trio.sleep(5)
        assert log == [(10.25, "a"), (11.25, "b"), (12.25, "c")]
        assert [there.take_reply(name) for name in names] == [DONE] * 3
        nursery.cancel_scope.cancel()


async def test_lasting_orders_hold_up_nobody_but_one_another(tmp_path, autojump_clock):
    there, log = desk(tmp_path), []

    async def carry_out(order):
        log.append((trio.current_time(), order.kind))
        await trio.sleep(100 if order.lasting else 0)
        return DONE

    async with trio.open_nursery() as nursery:
        await nursery.start(Orders(there, carry_out, run_sync=inline).run)
        for order in (ORDERS[-1], ORDERS[-2], Pause()):
            there.leave(order)
        await trio.sleep(250)
        nursery.cancel_scope.cancel()
    assert sorted(log) == [(0.25, "adopt"), (0.25, "pause"), (100.25, "remove")]


@pytest.mark.parametrize(
    ("error", "exit_code", "line"),
    [
        (UserError("no such job"), 2, "no such job"),
        (IndexTrouble("the disk is full"), 1, "the disk is full"),
        (ExceptionGroup("", [IndexTrouble("the disk is full"), IndexTrouble("again")]), 1, "the disk is full"),
        (ExceptionGroup("", [IndexTrouble("the disk is full"), KeyError("x")]), 1, "the order broke with"),
        (ZeroDivisionError(), 1, "the order broke with ZeroDivisionError"),
    ],
)
async def test_every_failure_is_a_reply_and_the_next_order_is_carried_out(
    tmp_path, autojump_clock, error, exit_code, line
):
    there = desk(tmp_path)
    failing = [error]

    async def carry_out(order):
        await trio.lowlevel.checkpoint()
        if failing:
            raise failing.pop()
        return DONE

    names = [there.leave(Pause()), there.leave(Pause())]
    async with trio.open_nursery() as nursery:
        await nursery.start(Orders(there, carry_out, run_sync=inline).run)
        nursery.cancel_scope.cancel()
    first = there.take_reply(names[0])
    assert (first.exit_code, first.lines[0][: len(line)]) == (exit_code, line)
    assert there.take_reply(names[1]) == DONE


class FullDesk(Desk):
    """No reply can be written until there is room."""

    room = False

    def answer(self, name, reply):
        if not self.room:
            raise OSError(28, "No space left on device")
        super().answer(name, reply)


@pytest.mark.parametrize("order", [Pause(), ORDERS[-1]], ids=["quick", "lasting"])
async def test_a_reply_that_cannot_be_written_is_tried_again(tmp_path, autojump_clock, order):
    there = FullDesk(tmp_path)
    name = there.leave(order)

    async def carry_out(order):
        await trio.lowlevel.checkpoint()
        return DONE

    async with trio.open_nursery() as nursery:
        await nursery.start(Orders(there, carry_out, run_sync=inline).run)
        await trio.sleep(5)
        assert there.take_reply(name) is None
        there.room = True
        await trio.sleep(31)
        assert there.take_reply(name) == DONE
        nursery.cancel_scope.cancel()


# -- delivering


def test_without_a_daemon_the_command_carries_it_out_itself(tmp_path):
    held = []

    def carry_out(order):
        with pytest.raises(HeldElsewhere, match="pipeline pause"), hold(tmp_path):
            pass
        held.append(order)
        return DONE

    assert deliver(tmp_path, Pause(), carry_out, process="pipeline pause") == DONE
    assert held == [Pause()]
    assert not (tmp_path / "orders").exists()


def nobody(order):
    raise AssertionError("the daemon does it")


def test_with_a_daemon_the_command_waits_for_its_reply(tmp_path):
    def work():
        there = desk(tmp_path)
        while not (names := there.waiting()):
            time.sleep(0.01)
        there.answer(names[0], DONE)

    with hold(tmp_path):
        daemon = threading.Thread(target=work)
        daemon.start()
        assert deliver(tmp_path, Pause(), nobody, process="x", patience=20) == DONE
        daemon.join()
    assert list((tmp_path / "orders").iterdir()) == []


def test_a_daemon_that_does_not_answer_keeps_the_order(tmp_path):
    with hold(tmp_path, process="a daemon"), pytest.raises(NoReply, match=r"\(a daemon\) has not answered within 0.2"):
        deliver(tmp_path, Pause(), nobody, process="x", patience=0.2)
    assert len(Desk(tmp_path).waiting()) == 1


def test_an_order_that_cannot_be_left_is_told_with_the_remedy(tmp_path):
    (tmp_path / "orders").write_text("in the way")
    told = r"orders: the order cannot be left there \(Not a directory\), so nothing is done; .*process \d+ \(a daemon\)"
    with hold(tmp_path, process="a daemon"), pytest.raises(NotLeft, match=told):
        deliver(tmp_path, Pause(), nobody, process="x")


def when_left(folder, act):
    """Do something as soon as an order lies on the desk."""

    def work():
        there = desk(folder)
        while not there.waiting():
            time.sleep(0.01)
        act(there)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_daemon_that_ends_meanwhile_leaves_the_order_to_the_command(tmp_path):
    lock = hold(tmp_path)
    lock.__enter__()
    daemon = when_left(tmp_path, lambda there: lock.__exit__(None, None, None))
    assert deliver(tmp_path, Pause(), lambda order: DONE, process="x", patience=20) == DONE
    daemon.join()
    assert Desk(tmp_path).waiting() == []


def test_a_daemon_that_ends_right_after_its_reply_has_the_last_word(tmp_path):
    lock = hold(tmp_path)
    lock.__enter__()

    def end(there):
        there.answer(there.waiting()[0], DONE)
        lock.__exit__(None, None, None)

    daemon = when_left(tmp_path, end)
    assert deliver(tmp_path, Pause(), nobody, process="x", patience=20) == DONE
    daemon.join()


def test_an_interrupted_command_takes_its_order_back(tmp_path):
    def interrupted(order):
        raise KeyboardInterrupt

    lock = hold(tmp_path)
    lock.__enter__()
    daemon = when_left(tmp_path, lambda there: lock.__exit__(None, None, None))
    with pytest.raises(KeyboardInterrupt):
        deliver(tmp_path, Cancel(job="j1"), interrupted, process="x", patience=20)
    daemon.join()
    assert Desk(tmp_path).waiting() == []
