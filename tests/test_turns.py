import tracemalloc
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger import Turn
from pipeline.making.turns import Turns


def turn(job_id, planned=1, *, backends=("a",), priority=0, stagger=0.0):
    return Turn(job_id, priority=priority, backends=backends, stagger=stagger, planned=planned)


def order(turns, lane="a", now=0.0):
    taken = []
    while (one := turns.take(lane, now)) is not None:
        taken.append(one.job_id)
    return "".join(taken)


def test_jobs_alternate_image_by_image():
    turns = Turns()
    turns.join(turn("x", 3))
    turns.join(turn("y", 2))
    assert order(turns) == "xyxyx"


def test_a_late_job_does_not_catch_up():
    turns = Turns()
    turns.join(turn("x", 6))
    for _ in range(3):
        turns.take("a", 0)
    turns.join(turn("y", 3))
    assert order(turns) == "xyxyxy"


def test_a_one_image_job_waits_for_one_turn_of_each_other_job():
    turns = Turns()
    for name in "xyz":
        turns.join(turn(name, 1000))
    turns.take("a", 0)
    turns.join(turn("n"))
    assert [turns.take("a", 0).job_id for _ in range(4)] == ["y", "z", "x", "n"]


def test_higher_priority_is_served_first_and_alternates_among_itself():
    turns = Turns()
    turns.join(turn("l", 2, priority=-5))
    turns.join(turn("h", 2, priority=5))
    turns.join(turn("i", 2, priority=5))
    assert order(turns) == "hihill"


def test_a_stagger_rests_one_job_and_not_the_others():
    turns = Turns()
    turns.join(turn("s", 3, stagger=7.0))
    turns.join(turn("q", 2))
    assert order(turns, now=0.0) == "sqq"
    assert turns.rest("a", 2.0) == 5.0
    assert turns.take("a", 6.9) is None
    assert turns.take("a", 7.0).job_id == "s"
    assert turns.rest("a", 7.0) == 7.0


def test_nothing_resting_means_no_end_of_rest():
    turns = Turns()
    turns.join(turn("x"))
    assert turns.rest("a", 0.0) == float("inf")
    assert turns.rest("elsewhere", 0.0) == float("inf")


def test_a_pool_job_is_offered_to_each_of_its_back_ends_and_to_no_other():
    turns = Turns()
    turns.join(turn("p", 2, backends=("a", "b")))
    assert turns.take("c", 0) is None
    assert turns.take("b", 0).job_id == "p"
    assert turns.take("a", 0).job_id == "p"
    assert turns.take("a", 0) is None


def test_jobs_of_different_pools_take_turns_at_a_back_end_they_share():
    turns = Turns()
    turns.join(turn("p", 3, backends=("a", "b")))
    turns.join(turn("q", 3, backends=("a",)))
    assert order(turns) == "pqpqpq"


def test_a_job_served_elsewhere_gives_way_but_is_never_kept_waiting_for_long():
    turns = Turns()
    turns.join(turn("p", 100, backends=("a", "b")))
    turns.join(turn("q", 100, backends=("a",)))
    for _ in range(40):
        turns.take("b", 0)
    assert [turns.take("a", 0).job_id for _ in range(4)] == ["q", "p", "q", "p"]


def test_what_is_given_back_is_served_again():
    turns = Turns()
    turns.join(turn("x"))
    turns.take("a", 0)
    assert turns.give_back("x") == ("a",)
    assert turns.give_back("x") == ("a",)
    assert turns.images_for("a") == 2
    assert order(turns) == "xx"
    assert turns.give_back("unknown") is None


def test_a_job_that_left_is_forgotten():
    turns = Turns()
    turns.join(turn("x", 5))
    turns.join(turn("y", 1))
    turns.leave("x")
    turns.leave("never-came")
    assert turns.pools() == [("a",)]
    assert order(turns) == "y"
    assert turns.pools() == []
    assert turns.give_back("x") is None


def test_joining_again_corrects_what_is_known():
    turns = Turns()
    turns.join(turn("x", 5))
    turns.join(turn("x", 2, backends=("b",)))
    assert (turns.images_for("a"), turns.images_for("b")) == (0, 2)
    assert order(turns) == ""
    assert order(turns, "b") == "xx"


def test_only_a_job_with_nothing_left_retires():
    turns = Turns()
    turns.join(turn("x", 2))
    turns.take("a", 0)
    turns.retire("x")
    assert [job.turn.job_id for job in turns.waiting()] == ["x"]
    turns.take("a", 0)
    turns.retire("x")
    assert turns.give_back("x") is None


def test_a_narrowed_job_is_left_to_the_rest_of_its_pool():
    turns = Turns()
    turns.join(turn("p", 2, backends=("a", "b")))
    assert turns.narrow("p", without="a")
    assert turns.take("a", 0) is None
    assert not turns.narrow("p", without="b")
    assert turns.take("b", 0).job_id == "p"
    assert turns.narrow("unknown", without="a")


@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(-1, 1), st.sampled_from([("a",), ("b",), ("a", "b")])), max_size=8
    ),
    st.lists(st.sampled_from(["a", "b", "back"]), max_size=60),
)
def test_every_image_is_served_exactly_as_often_as_it_is_there(jobs, steps):
    turns, taken, given = Turns(), Counter(), Counter()
    for n, (planned, priority, pool) in enumerate(jobs):
        turns.join(turn(str(n), planned, priority=priority, backends=pool))
    for now, step in enumerate(steps):
        if step == "back":
            if taken and (name := next(iter(taken))) and turns.give_back(name):
                given[name] += 1
        elif (one := turns.take(step, float(now))) is not None:
            taken[one.job_id] += 1
    while (one := turns.take("a", 1e9) or turns.take("b", 1e9)) is not None:
        taken[one.job_id] += 1
    assert taken == Counter({str(n): planned for n, (planned, _, _) in enumerate(jobs)}) + given


def test_waiting_jobs_are_cheap_so_that_a_hundred_thousand_of_them_are():
    names = [f"20250101-000000-mary-{n:06}" for n in range(10_000)]
    pool = ("a", "b")
    tracemalloc.start()
    turns = Turns()
    for name in names:
        turns.join(turn(name, 3, backends=pool))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 600 * len(names)
    assert turns.images_for("b") == 30_000
    assert turns.take("b", 0).job_id == names[0]
