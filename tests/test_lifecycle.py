"""The law, as a table of every state by every event, and what holds over any walk through it."""

import hypothesis
import pytest
from hypothesis import strategies as st

from pipeline import lifecycle as law
from pipeline.errors import IllegalStep
from pipeline.lifecycle import advance, status_of
from pipeline.model import Artifact, Fault, Image, OnFailure, Recipe, State, Status, Stored, Submission

FAULT = Fault("timed_out", "it took too long")
OLD_FAULT = Fault("refused", "429")
SUBMISSION = Submission("remote", "http://pod", 1, 2, 3)
ARTIFACT = Artifact("1-t.img", "0" * 32, 9, 8, 8, "png", "f" * 64, "#ffffff")
PLACEHOLDER = ARTIFACT._replace(file="1-placeholder.img")
STORED = Stored("me/characters/mary/images/mary_image_1", "http://x", "1", "0" * 32, 9, 8, 8, "png")


def an_image(state=State.PLANNED, **changes):
    made = Image(
        row=1,
        job_id="a",
        character_id="mary",
        character_name="Mary",
        owner="me",
        number=1,
        place=0,
        filename="mary_image_1",
        public_id=STORED.public_id,
        prompt="in a garden",
        seed=7,
        recipe=Recipe(),
        labels=(),
        on_failure=OnFailure.PLACEHOLDER,
        quantity=1,
        state=state,
    )
    return made._replace(**changes)


EVENTS = {
    "sent": law.Submitting("pod", "ticket"),
    "accepted": law.Accepted(SUBMISSION),
    "refused": law.Refused(FAULT),
    "acceptance lost": law.AcceptanceLost(FAULT),
    "absent": law.Absent(limit=3),
    "absent, the last time": law.Absent(limit=1),
    "absent after an outage": law.Absent(limit=None),
    "doubtful": law.Doubtful(FAULT, limit=3),
    "doubtful, the last one": law.Doubtful(FAULT, limit=1),
    "doubtful by an outage": law.Doubtful(FAULT, limit=None),
    "attempt lost": law.AttemptLost(FAULT, limit=3),
    "attempt lost, the last one": law.AttemptLost(FAULT, limit=1),
    "fetched": law.Fetched(ARTIFACT),
    "gave up": law.GaveUp(FAULT),
    "drawn": law.Drawn(PLACEHOLDER),
    "stored": law.StoredAt(STORED),
    "rejected": law.Rejected(FAULT),
    "conflict": law.Rejected(FAULT, conflict=True),
    "cancelled": law.Cancelled(),
    "retried": law.Retried(),
    "retried with kept bytes": law.Retried(ARTIFACT),
    "removed": law.Removed(),
}
# What each state makes of each event; what is not listed is no step.
STEPS = {
    State.PLANNED: {"sent": "submitting", "gave up": "given_up", "cancelled": "cancelled"},
    State.SUBMITTING: {
        "accepted": "submitted",
        "refused": "planned",
        "acceptance lost": "unclear",
        "absent": "planned",
        "absent after an outage": "planned",
        "absent, the last time": "planned",  # a crash of ours uses up no attempt
        "doubtful": "planned",
        "doubtful by an outage": "planned",
        "doubtful, the last one": "planned",  # likewise
        "attempt lost": "planned",
        "attempt lost, the last one": "given_up",
        "fetched": "fetched",
        "gave up": "given_up",
        "cancelled": "cancelled",
    },
    State.UNCLEAR: {
        "accepted": "submitted",
        "absent": "planned",
        "absent after an outage": "planned",
        "absent, the last time": "given_up",
        "doubtful": "planned",
        "doubtful by an outage": "planned",
        "doubtful, the last one": "given_up",
        "gave up": "given_up",
        "cancelled": "cancelled",
    },
    State.SUBMITTED: {
        "attempt lost": "planned",
        "attempt lost, the last one": "given_up",
        "fetched": "fetched",
        "gave up": "given_up",
        "cancelled": "cancelled",
    },
    State.FETCHED: {"stored": "done", "rejected": "given_up", "conflict": "failed"},
    State.GIVEN_UP: {"drawn": "drawn"},
    State.DRAWN: {"stored": "placeholder", "rejected": "failed", "conflict": "failed"},
    State.DONE: {"removed": "removed"},
    State.PLACEHOLDER: {"retried": "planned", "retried with kept bytes": "fetched", "removed": "removed"},
    State.FAILED: {"retried": "planned", "retried with kept bytes": "fetched", "removed": "removed"},
    State.CANCELLED: {},
    State.REMOVED: {},
}


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("state", State)
def test_every_state_knows_every_event_or_refuses_it(state, name):
    image = an_image(state)
    if (reached := STEPS[state].get(name)) is not None:
        assert advance(image, EVENTS[name]).state == reached
        return
    with pytest.raises(IllegalStep, match=f"mary_image_1 is {state}: {type(EVENTS[name]).__name__} is no step"):
        advance(image, EVENTS[name])


OUTSIDE = {
    State.PLANNED: Status.QUEUED,
    State.SUBMITTING: Status.RUNNING,
    State.UNCLEAR: Status.RUNNING,
    State.SUBMITTED: Status.RUNNING,
    State.FETCHED: Status.RUNNING,
    State.GIVEN_UP: Status.RUNNING,
    State.DRAWN: Status.RUNNING,
    State.DONE: Status.DONE,
    State.PLACEHOLDER: Status.PLACEHOLDER,
    State.FAILED: Status.FAILED,
    State.CANCELLED: Status.CANCELLED,
    State.REMOVED: Status.REMOVED,
}


@pytest.mark.parametrize("state", State)
def test_the_outside_is_told_what_stands_while_an_image_is_made_again(state):
    assert status_of(state, None) is OUTSIDE[state]
    assert status_of(state, State.PLACEHOLDER) is Status.PLACEHOLDER
    assert status_of(state, State.FAILED) is Status.FAILED


@pytest.mark.parametrize(
    ("state", "name", "attempts", "failures", "doubtful"),
    [
        (State.SUBMITTING, "accepted", 1, 0, 0),
        (State.UNCLEAR, "accepted", 1, 0, 0),
        (State.SUBMITTING, "refused", 0, 0, 0),
        (State.SUBMITTING, "acceptance lost", 0, 0, 0),
        (State.UNCLEAR, "absent", 0, 1, 0),
        (State.UNCLEAR, "absent after an outage", 0, 0, 0),
        (State.SUBMITTING, "absent", 0, 0, 0),  # our own crash uses up no attempt
        (State.SUBMITTING, "doubtful", 0, 0, 1),  # likewise
        (State.UNCLEAR, "doubtful", 0, 1, 1),
        (State.UNCLEAR, "doubtful by an outage", 0, 0, 1),
        (State.SUBMITTING, "attempt lost", 1, 1, 0),  # a service that answers at once
        (State.SUBMITTED, "attempt lost", 0, 1, 0),  # counted when it was accepted
        (State.SUBMITTING, "fetched", 1, 0, 0),
        (State.SUBMITTED, "fetched", 0, 0, 0),
        (State.SUBMITTED, "gave up", 0, 0, 0),
    ],
)
def test_what_a_step_counts(state, name, attempts, failures, doubtful):
    image = advance(an_image(state), EVENTS[name])
    assert (image.attempts, image.failures, image.doubtful) == (attempts, failures, doubtful)


def test_a_paid_attempt_that_is_given_up_is_counted_with_its_seconds():
    event = law.GaveUp(FAULT, paid=True, gpu_seconds=2.0)
    at_once = advance(an_image(State.SUBMITTING, gpu_seconds=1.0), event)
    assert (at_once.attempts, at_once.gpu_seconds) == (1, 3.0)
    after = advance(an_image(State.SUBMITTED, attempts=1), event)
    assert (after.attempts, after.gpu_seconds) == (1, 2.0)


def test_seconds_add_up_over_attempts():
    image = advance(an_image(State.SUBMITTED, gpu_seconds=1.5), law.AttemptLost(FAULT, limit=3, gpu_seconds=2.0))
    image = image._replace(state=State.SUBMITTED)
    image = advance(image, law.Fetched(ARTIFACT, gpu_seconds=4.0, used_embedding=True))
    assert (image.gpu_seconds, image.used_embedding) == (7.5, True)


@pytest.mark.parametrize("name", ["refused", "absent", "doubtful", "attempt lost"])
def test_an_image_planned_again_keeps_no_trace_of_its_submission_but_the_fault(name):
    image = an_image(State.SUBMITTING, backend="pod", ticket="t", fault=OLD_FAULT)
    again = advance(image, EVENTS[name])
    assert (again.ticket, again.submission) == (None, None)
    assert again.fault == (OLD_FAULT if name == "absent" else FAULT)


@pytest.mark.parametrize("name", ["gave up", "attempt lost, the last one"])
def test_on_failure_decides_what_stands_under_the_number(name):
    image = an_image(State.SUBMITTED, submission=SUBMISSION, ticket="t")
    assert advance(image, EVENTS[name]).state is State.GIVEN_UP
    failed = advance(image._replace(on_failure=OnFailure.FAIL), EVENTS[name])
    assert (failed.state, failed.fault, failed.submission) == (State.FAILED, FAULT, None)


@pytest.mark.parametrize("standing", [State.PLACEHOLDER, State.FAILED])
@pytest.mark.parametrize(
    ("state", "name"),
    [
        (State.SUBMITTED, "gave up"),
        (State.SUBMITTED, "cancelled"),
        (State.PLANNED, "cancelled"),
        (State.FETCHED, "rejected"),
    ],
)
def test_making_again_that_fails_leaves_what_stood(state, name, standing):
    before = Fault("earlier", "why it was made again")
    image = advance(an_image(state, standing=standing, stored=STORED, fault=before), EVENTS[name])
    assert (image.state, image.standing, image.stored) == (standing, None, STORED)
    assert image.fault == (before if name == "cancelled" else FAULT)  # why there is still no picture


def test_making_again_starts_with_all_attempts_and_remembers_what_stands():
    failed = an_image(State.FAILED, failures=3, attempts=3, fault=FAULT, artifact=PLACEHOLDER)
    again = advance(failed, law.Retried())
    assert (again.standing, again.failures, again.attempts, again.artifact) == (State.FAILED, 0, 3, PLACEHOLDER)
    kept = advance(failed, law.Retried(ARTIFACT))
    assert (kept.state, kept.artifact) == (State.FETCHED, ARTIFACT)


def test_a_stored_replacement_ends_the_standing_and_the_fault():
    image = advance(an_image(State.FETCHED, standing=State.PLACEHOLDER, fault=FAULT), law.StoredAt(STORED))
    assert (image.state, image.standing, image.fault, image.stored) == (State.DONE, None, None, STORED)


def test_a_placeholder_keeps_its_reason():
    image = advance(an_image(State.DRAWN, fault=FAULT), law.StoredAt(STORED))
    assert (image.state, image.fault) == (State.PLACEHOLDER, FAULT)


def test_a_removed_image_has_nothing_left_but_its_number():
    image = advance(an_image(State.DONE, stored=STORED, artifact=ARTIFACT), law.Removed())
    assert (image.state, image.stored, image.artifact, image.number) == (State.REMOVED, None, None, 1)


@hypothesis.given(
    names=st.lists(st.sampled_from(sorted(EVENTS)), max_size=40),
    on_failure=st.sampled_from(OnFailure),
)
def test_whatever_happens_an_image_is_one_image(names, on_failure):
    image = an_image(on_failure=on_failure)
    identity = (image.row, image.number, image.public_id, image.seed, image.prompt)
    for name in names:
        before = image
        try:
            image = advance(image, EVENTS[name])
        except IllegalStep:
            continue
        assert (image.row, image.number, image.public_id, image.seed, image.prompt) == identity
        assert image.attempts - before.attempts in {0, 1}
        assert image.doubtful - before.doubtful in {0, 1}
        assert (image.submission is not None) == (image.state is State.SUBMITTED)
        assert (image.ticket is not None) == (image.state in law.AT_BACKEND)
        assert image.state not in law.ENDS or image.standing is None
        assert image.state not in {State.FETCHED, State.DRAWN} or image.artifact is not None
        assert image.state not in {State.DONE, State.PLACEHOLDER} or image.stored is not None
        if before.standing is not None and image.state in law.ENDS:
            assert image.state in {before.standing, State.DONE, State.FAILED}
        assert before.state is not State.REMOVED


def test_a_placeholder_stays_where_the_store_takes_no_replacement():
    made_again = an_image(State.FETCHED, standing=State.PLACEHOLDER, stored=STORED, artifact=ARTIFACT)
    after = advance(made_again, law.Rejected(FAULT))
    assert (after.state, after.standing, after.stored) == (State.PLACEHOLDER, None, STORED)


def test_a_placeholder_that_somebody_replaced_stands_no_more():
    made_again = an_image(State.FETCHED, standing=State.PLACEHOLDER, stored=STORED, artifact=ARTIFACT)
    after = advance(made_again, law.Rejected(FAULT, conflict=True))
    assert (after.state, after.standing, after.stored) == (State.FAILED, None, None)
