"""The released checkpoints of MV-Adapter as data: each loads by name, and draws what the reference draws."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from safelight.core.path import vp_scaled_linear
from safelight.errors import UnknownNameError, WeightsError
from safelight.families.sd.model import Added
from safelight.multiview.encode import ENCODERS
from safelight.multiview.mv_adapter.across import ACROSS
from safelight.multiview.mv_adapter.model import CHANNELS
from safelight.multiview.mv_adapter.released import Released, every, released
from safelight.multiview.mv_adapter.use import Strength
from safelight.multiview.rig import rig
from safelight.weights.save import save
from tests.parity.mv_adapters import KINDS, case
from tests.parity.networks import BARS, difference

BASES = {
    "sd21": ("stabilityai/stable-diffusion-2-1-base", 512),
    "sdxl": ("stabilityai/stable-diffusion-xl-base-1.0", 768),
}


def parts(row: Released) -> tuple[str, str]:
    """Kind and base, of a released name."""
    _, kind, *_, base = row.file.removesuffix(".safetensors").split("_")
    return kind, base


def test_every_base_has_every_kind_and_what_its_file_is_called_says_which() -> None:
    assert sorted(parts(row) for row in every().values()) == sorted(
        [*((kind, base) for kind in KINDS for base in BASES), ("ig2mv", "sdxl")]
    )
    for name, row in every().items():
        kind, base = parts(row)
        _, reading, refers = KINDS[kind]
        assert row.name == name == f"mv-adapter-{row.file[10:-12].replace('_', '-')}"
        assert (row.base, row.size, row.across, row.refers) == (*BASES[base], reading, refers), name


@pytest.mark.parametrize("name", every())
def test_facts_go_together(name: str) -> None:
    row = released(name)
    cameras, encoder = rig(row.rig), ENCODERS[row.maps]
    assert (encoder.channels, encoder.maps, row.across in ACROSS) == (CHANNELS, True, True)
    assert (row.across == "faces") == (row.maps == "geometry") == row.rig.endswith("-faces")
    assert len(cameras.azimuths) == 6 and cameras.span == 1.1
    wanted = {"text": "prompt", "maps": "keep", **({"reference": "zeros"} if row.refers else {})}
    assert row.unconditional == wanted
    assert (row.guidance, row.prompt) == ((3.0, "high quality") if row.refers else (7.0, ""))
    assert (row.weights, row.commercial, row.unverified) == ("Apache-2.0", True, "real weights")


def test_the_noise_path_is_the_bases_with_an_eighth_of_the_signal_at_its_noisy_end() -> None:
    base = vp_scaled_linear()
    own = released("mv-adapter-i2mv-sdxl").path(base)
    assert math.isclose(own.ends[0].lam, base.ends[0].lam - math.log(8) / 2, rel_tol=1e-12)
    assert math.isclose(own.ends[1].lam, base.ends[1].lam, rel_tol=1e-12)
    assert own.ends[0].t == base.ends[0].t, "the network is told the same"


@pytest.mark.parametrize("name", ["mv-adapter-ig2mv-sd21", "mv-adapter-t2mv-sdxl"])
def test_a_checkpoint_that_is_loaded_by_name_draws_what_the_reference_draws(name: str, tmp_path: Path) -> None:
    row = released(name)
    kind, base = parts(row)
    here, strength = case(base, kind), Strength(0.7, 1.3, 0.6)
    save({key: value.contiguous().clone() for key, value in here.weights.items()}, tmp_path / row.file)
    asked = here.asked()
    count = asked["count"]
    network = row.load(tmp_path / row.file, here.ours, strength)
    told = {key: asked[key][::count] for key in ("pooled", "times") if asked[key] is not None}
    with torch.no_grad():
        conditions = network.told(
            asked["context"][::count],
            asked["maps"].unflatten(0, (2, count)),
            asked["latents"] if row.refers else None,
            Added(**told) if told else None,
        )
        drawn = network(asked["x"].unflatten(0, (2, count)).transpose(1, 2), asked["t"][::count], conditions)
    wanted = here.reference(asked, strength)
    assert difference(drawn.transpose(1, 2).flatten(0, 1), wanted) <= BARS[torch.float64]
    other = released(name.replace("ig2mv", "tg2mv").replace("-t2mv", "-i2mv"))
    with pytest.raises(WeightsError, match="the preset is for one that does"):
        other.load(tmp_path / row.file, here.ours)


def test_a_name_that_is_not_known_says_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="mv-adapter-i2mv-sd21"):
        released("mv-adapter-i2mv")
