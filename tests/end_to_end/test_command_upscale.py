"""``safelight generate``: models that draw on from what another drew, and an upscaler alone over a picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from safelight.generate.pipe import load
from safelight.generate.request import Request
from tests.cascade import EDGE, tiny_cascade
from tests.end_to_end.shell import Shell, wrong
from tests.models import tiny
from tests.upscaler import tiny_upscaler

X2 = str(tiny_upscaler())
WRONG: dict[str, dict[str, str]] = {
    "--upscale-with": {"figurine5": "unknown model", str(tiny("sd1")): "must enlarge latents"},
    "--later-guidance": {"4": "no model draws on", f"nan --upscale-with {X2}": "finite number"},
    "--later-steps": {"4": "no model draws on", f"0 --upscale-with {X2}": "between 1 and 1000, not 0"},
}


CASES = [(flag, value) for flag, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("flag", "value"), CASES, ids=range(len(CASES)))  # values hold folders that are new each time
def test_a_value_that_cannot_be_is_one_line_and_leaves_nothing(flag: str, value: str, shell: Shell) -> None:
    assert WRONG[flag][value] in wrong(shell.generate(flag, *value.split()), 2)
    assert shell.names() == []


def test_what_was_drawn_is_drawn_larger_and_again(shell: Shell) -> None:
    shell.drawn("-o", "plain.png")
    seen = {shell.pixels}
    for steps in ("2", "3"):
        recipe = shell.drawn("--upscale-with", X2, "--later-steps", steps, "-o", f"{steps}.png")
        seen.add(shell.pixels)
        assert (recipe.later, (recipe.upscaler or {})["family"]) == (int(steps), "sd-x2")
        assert Image.open(f"{steps}.png").size == (64, 64)
    assert len(seen) == 3
    again = ("reproduce", "2.png", "-m", str(tiny("sd1")))
    assert "with --upscale-with" in wrong(shell.run(*again), 2)
    assert shell.run(*again, "--upscale-with", X2).out.startswith("bit-equal")
    assert "drawn without --upscale-with" in wrong(shell.run("reproduce", "plain.png", "--upscale-with", X2), 2)


def test_an_upscaler_draws_alone_over_a_picture(shell: Shell) -> None:
    Image.linear_gradient("L").resize((32, 32)).save("small.png")
    recipe = shell.drawn("--image", "small.png", "-o", "large.png", model=tiny_upscaler())
    assert (recipe.task, Image.open("large.png").size) == ("upscale", (64, 64))
    assert "an image to enlarge" in wrong(shell.generate(model=tiny_upscaler()))


def test_cascade_draws_from_text_and_obeys_the_steps_of_its_decoder(shell: Shell) -> None:
    size = ("--size", f"{EDGE}x{EDGE}")
    recipe = shell.drawn(*size, "-o", "usual.png", model=tiny_cascade())
    seen = {shell.pixels}
    assert (recipe.later, recipe.upscaler, Image.open("usual.png").size) == (10, None, (EDGE, EDGE))
    shell.drawn(*size, "--later-steps", "2", "-o", "few.png", model=tiny_cascade())
    assert shell.pixels not in seen
    assert shell.run("reproduce", "few.png", "-m", str(tiny_cascade())).out.startswith("bit-equal")
    shell.drawn(*size, "--later-steps", "2", "--later-guidance", "4", "-o", "led.png", model=tiny_cascade())
    led = shell.pixels
    words = ("--later-steps", "2", "--later-guidance", "4", "--negative", "a red hat")
    recipe = shell.drawn(*size, *words, "-o", "away.png", model=tiny_cascade())
    assert len({led, shell.pixels, *seen}) == 3
    assert recipe.later_guidance == 4.0
    assert shell.run("reproduce", "away.png", "-m", str(tiny_cascade())).out.startswith("bit-equal")
    assert "does not do the task 'image'" in wrong(shell.generate(*size, "--image", "few.png", model=tiny_cascade()))


def test_the_chain_is_the_upscaler_over_the_same_latents() -> None:
    base, larger = (load(str(folder), device="cpu", threads=1) for folder in (tiny("sd1"), tiny_upscaler()))
    request = Request("a person with green hair", seed=3, later=2)
    chained = base.followed(larger)
    steps = list(chained(request))
    drawn = steps[-1].drawn
    assert drawn is not None
    assert drawn.latents.shape == (1, 4, 16, 16)
    assert len(steps) == steps[0].total
    small = base.draw(Request(request.prompt, seed=3))[0].latents
    assert any((step.latents == small).all() for step in steps if step.latents.shape == small.shape)
    many = chained.draw_many([request, Request("a crown", seed=4, later=2)])
    assert many[0].image.tobytes() == drawn.image.tobytes(), "strangers do not matter"
    assert Path(drawn.recipe.upscaler["name"]).name == "x2"  # type: ignore[index]
