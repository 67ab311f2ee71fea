from pipeline.inbox.settling import Stillness


def test_the_file_that_has_stood_still_longest_is_due_first():
    still = Stillness(5.0)
    still.settled("a", "as it was", 0.0)
    still.settled("b", "as it is", 1.0)
    assert not still.settled("a", "written to", 2.0)
    assert still.next_due() == 6.0
    assert still.due(6.0) == ["b"]
    assert still.due(7.0) == ["b", "a"]
