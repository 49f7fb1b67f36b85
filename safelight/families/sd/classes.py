"""How every class of diffusers that a ``scheduler_config.json`` may name reads that file: grids, defaults, refusals.

    grid       classes                                meaning
    rows       DDIM, DDPM, PNDM                       whole rows of the training table; n points, the cleanest included
    sigmas     Euler, Heun, LMS, KDPM2, DPM-Solver    the same points, but "linspace" keeps fractions, sigma / alpha
               SDE                                    linear between rows
    spare      DPM-Solver++, UniPC, DEIS, SA-Solver   whole rows of n + 1 points, the cleanest left out
    distilled  LCM, TCD                               every (m / n)-th of the m rows on which a network was distilled
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

LINEAR, NARROW, SCALED = ("linear", 1e-4, 0.02), ("linear", 0.00085, 0.012), ("scaled_linear", 0.00085, 0.012)
"""Defaults of beta_schedule, beta_start and beta_end."""


class Reading(NamedTuple):
    """How one class reads the file.

    Attributes:
        grid: see the module. spacing: default of timestep_spacing. betas: defaults of the noise path.
        end: the last level: ``clean``, ``trained`` (the cleanest row), or the key that decides.
        to_one: default of set_alpha_to_one.
        spreads: whether it knows use_karras_sigmas and its kin.
        karras: what becomes of the labels of a Karras spread: ``round`` to whole ones, or ``keep``.
        clips: default of clip_sample; None where the class does not know it.
        needs: keys whose other values are refused, beside those of ``NEUTRAL``.
    """

    grid: str
    spacing: str = "linspace"
    betas: tuple[str, float, float] = LINEAR
    end: str = "clean"
    to_one: bool = True
    spreads: bool = True
    karras: str = "keep"
    clips: bool | None = None
    needs: Mapping[str, tuple[Any, ...]] = {}


DPM, EULER_A, SINGLE = "DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverSinglestepScheduler"
_LOWERS = {"lower_order_final": (True,)}
_TWO = {"predictor_order": (2,), "corrector_order": (2,), "algorithm_type": ("data_prediction",), "tau_func": (None,)}

CLASSES: dict[str, Reading] = {
    "DDIMScheduler": Reading("rows", "leading", end="set_alpha_to_one", spreads=False, clips=True),
    "DDPMScheduler": Reading("rows", "leading", spreads=False, clips=True),
    "DEISMultistepScheduler": Reading("spare", end="trained", karras="round"),
    DPM: Reading("spare", end="final_sigmas_type", karras="round"),
    "DPMSolverSDEScheduler": Reading("sigmas", betas=NARROW),
    SINGLE: Reading("spare", end="final_sigmas_type", karras="round"),
    EULER_A: Reading("sigmas", spreads=False),
    "EulerDiscreteScheduler": Reading("sigmas", end="final_sigmas_type"),
    "HeunDiscreteScheduler": Reading("sigmas", betas=NARROW, clips=False),
    "KDPM2AncestralDiscreteScheduler": Reading("sigmas", betas=NARROW, karras="round"),
    "KDPM2DiscreteScheduler": Reading("sigmas", betas=NARROW, karras="round"),
    "LCMScheduler": Reading("distilled", "leading", SCALED, spreads=False, clips=False),
    "LMSDiscreteScheduler": Reading("sigmas"),
    "PNDMScheduler": Reading("rows", "leading", end="set_alpha_to_one", to_one=False, spreads=False),
    "SASolverScheduler": Reading("spare", end="trained", karras="round", needs={**_LOWERS, **_TWO}),
    "TCDScheduler": Reading("distilled", "leading", SCALED, end="trained", spreads=False, clips=False),
    "UniPCMultistepScheduler": Reading("spare", end="final_sigmas_type", karras="round", needs=_LOWERS),
}

_EDM = "its networks are told log(sigma) / 4 and scale what they see and say by EDM's rule, which is not known here"
_FLOW = "it is for networks of a flow, such as FLUX's; no pipeline of Stable Diffusion can run it, diffusers' neither"
REFUSED: dict[str, str] = {
    "CMStochasticIterativeScheduler": "it is for consistency models of pixels, told 250 log(sigma)",
    "EDMDPMSolverMultistepScheduler": _EDM,
    "EDMEulerScheduler": _EDM,
    "FlowMatchEulerDiscreteScheduler": _FLOW,
    "FlowMatchHeunDiscreteScheduler": _FLOW,
    "FlowMatchLCMScheduler": _FLOW,
    "IPNDMScheduler": "it has a noise path of its own, on which no Stable Diffusion was trained; use --sampler ipndm",
}
"""Classes that are known and cannot be meant by a Stable Diffusion, with the reason."""

OTHERS: dict[str, dict[str, Mapping[str, str]]] = {
    DPM: {
        "algorithm_type": {"deis": "dpmsolver++"},
        "solver_type": {"logrho": "midpoint", "bh1": "midpoint", "bh2": "midpoint"},
    },
    "UniPCMultistepScheduler": {"solver_type": {"midpoint": "bh2", "heun": "bh2", "logrho": "bh2"}},
}
OTHERS[SINGLE] = OTHERS[DPM]
"""Values that a file made from another class's holds, and what diffusers takes for them."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "interpolation_type": ("linear",),
    "disable_corrector": ([], None),
    "lambda_min_clipped": (-math.inf, None),
    "predict_x0": (True,),
    "shift_terminal": (None,),
    "solver_p": (None,),
    "thresholding": (False,),
    "timestep_type": ("discrete",),
    "use_dynamic_shifting": (False,),
    "use_flow_sigmas": (False,),
    "use_lu_lambdas": (False,),
}
"""Keys of released files and the values that change nothing here; any other value is refused, not ignored."""

SPREADS = {"use_karras_sigmas": "karras", "use_exponential_sigmas": "exponential", "use_beta_sigmas": "beta"}
SWITCHES = frozenset(
    {"clip_sample", "euler_at_final", "lower_order_final", "rescale_betas_zero_snr", "set_alpha_to_one", *SPREADS}
)
READ = frozenset(
    {
        *SWITCHES,
        *("algorithm_type", "beta_end", "beta_schedule", "beta_start", "corrector_order", "final_sigmas_type"),
        *("num_train_timesteps", "original_inference_steps", "prediction_type", "predictor_order", "sigma_max"),
        *("sigma_min", "solver_order", "solver_type", "steps_offset", "tau_func", "timestep_scaling"),
        *("timestep_spacing", "trained_betas", "variance_type"),
    }
)
"""Keys that some class reads."""
IRRELEVANT = frozenset(
    {
        *("clip_sample_range", "dynamic_thresholding_ratio", "flow_shift", "noise_sampler_seed", "sample_max_value"),
        *("skip_prk_steps", "time_shift_type"),
    }
)
"""Keys that matter only to a value that is refused, that PNDM alone reads, or that give noise, which is the seed's."""
