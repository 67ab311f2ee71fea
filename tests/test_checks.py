import pytest
import trio

from pipeline.errors import AttemptFailed, InvalidRequest, Unavailable
from pipeline.making.checks import KEPT_ANSWERS, Checks
from pipeline.model import Image, OnFailure, Recipe, State
from pipeline.tools.brake import Brake
from tests.support.scripted import ScriptedBackend, lane


def image(*, model="y", quantity=5):
    return Image(
        row=1,
        job_id="j1",
        character_id="mary",
        character_name="Mary",
        owner="alice",
        number=1,
        place=0,
        filename="mary_image_1",
        public_id="alice/characters/mary/images/mary_image_1",
        prompt="p",
        seed=1,
        recipe=Recipe(model=model),
        labels=(),
        on_failure=OnFailure.PLACEHOLDER,
        quantity=quantity,
        state=State.PLANNED,
    )


async def test_images_that_start_together_ask_once(autojump_clock):
    pod = ScriptedBackend()
    pod.on_check.append(2.0)
    gate, checks = lane("pod", pod, Brake()), Checks()
    async with trio.open_nursery() as nursery:
        for _ in range(9):
            nursery.start_soon(checks.obstacle, image(), gate)
    assert pod.checks == [(0, 5)]


async def test_other_models_and_single_images_are_other_questions(autojump_clock):
    pod = ScriptedBackend()
    gate, checks = lane("pod", pod, Brake()), Checks()
    for asked in (image(), image(model="z"), image(quantity=1), image(quantity=7)):
        await checks.obstacle(asked, gate)
    assert [images for _, images in pod.checks] == [5, 5, 1]


async def test_an_answer_is_kept_for_a_minute(autojump_clock):
    pod = ScriptedBackend()
    pod.on_check.append(InvalidRequest("no model y", code="model_missing"))
    gate, checks = lane("pod", pod, Brake()), Checks()
    assert (await checks.obstacle(image(), gate)).code == "model_missing"
    await trio.sleep(59)
    assert (await checks.obstacle(image(), gate)).code == "model_missing"
    await trio.sleep(1)
    assert await checks.obstacle(image(), gate) is None


async def test_a_check_without_an_answer_is_an_outage(autojump_clock):
    pod = ScriptedBackend()
    pod.on_check.append("hang")
    gate = lane("pod", pod, Brake(), timeout=60.0)
    with pytest.raises(Unavailable, match="no answer to a check within 60 s"):
        await Checks().obstacle(image(), gate)
    assert trio.current_time() == 60


async def test_a_defect_in_a_check_keeps_no_image_from_going_out(autojump_clock, capsys):
    pod = ScriptedBackend()
    pod.on_check.extend([KeyError("ckpt_name"), AttemptFailed("too large", code="too_large")])
    gate, checks = lane("pod", pod, Brake()), Checks()
    for n in range(2):
        assert await checks.obstacle(image(model=str(n)), gate) is None
    assert capsys.readouterr().out.count("check_broke") == 2


async def test_old_answers_make_room(autojump_clock):
    pod = ScriptedBackend()
    gate, checks = lane("pod", pod, Brake()), Checks()
    for n in range(KEPT_ANSWERS + 1):
        await checks.obstacle(image(model=str(n)), gate)
    await checks.obstacle(image(model="1"), gate)
    assert len(pod.checks) == KEPT_ANSWERS + 1
    await checks.obstacle(image(model="0"), gate)
    assert len(pod.checks) == KEPT_ANSWERS + 2


async def test_a_question_that_only_fails_at_a_back_end_that_is_up_holds_images_up_no_longer_than_one_may_take(
    autojump_clock,
):
    pod = ScriptedBackend()
    pod.on_check.extend([Unavailable("500", code="unavailable")] * 9)
    gate, checks = lane("pod", pod, Brake(), timeout=60.0), Checks()
    for moment in (0, 59):
        await trio.sleep_until(moment)
        with pytest.raises(Unavailable):
            await checks.obstacle(image(), gate)
    await trio.sleep_until(60)
    assert await checks.obstacle(image(), gate) is None
    pod.down = "refused"
    await trio.sleep_until(120)
    with pytest.raises(Unavailable):
        await checks.obstacle(image(), gate)
    assert gate.down == "refused"


async def test_a_question_that_was_answered_in_between_has_all_its_time_again(autojump_clock):
    pod = ScriptedBackend()
    trouble = Unavailable("500", code="unavailable")
    pod.on_check.extend([trouble, None, trouble])
    gate, checks = lane("pod", pod, Brake(), timeout=60.0), Checks()
    with pytest.raises(Unavailable):
        await checks.obstacle(image(), gate)
    await checks.obstacle(image(), gate)
    await trio.sleep(100)
    with pytest.raises(Unavailable):
        await checks.obstacle(image(), gate)
