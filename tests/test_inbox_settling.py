from pipeline.inbox.reading import Stamp
from pipeline.inbox.settling import Stillness

EMPTY, SHORT, LONG = (Stamp(size, 1, 1, 1) for size in (0, 10, 20))


def test_the_file_that_has_stood_still_longest_is_due_first():
    still = Stillness(5.0)
    still.settled("a", SHORT, 0.0)
    still.settled("b", SHORT, 1.0)
    assert not still.settled("a", LONG, 2.0)
    assert still.next_due() == 6.0
    assert still.due(6.0) == ["b"]
    assert still.due(7.0) == ["b", "a"]


def test_a_file_that_held_something_and_was_written_to_since_may_grow_further():
    still = Stillness(5.0)
    still.settled("begun", EMPTY, 0.0)
    still.settled("begun", SHORT, 1.0)
    assert not still.piecemeal("begun")
    still.settled("begun", LONG, 2.0)
    assert still.piecemeal("begun")
    still.settled("opened", SHORT, 2.0)
    still.opened("opened")
    assert still.piecemeal("opened")
    still.opened("held open")
    assert not still.piecemeal("held open")
    still.keep_only({"opened"})
    still.forget("opened")
    assert not still.piecemeal("opened")
    assert not still.piecemeal("begun")
