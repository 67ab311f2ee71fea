"""Sampler and scheduler names in both spellings."""

import pytest

from pipeline.backends.samplers import Sampling, for_a1111, for_comfyui
from pipeline.errors import InvalidRequest

# asked for (sampler, scheduler), ComfyUI's names, A1111's names
SAME = [
    (("Euler a", None), ("euler_ancestral", None), ("Euler a", None)),
    (("euler_ancestral", "karras"), ("euler_ancestral", "karras"), ("Euler a", "Karras")),
    (("EULER A", "KARRAS"), ("euler_ancestral", "karras"), ("Euler a", "Karras")),
    (("DPM++ 2M", "Karras"), ("dpmpp_2m", "karras"), ("DPM++ 2M", "Karras")),
    (("DPM++ 2M Karras", None), ("dpmpp_2m", "karras"), ("DPM++ 2M", "Karras")),
    (("DPM++ 2M Karras", "karras"), ("dpmpp_2m", "karras"), ("DPM++ 2M", "Karras")),
    (("DPM++ 2M Karras", "Automatic"), ("dpmpp_2m", "karras"), ("DPM++ 2M", "Karras")),
    (("k_dpmpp_2m_ka", None), ("dpmpp_2m", "karras"), ("DPM++ 2M", "Karras")),
    (
        ("DPM++ 2M SDE Heun Exponential", None),
        ("dpmpp_2m_sde_heun", "exponential"),
        ("DPM++ 2M SDE Heun", "Exponential"),
    ),
    (("dpmpp_2s_ancestral", None), ("dpmpp_2s_ancestral", None), ("DPM++ 2S a", None)),
    (("DPM2 a Karras", None), ("dpm_2_ancestral", "karras"), ("DPM2 a", "Karras")),
    (("dpm_2", None), ("dpm_2", None), ("DPM2", None)),
    (("DPM fast", "Uniform"), ("dpm_fast", "normal"), ("DPM fast", "Uniform")),
    (("uni_pc", "sgm_uniform"), ("uni_pc", "sgm_uniform"), ("UniPC", "SGM Uniform")),
    (("ddim", "ddim_uniform"), ("ddim", "ddim_uniform"), ("DDIM", "DDIM")),
    (("LCM", "Beta"), ("lcm", "beta"), ("LCM", "Beta")),
    (("DPM++ SDE", "Automatic"), ("dpmpp_sde", "karras"), ("DPM++ SDE", "Automatic")),
    ((None, "automatic"), (None, "normal"), (None, "Automatic")),
    ((None, "Karras"), (None, "karras"), (None, "Karras")),
    ((None, None), (None, None), (None, None)),
]


@pytest.mark.parametrize(("asked", "comfyui", "a1111"), SAME)
def test_a_name_means_the_same_in_both_spellings(asked, comfyui, a1111):
    assert for_comfyui(*asked) == Sampling(*comfyui)
    assert for_a1111(*asked) == Sampling(*a1111)


@pytest.mark.parametrize("asked", [both for both, _, _ in SAME])
def test_a_translation_is_its_own_translation(asked):
    there = for_comfyui(*asked)
    assert for_comfyui(there.sampler, there.scheduler) == there
    here = for_a1111(*asked)
    assert for_a1111(here.sampler, here.scheduler) == here


def test_a_name_for_where_noise_is_drawn_is_dropped_for_a1111():
    assert for_comfyui("dpmpp_2m_sde_gpu", None).sampler == "dpmpp_2m_sde_gpu"
    assert for_a1111("dpmpp_2m_sde_gpu", None).sampler == "DPM++ 2M SDE"


@pytest.mark.parametrize(
    ("translate", "asked", "code", "words"),
    [
        (for_comfyui, ("Eulr", None), "unknown_sampler", ['"Eulr"', 'did you mean "euler"?', "dpmpp_2m"]),
        (for_a1111, ("DPM++ 2N", None), "unknown_sampler", ['did you mean "DPM++ 2M"?']),
        (for_comfyui, ("Restart", None), "unknown_sampler", ["ComfyUI has no sampler"]),
        (for_a1111, ("res_multistep", None), "unknown_sampler", ["A1111 has no sampler"]),
        (for_comfyui, ("euler", "Align Your Steps"), "unknown_scheduler", ["ComfyUI has no scheduler"]),
        (for_a1111, ("euler", "linear_quadratic"), "unknown_scheduler", ["A1111 has no scheduler"]),
        (for_a1111, ("Euler", "karas"), "unknown_scheduler", ['did you mean "Karras"?']),
        (for_a1111, ("zzzzzz", None), "unknown_sampler", ['no sampler "zzzzzz" (it has']),
        (for_a1111, ("DPM++ 2M Karras", "simple"), "invalid_request", ["names a scheduler", "leave one out"]),
    ],
)
def test_an_unknown_name_is_an_error_with_the_nearest(translate, asked, code, words):
    with pytest.raises(InvalidRequest) as caught:
        translate(*asked)
    assert caught.value.code == code
    for word in words:
        assert word in str(caught.value)


def test_what_the_service_itself_offers_is_taken_as_it_is_written():
    assert for_comfyui("res_2s", "bong", samplers=["res_2s"], schedulers=["bong"]) == Sampling("res_2s", "bong")
    assert for_a1111("My Sampler Karras", None, samplers=["My Sampler Karras"]).sampler == "My Sampler Karras"
    assert for_a1111("Euler", "Turbo", schedulers=["Turbo"]) == Sampling("Euler", "Turbo")
