"""Settings: what a file and a command line may say, and what is answered to the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from safelight.errors import ConfigError, UnknownNameError
from safelight.train.figurines import plan
from safelight.train.settings import Fit, overridden, read_toml


def test_the_plan_of_the_package_is_read() -> None:
    made = plan.read()
    assert made.data.count == 20000 and made.unet_fit.sample_every == 1000
    assert isinstance(made.vae.channels, tuple)
    assert made.path.ends[0].alpha == 0.0


def test_a_network_that_predicts_noise_is_not_asked_at_pure_noise() -> None:
    assert plan.read(None, ["unet.prediction=eps"]).path.ends[0].alpha > 0.0
    assert plan.read(None, ["unet.prediction=x0"]).path.ends[0].alpha == 0.0


def test_overrides_are_read_as_toml_else_as_text() -> None:
    changes = ["a.x=3", "a.y=1e-3", "a.z=[1, 2]", 'a.s="v"', "a.t=v", "b.on=true", " a.x = 4"]
    assert overridden({"a": {"x": 1, "k": 0}}, changes) == {
        "a": {"x": 4, "k": 0, "y": 1e-3, "z": [1, 2], "s": "v", "t": "v"},
        "b": {"on": True},
    }


@pytest.mark.parametrize("text", ["unet.steps", "steps=3", ".steps=3", "unet.=3", "=3", ""])
def test_an_override_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        overridden({}, [text])


@pytest.mark.parametrize(
    ("change", "nearest"),
    [("unet_fit.step=3", "steps"), ("unit_fit.steps=3", "unet_fit"), ("vae.chanels=[8]", "channels")],
)
def test_an_unknown_key_or_section_lists_the_nearest(change: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=f"nearest known: {nearest}"):
        plan.read(None, [change])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("unet_fit.steps=1.5", r"\[unet_fit\] steps = 1.5 should be of type int"),
        ("unet_fit.lr=fast", r"\[unet_fit\] lr = 'fast' should be of type float"),
        ("unet_fit.steps=true", r"\[unet_fit\] steps = True should be of type int"),
        ("vae.channels=8", r"\[vae\] channels = 8 should be of type list"),
        ('vae.channels=[8, "x"]', r"\[vae\] channels\[1\] = 'x' should be of type int"),
        ("vae.decoder_only=1", r"\[vae\] decoder_only = 1 should be of type bool"),
    ],
)
def test_a_wrong_type_says_which(change: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan.read(None, [change])


@pytest.mark.parametrize(
    "change",
    [
        *("unet_fit.steps=0", "unet_fit.lr=nan", "unet_fit.hold=1.5", "unet_fit.ema=1.0", "unet_fit.accumulate=5"),
        *("unet_fit.clip=-1.0", "unet.empty=2.0", "unet.attended=[7]", "words.empty=-0.1", "data.count=0"),
        *("vae.crop=12", "vae.whole_every=0", "unet.min_snr=-1.0", "data.workers=0", "vae.patch=0"),
    ],
)
def test_a_number_out_of_its_range_is_refused_with_its_section(change: str) -> None:
    name, _, key = change.partition("=")[0].partition(".")
    with pytest.raises(ConfigError, match=rf"\[{name}\] .*{key}"):
        plan.read(None, [change])


@pytest.mark.parametrize("change", ["unet_fit.decay=cosin", "unet_fit.precision=fp16", "unet.prediction=flow"])
def test_an_unknown_word_is_refused(change: str) -> None:
    with pytest.raises(UnknownNameError):
        plan.read(None, [change])


def test_a_file_is_laid_over_the_plan_and_the_command_line_over_both(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[unet_fit]\nsteps = 7\nbatch = 2\n")
    made = plan.read(file, ["unet_fit.batch=3"])
    assert (made.unet_fit.steps, made.unet_fit.batch) == (7, 3)
    assert made.unet.channels == plan.read().unet.channels


@pytest.mark.parametrize("data", [b"steps = 3\n", b"[a\n", b"\xff\xfe\x00", None])
def test_a_file_that_is_no_table_of_sections_is_refused(tmp_path: Path, data: bytes | None) -> None:
    file = tmp_path / "bad.toml"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(ConfigError, match=r"bad\.toml"):
        read_toml(file)


def test_learning_rates_are_right_at_their_ends() -> None:
    for decay, end in (("constant", 1.0), ("linear", 0.0), ("cosine", 0.0)):
        fit = Fit(steps=1000, lr=2.0, warmup=100, decay=decay)
        assert fit.rate(0) == pytest.approx(0.02), "the first step moves already"
        assert fit.rate(99) == fit.rate(100) == pytest.approx(2.0)
        assert fit.rate(1000) == pytest.approx(2.0 * end, abs=1e-12)
        rates = [fit.rate(step) for step in range(100, 1001)]
        assert rates == sorted(rates, reverse=True)
    assert Fit(steps=1000, lr=2.0, warmup=100, decay="linear").rate(550) == pytest.approx(1.0)
    assert Fit(steps=1000, lr=2.0, warmup=100, decay="cosine").rate(550) == pytest.approx(1.0)


def test_a_held_rate_falls_only_afterwards() -> None:
    fit = Fit(steps=1000, lr=1.0, warmup=10, decay="linear", hold=0.5)
    assert fit.rate(500) == 1.0 and fit.rate(750) == pytest.approx(0.5) and fit.rate(2000) == 0.0
    assert Fit(steps=10, lr=1.0, warmup=0, hold=1.0).rate(9) == 1.0
    assert Fit(steps=1, lr=1.0, warmup=0).rate(0) == 1.0
