"""What a recipe says of a picture: the pipe's models and adapters, and all that was settled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safelight.adapters.picture import source
from safelight.generate.chain import SHOWN
from safelight.generate.facts import plain
from safelight.generate.hires import UPSCALERS
from safelight.generate.recipe import Recipe, finite
from safelight.generate.settle import Settled
from safelight.weights.notes import notes

if TYPE_CHECKING:
    from safelight.generate.pipe import Pipe


def written(pipe: Pipe, settled: Settled) -> Recipe:
    """All that a picture will be drawn from."""
    request = settled.request
    return Recipe(
        model=named(pipe),
        task=settled.task,
        prompt=request.prompt,
        negative=request.negative,
        seed=request.seed,
        noise=settled.noise,
        ensd=request.ensd,
        variation=request.variation,
        steps=request.steps or len(settled.levels) - 1,
        sampler=settled.sampler.sampler.name,
        options=dict(settled.sampler.options),
        schedule=settled.schedule,
        schedule_options=dict(settled.laid),
        levels=[list(level) for level in settled.levels],
        guidance=list(settled.guidance) if isinstance(settled.guidance, tuple) else settled.guidance,
        interval=None if request.interval is None else [finite(end) for end in request.interval],
        rules=[rule.told() for rule in request.rules],
        weak=weak(pipe, settled),
        rescale=request.rescale,
        size=settled.size,
        skip=request.skip,
        emphasis=request.emphasis,
        adapters=[dict(worn.told()) for worn in pipe.wardrobe.worn] + [dict(use.told()) for use in request.adapters],
        rows=settled.rows,
        device=pipe.place.device.type,
        dtype=str(pipe.place.dtype).removeprefix("torch."),
        threads=pipe.place.threads,
        strength=request.strength,
        invert=request.invert,
        image=source(request.image),
        mask=source(request.mask),
        depth=source(request.depth),
        hires=enlarged(settled),
        facts={name: [*numbers] for name, numbers in plain(request.facts).items()},
        refiner=refiner(pipe, settled),
        upscaler=None if pipe.upscaler is None else named(pipe.upscaler),
        **later(settled),
        camera=notes(pipe.folder).get("camera"),
    )


def named(pipe: Pipe) -> dict[str, Any]:
    """What a recipe says of a model."""
    return {"name": pipe.name, "family": pipe.model.family, "files": pipe.hashes}


def weak(pipe: Pipe, settled: Settled) -> dict[str, Any] | None:
    """What a recipe says of the weaker model, where it was asked."""
    if pipe.weak is None or not any(rule.name == "autoguidance" for rule in settled.request.rules):
        return None
    return named(pipe.weak)


def refiner(pipe: Pipe, settled: Settled) -> dict[str, Any] | None:
    """What a recipe says of the model that took over."""
    if pipe.refiner is None or settled.request.handover is None or settled.then is None:
        return None
    return {**named(pipe.refiner), "handover": settled.request.handover, "run": len(settled.then.levels) - 1}


def later(settled: Settled) -> dict[str, Any]:
    """What a recipe says of the pass of a model that draws on."""
    for each in settled.passes:
        if each.begin == SHOWN:
            return {"later": each.request.steps, "later_guidance": each.guidance}
    return {}


def enlarged(settled: Settled) -> dict[str, Any] | None:
    """What a recipe says of the second pass of hires."""
    hires = settled.request.hires
    if hires is None:
        return None
    second = next(each for each in settled.passes if each.begin in UPSCALERS)
    told = {"steps": second.request.steps, "run": len(second.levels) - 1, "size": list(second.size)}
    return {"scale": hires.scale, "strength": hires.strength, "upscaler": hires.upscaler, **told}
