"""What every Backend promises (`pipeline.ports.Backend`), asked of each adapter."""

import pytest

from pipeline import picture
from pipeline.errors import AttemptFailed, InvalidRequest, NotAccepted, Unavailable
from pipeline.model import Picture, Submission
from pipeline.ports import CannotTell, NotThere
from tests.support.stands import BACKENDS, pull

LATER = "5c1f3f0e-61a4-4a0f-8f0e-8a9d4d0b7c55"


@pytest.fixture(params=sorted(BACKENDS))
async def stand(request, tmp_path):
    async with BACKENDS[request.param](tmp_path) as made:
        yield made


def lever(value, what):
    if value is None:
        pytest.skip(f"this service cannot be made to {what}")
    return value


async def outcome(stand, request):
    """Submit, and wait where the service does not answer at once."""
    answer = await stand.backend.submit(request)
    return answer if isinstance(answer, Picture) else await stand.backend.collect(request, answer)


async def test_a_request_becomes_a_picture_of_the_size_asked_for(stand):
    made = await outcome(stand, stand.good)
    seen = picture.examine(made.data)
    assert (seen.width, seen.height) == (stand.good.recipe.width, stand.good.recipe.height)
    assert made.gpu_seconds is None or made.gpu_seconds >= 0


async def test_a_submission_can_be_found_again_after_a_restart(stand):
    answer = await stand.backend.submit(stand.good)
    if isinstance(answer, Picture):
        pytest.skip("answers at once")
    assert answer.remote_id
    assert answer.base_url
    assert answer.accepted_at < answer.deadline
    first = await stand.backend.collect(stand.good, answer)
    assert (await stand.backend.collect(stand.good, answer)).data == first.data


async def test_an_accepted_submission_is_found_by_its_ticket(stand):
    answer = await stand.backend.submit(stand.good)
    if isinstance(answer, Picture) or not stand.finds:
        pytest.skip("keeps nothing that could be found")
    found = await stand.backend.find(stand.good)
    assert isinstance(found, Submission)
    assert (found.remote_id, found.base_url) == (answer.remote_id, answer.base_url)


async def test_what_was_never_submitted_is_not_found(stand):
    found = await stand.backend.find(stand.good._replace(ticket=LATER))
    if stand.finds:
        assert found == NotThere()
    else:
        assert isinstance(found, CannotTell)
        assert found.reason


async def test_an_invalid_request_is_told_from_a_failed_attempt(stand):
    with pytest.raises(InvalidRequest) as caught:
        await outcome(stand, lever(stand.invalid, "refuse"))
    assert caught.value.code


async def test_a_failed_attempt_has_a_code_and_a_sentence(stand):
    with pytest.raises(AttemptFailed) as caught:
        await outcome(stand, lever(stand.failing, "fail"))
    assert caught.value.code
    assert str(caught.value)


async def test_a_forgotten_submission_is_lost(stand):
    with pytest.raises(AttemptFailed) as caught:
        await stand.backend.collect(stand.good, lever(stand.forgotten, "forget"))
    assert caught.value.code == "lost"


async def test_cancelling_never_raises_for_what_has_ended(stand):
    answer = await stand.backend.submit(stand.good)
    if isinstance(answer, Picture):
        answer = lever(stand.forgotten, "be cancelled")
    await stand.backend.cancel(answer)
    await stand.backend.cancel(answer)


async def test_a_recipe_that_will_work_is_not_complained_about(stand):
    await stand.backend.check(stand.good.recipe, images=1)


async def test_a_missing_model_is_named_before_anything_is_bought(stand):
    asked = lever(stand.unknown_model, "miss a model")
    with pytest.raises(InvalidRequest, match=str(asked.recipe.model)):
        await stand.backend.check(asked.recipe, images=1)


async def test_a_service_that_is_there_answers_the_probe(stand):
    await stand.backend.probe()


async def test_a_service_that_is_down_costs_nothing(stand):
    await pull(lever(stand.go_down, "go down"))
    with pytest.raises(NotAccepted):
        await stand.backend.submit(stand.good)
    with pytest.raises(Unavailable):
        await stand.backend.probe()
