"""How wrong each sampler may be: half as much again as was measured, for an order alone would miss a wrong constant."""

from __future__ import annotations

CEILING: dict[str, tuple[float, float]] = {
    "ddim": (1.9e-2, 5.6e-3),
    "ddpm": (1.9e-2, 1.1e-2),
    "dpmpp_2m": (1.9e-4, 2.5e-5),
    "dpmpp_2m_sde": (1.9e-4, 6.3e-5),
    "dpmpp_2m_sde_heun": (2.8e-4, 1.4e-4),
    "euler": (1.9e-2, 5.6e-3),
    "euler_ancestral": (1.9e-2, 1.1e-2),
    "heun": (3.3e-4, 6.0e-5),
}
"""Name: (largest error of the ODE at 128 steps, error of mean plus variance at 256 steps)."""
