"""Presets of views are facts, read strictly."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import torch

from safelight.errors import ConfigError, RequestError, UnknownNameError
from safelight.multiview.network import Conditions
from safelight.multiview.presets import CHECKS, FILE, Preset, preset, presets, read
from safelight.multiview.rig import rig

TEXT = FILE.read_text(encoding="utf-8")


def changed(tmp_path: Path, old: str, new: str) -> Path:
    """The file with the first of what stands in it replaced."""
    assert old in TEXT, old
    place = tmp_path / "presets.toml"
    place.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    return place


def test_every_preset_says_what_was_verified_and_what_was_not() -> None:
    for name, row in presets().items():
        assert row.name == name and row.verified and row.unverified and row.source and row.code and row.weights
        assert set(row.unconditional) == set(row.inputs)
        assert not row.rig or rig(row.rig).size == row.size


def test_facts_of_the_note_stand_in_the_presets() -> None:
    imagedream, gaf = preset("imagedream"), preset("gaf")
    assert imagedream.inputs == ("text", "camera", "hidden", "reference")
    assert (imagedream.tokens, imagedream.token_heads, imagedream.hidden, imagedream.guidance) == (16, 12, 1280, 5.0)
    assert all(
        row.prediction == "epsilon" and row.latent["scale"] == 0.18215 for row in (imagedream, preset("mvdream"))
    )
    assert gaf.shown == ("normals",) and gaf.steps == 10 and not gaf.files
    assert "paper" in gaf.source and "not public" in gaf.source
    same = {field.name for field in fields(Preset) if getattr(gaf, field.name) == getattr(imagedream, field.name)}
    assert {"layout", "slot", "tokens", "camera", "latent", "betas", "prediction"} <= same


def test_guidance_leads_away_from_what_the_rules_say() -> None:
    made = {
        "context": torch.ones(1, 2, 3),
        "cameras": torch.ones(1, 4, 16),
        "hidden": torch.ones(1, 5, 6),
        "reference": torch.ones(1, 4, 2, 2),
        "shown": torch.ones(1, 4, 4, 2, 2),
    }
    cond, negative = Conditions(**made), torch.full((1, 2, 3), 7.0)
    away = preset("gaf").led_away(cond, negative)
    assert torch.equal(away.context, negative)
    assert away.cameras is cond.cameras and away.shown is cond.shown and away.beside_reference is None
    assert away.hidden is not None and not away.hidden.any()
    assert away.reference is not None and not away.reference.any()
    with pytest.raises(RequestError, match="encode them alike"):
        preset("gaf").led_away(cond, negative[:, :1])


def test_shown_inputs_become_zeros_where_a_preset_says_so(tmp_path: Path) -> None:
    row = read(changed(tmp_path, 'normals = "keep"', 'normals = "zeros"'))["gaf"]
    cond = Conditions(torch.ones(1, 2, 3), shown=torch.ones(1, 4, 2, 2, 2), beside_reference=torch.ones(1, 4, 2, 2))
    away = row.led_away(cond, torch.zeros(1, 2, 3))
    assert away.shown is not None and away.beside_reference is not None
    assert not away.shown.any() and not away.beside_reference.any()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('layout = "dense"', 'layout = "dens"', "layout cannot be dens"),
        ('rig = "mvdream4"', 'rig = "nowhere"', "rig cannot be"),
        ('camera = "pose16"', 'camera = "pose"', "camera cannot be"),
        ("camera_width = 16", "camera_width = 12", "12 numbers is not what 'pose16' makes"),
        ('prediction = "epsilon"', 'prediction = "eps"', "prediction cannot be"),
        ("guidance = 7.5", "guidance = nan", "guidance cannot be"),
        ("steps = 50", "steps = 0", "steps cannot be"),
        ("slot = false", 'slot = "no"', "slot cannot be"),
        ("shown = []", "shown = [1]", "shown cannot be"),
        ('camera = "keep" }', 'camera = "prompt" }', "unconditional cannot be"),
        (', camera = "keep" }', " }", "rules for text; the network reads text, camera"),
        ("start = 0.00085, end", "begin = 0.00085, end", "betas cannot be"),
        ("scale = 0.18215, shift = 0.0", "scale = 0.18215", "latent cannot be"),
        ("background = 0.5", "background = 2", "background cannot be"),
        ("steps = 50", "step = 50", "unknown keys: step"),
        ("steps = 50\n", "", "lacks steps"),
        ("[mvdream]", "mvdream = 3\n[other]", "is not a table"),
        ("[mvdream]", "[[mvdream", "cannot be read"),
    ],
)
def test_a_table_that_is_wrong_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(changed(tmp_path, old, new))


def test_every_field_is_checked_and_an_unknown_preset_names_the_nearest() -> None:
    assert set(CHECKS) == {field.name for field in fields(Preset)} - {"name"}
    with pytest.raises(UnknownNameError, match="imagedream"):
        preset("imagdream")


def test_what_can_be_asked_of_a_model_follows_from_its_inputs() -> None:
    asked = {name: (row.prompted, row.pictured, row.free) for name, row in presets().items()}
    assert asked["mvdream"] == (True, False, True) and asked["imagedream"] == asked["gaf"] == (True, True, True)
    assert asked["zero123"] == asked["figurines-views"] == (False, True, True)
    assert asked["zero123pp-1.2"] == (True, True, False)
    assert asked["wonder3d"] == asked["era3d"] == asked["facelift"] == (False, True, False)
