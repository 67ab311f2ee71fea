"""How a back end's words become an event of the law."""

import pytest

from pipeline.errors import AttemptFailed, InvalidRequest, NotWorthRepeating
from pipeline.lifecycle import AttemptLost, GaveUp
from pipeline.making.lane import Brake, Lane, Limits
from pipeline.making.outcomes import lost
from pipeline.model import Fault
from tests.support.scripted import ScriptedBackend


@pytest.fixture
def lane():
    return Lane("pod", ScriptedBackend(takes=0.0), Limits(concurrency=1, timeout=60), brake=Brake())


@pytest.mark.parametrize(("known", "told", "recorded"), [(0.0, 4.0, 4.0), (2.5, 0.0, 2.5), (0.0, 0.0, 0.0)])
def test_what_a_failed_attempt_has_cost_is_recorded(lane, known, told, recorded):
    for kind in (AttemptFailed, InvalidRequest, NotWorthRepeating):
        error = kind("it broke", code="failed")
        error.gpu_seconds = told
        fault = Fault("failed", "it broke")
        expected = (
            AttemptLost(fault, 3, recorded) if kind is AttemptFailed else GaveUp(fault, paid=True, gpu_seconds=recorded)
        )
        assert lost(error, lane, known) == expected
