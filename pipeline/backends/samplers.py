"""Sampler and scheduler names, in AUTOMATIC1111's and in ComfyUI's spelling.

A job may use either spelling, and A1111's older one where the scheduler is part of the sampler's name
("DPM++ 2M Karras"). A name that a service does not have is an error: another sampler would make another picture.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from pipeline.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Sampling:
    """A sampler and a scheduler in one service's spelling; None leaves the choice to the service or workflow."""

    sampler: str | None
    scheduler: str | None


@dataclass(frozen=True, slots=True)
class _Known:
    comfyui: str | None
    a1111: str | None
    automatic: str = "normal"  # ComfyUI's word for the scheduler that A1111 takes for "Automatic"


_COMFYUI_ALONE = (
    *("euler_cfg_pp", "euler_ancestral_cfg_pp", "heunpp2", "dpmpp_2s_ancestral_cfg_pp", "dpmpp_2m_cfg_pp", "ddpm"),
    *("ipndm", "ipndm_v", "deis", "res_multistep", "res_multistep_cfg_pp", "res_multistep_ancestral"),
    *("res_multistep_ancestral_cfg_pp", "gradient_estimation", "gradient_estimation_cfg_pp", "er_sde", "seeds_2"),
    *("seeds_3", "sa_solver", "sa_solver_pece", "uni_pc_bh2", "dpmpp_sde_gpu", "dpmpp_2m_sde_gpu"),
    *("dpmpp_2m_sde_heun_gpu", "dpmpp_3m_sde_gpu"),
)
_SAMPLERS = (
    _Known("euler", "Euler"),
    _Known("euler_ancestral", "Euler a"),
    _Known("heun", "Heun"),
    _Known("lms", "LMS"),
    _Known("dpm_2", "DPM2", "karras"),
    _Known("dpm_2_ancestral", "DPM2 a", "karras"),
    _Known("dpm_fast", "DPM fast"),
    _Known("dpm_adaptive", "DPM adaptive"),
    _Known("dpmpp_2s_ancestral", "DPM++ 2S a", "karras"),
    _Known("dpmpp_sde", "DPM++ SDE", "karras"),
    _Known("dpmpp_2m", "DPM++ 2M", "karras"),
    _Known("dpmpp_2m_sde", "DPM++ 2M SDE", "exponential"),
    _Known("dpmpp_2m_sde_heun", "DPM++ 2M SDE Heun", "exponential"),
    _Known("dpmpp_3m_sde", "DPM++ 3M SDE", "exponential"),
    _Known("ddim", "DDIM", "ddim_uniform"),
    _Known("uni_pc", "UniPC"),
    _Known("lcm", "LCM"),
    _Known(None, "PLMS"),
    _Known(None, "Restart"),
    _Known(None, "DDIM CFG++"),
    *(_Known(name, None) for name in _COMFYUI_ALONE),
)
_SCHEDULERS = (
    _Known("normal", "Normal"),
    _Known("normal", "Uniform"),
    _Known("karras", "Karras"),
    _Known("exponential", "Exponential"),
    _Known("sgm_uniform", "SGM Uniform"),
    _Known("simple", "Simple"),
    _Known("ddim_uniform", "DDIM"),
    _Known("beta", "Beta"),
    _Known("kl_optimal", "KL Optimal"),
    _Known("linear_quadratic", None),
    _Known(None, "Polyexponential"),
    _Known(None, "Align Your Steps"),
)
_AUTOMATIC = "automatic"


def _plain(name: str) -> str:
    """Reduce a name to what its spellings have in common."""
    name = re.sub(r"[\s_-]+", " ", name.lower().replace("++", "pp")).strip()
    name = re.sub(r"\bancestral\b", "a", name.removeprefix("k "))
    return re.sub(r"^dpm (2)\b", r"dpm\1", name)


def _by_name(table: Iterable[_Known]) -> Mapping[str, _Known]:
    found: dict[str, _Known] = {}
    for known in table:
        for spelling in (known.comfyui, known.a1111):
            if spelling is not None:
                found.setdefault(_plain(spelling), known)
    return found


_SAMPLER_BY_NAME = _by_name(_SAMPLERS)
_SCHEDULER_BY_NAME = _by_name(_SCHEDULERS)


@dataclass(frozen=True, slots=True)
class _Service:
    """Translates into the names that one service knows."""

    called: str
    spelt: Callable[[_Known], str | None]
    automatic: Callable[[_Known | None], str]  # the scheduler that stands for "Automatic" with a sampler

    def __call__(
        self,
        sampler: str | None,
        scheduler: str | None,
        *,
        samplers: Collection[str] = (),
        schedulers: Collection[str] = (),
    ) -> Sampling:
        """Return its names; what it offers by itself (`samplers`, `schedulers`) is taken as it is written.

        Raises:
            InvalidRequest: a name that it does not have, with the nearest.
        """
        sampler, known, scheduler = _looked_up(sampler, scheduler, samplers)
        if scheduler is not None and scheduler not in schedulers:
            if _plain(scheduler) == _AUTOMATIC:
                scheduler = self.automatic(known)
            else:
                found = _SCHEDULER_BY_NAME.get(_plain(scheduler))
                scheduler = _required("scheduler", scheduler, found, self, _SCHEDULERS)
        if sampler is not None and sampler not in samplers:
            sampler = _required("sampler", sampler, known, self, _SAMPLERS)
        return Sampling(sampler, scheduler)


def _in_a1111(known: _Known) -> str | None:
    """One that draws its noise on the GPU is the same sampler."""
    if known.comfyui is not None and known.comfyui.endswith("_gpu"):
        known = _SAMPLER_BY_NAME[_plain(known.comfyui.removesuffix("_gpu"))]
    return known.a1111


for_comfyui = _Service(
    "ComfyUI", lambda known: known.comfyui, lambda known: known.automatic if known is not None else "normal"
)
for_a1111 = _Service("A1111", _in_a1111, lambda _: "Automatic")


def _looked_up(
    sampler: str | None, scheduler: str | None, offered: Collection[str]
) -> tuple[str | None, _Known | None, str | None]:
    """Find a sampler; one whose name ends in a scheduler's is taken apart, unless the service offers it so."""
    if sampler is None:
        return None, None, scheduler
    known = _SAMPLER_BY_NAME.get(_plain(sampler))
    if known is not None or sampler in offered:
        return sampler, known, scheduler
    for part in ("karras", "exponential", "polyexponential", "ka"):
        base, _, end = _plain(sampler).rpartition(" ")
        if end == part and (known := _SAMPLER_BY_NAME.get(base)) is not None:
            said = "Karras" if part == "ka" else part.title()
            if scheduler is not None and _plain(scheduler) not in (_plain(said), _AUTOMATIC):
                raise InvalidRequest(
                    f'sampler_name "{sampler}" names a scheduler, and scheduler says "{scheduler}": leave one out',
                    code="invalid_request",
                )
            return known.a1111 or known.comfyui, known, said
    return sampler, None, scheduler


def _required(kind: str, asked: str, found: _Known | None, service: _Service, table: Iterable[_Known]) -> str:
    name = None if found is None else service.spelt(found)
    if name is not None:
        return name
    choices = list(dict.fromkeys(choice for known in table if (choice := service.spelt(known)) is not None))
    by_lower = {choice.lower(): choice for choice in choices}
    near = get_close_matches(asked.lower(), by_lower, n=1, cutoff=0.5)
    hint = f'; did you mean "{by_lower[near[0]]}"?' if near else ""
    raise InvalidRequest(
        f'{service.called} has no {kind} "{asked}"{hint} (it has {", ".join(choices)})', code=f"unknown_{kind}"
    )
