"""Laws that do not apply to a row of a table, each with its reason.

A law runs over ``rows(law, names)``: what is left out is named here and nowhere else.
"""

from __future__ import annotations

_LEAPS = "it leaps and adds noise: no solver; tests/laws/test_consistency.py has its law"
_AGAIN = "it always draws noise; tests/laws/test_restart.py compares it with its parts"
_GRIDLESS = "it goes its own way between the ends of the grid; tests/laws/test_single_steps.py has its laws"
_LABELS = "it reads rows of the path's own training table, and the tables of two charts differ"
_EULER_FIRST = "its first steps are of lower order, but weigh little where the prediction hardly moves"
_EVEN = "its published weights are right only where all steps shrink by one ratio"
_SLOPE_TO_CLEAN = "its last step follows the slopes to the clean end, as other programs have it"

EXEMPT: dict[tuple[str, str], str] = {
    **{(law, row): _GRIDLESS for law in ("order", "local order", "spread") for row in ("dpm_adaptive", "dpm_fast")},
    ("device", "dpm_adaptive"): "it reads its error from the device to choose its next step",
    ("local order", "dpm_singlestep"): "its step is a group of steps of the grid; see tests/laws/test_single_steps.py",
    ("local order", "heunpp2"): "how often a step asks depends on how many follow, so nobody can tell where it begins",
    ("order from above", "seeds_3"): "without noise it is of order 3; its noise leaves 2",
    ("constant", "ipndm_v"): _EVEN + "; on others they do not even sum to one",
    **{(f"{law} from above", "ipndm_v"): _EVEN + ", as here" for law in ("order", "spread")},
    **{
        (f"{law} from above", row): _EULER_FIRST
        for law in ("order", "spread")
        for row in ("adams3", "adams4", "adams3_corrected", "deis", "deis_log", "lms")
    },
    **{("order from above", row): _EULER_FIRST for row in ("adams3_sde", "sa_solver", "sa_solver_pece")},
    ("spread", "unipc2_bh2"): "the error of its Euler step at the end has the other sign; the law of order holds it",
    **{("end", row): _SLOPE_TO_CLEAN for row in ("lms", "plms")},
    **{
        (law, row): _LEAPS
        for law in ("constant", "order", "local order", "spread")
        for row in ("consistency", "lcm", "lcm_boundary")
    },
    ("spread", "tcd"): _LEAPS,
    **{(law, "restart_heun"): _AGAIN for law in ("constant", "order", "local order")},
    **{
        ("chart", row): _LABELS
        for row in ("consistency", "lcm_boundary", "tcd", "sa_solver", "sa_solver_p2c2", "sa_solver_pece")
    },
    ("path", "sa_solver_p2c2"): "its window of noise is cut at whole steps, which outweighs the rest below 80 of them",
    ("end", "lcm_boundary"): "its end mixes the last prediction with the last state, as diffusers does",
}


def rows(law: str, names: list[str]) -> list[str]:
    """The rows to which a law applies."""
    return [name for name in names if (law, name) not in EXEMPT]
