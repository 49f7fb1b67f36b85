"""What a picture says of how it was drawn, as a request: what can be repeated, and a line for each thing that cannot.

A file never chooses what is opened: the model, pictures and adapters are named by whoever asks, and the lines say which
ones there were.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from safelight.core import names
from safelight.core.names import Pair
from safelight.core.samplers.table import SAMPLERS
from safelight.errors import ImageError, RequestError, UnknownNameError
from safelight.generate.hires import PICTURE, STRENGTH, UPSCALERS, Hires
from safelight.generate.metadata import dialect
from safelight.generate.metadata.carrier import RECIPE, texts
from safelight.generate.metadata.settings import A1111, COMFYUI, INVOKEAI, SAFELIGHT, SD_CPP, Settings
from safelight.generate.recipe import Recipe

if TYPE_CHECKING:
    from safelight.generate.request import Request
    from safelight.generate.settle import Settled

PROGRAMS = {A1111: "a1111", COMFYUI: "comfyui", SD_CPP: "sd_cpp"}
INVOKE = {
    "deis": "deis_log",
    "dpmpp_2s": "dpm_singlestep",
    "euler_a": "euler_ancestral",
    "kdpm_2": "dpm_2",
    "kdpm_2_a": "dpm_2_ancestral",
    "lcm": "lcm_boundary",
    "pndm": "plms",
    "unipc": "UniPCMultistepScheduler",
}
"""InvokeAI's names of samplers that are not ours; they are classes of diffusers there."""
EMPHASIS = {A1111: ("a1111", "([<"), SD_CPP: ("a1111", "(["), COMFYUI: ("comfyui", "("), INVOKEAI: ("compel", "(+-")}
"""How a program reads weights in a prompt, and the signs that there are then."""
CHUNK = 200
"""Letters up to which no prompt fills a chunk, whose borders depend on the program too."""
NOISE = {
    (A1111, "NV"): "a1111-gpu",
    (A1111, "GPU"): "a1111-gpu",
    (A1111, "CPU"): "a1111",
    (SD_CPP, "cuda"): "a1111-gpu",
    (SD_CPP, "cpu"): "comfyui",
}
"""Who draws for a seed: A1111's own names, and stable-diffusion.cpp's, which its documentation explains by theirs."""
LORA = re.compile(r"<(?:lora|lyco):([^:<>]{1,200})(?::([^<>]{0,40}))?>")
DRAGS = {"sampler": ("options",), "schedule": ("schedule_options",), "noise": ("ensd",), "guidance": ("interval",)}
"""What of a file means nothing without another thing of it."""
HASH = 10
"""Hex digits of a hash that says something; older files have 8, of another sum."""
SOFT = (
    *(("noise", "ensd"), ("variation",), ("emphasis",), ("skip",), ("schedule", "schedule_options"), ("facts",)),
    *(("later",), ("rules", "interval"), ("rescale",), ("hires",), ("size",)),
)
"""What is given up, in this order, where a model cannot do it."""


@dataclass(frozen=True)
class Repeat:
    """What a picture asks for.

    Attributes:
        program: who drew it.
        fields: of a Request, by name.
        left: what cannot be repeated: the field that would say otherwise ("" for none), and a line.
        model, hash: what it was drawn with: a name, and the first digits of its SHA-256.
        files: of our own recipe: file -> SHA-256.
    """

    program: str
    fields: Mapping[str, Any]
    left: Sequence[tuple[str, str]] = ()
    model: str | None = None
    hash: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    def under(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The fields of a request, those given before those of the picture, and what is left out for what reason."""
        dropped = {each for name in given for each in DRAGS.get(name, ())}
        if "sampler" in given and self.fields.get("noise") in ("path", "fresh"):
            dropped.add("noise")  # whether there is any to draw, the new one decides
        if "sampler" in given and schedule_of(given["sampler"]):
            dropped |= {"schedule", "schedule_options"}
        merged = {**{name: value for name, value in self.fields.items() if name not in dropped}, **given}
        lines = [line for name, line in self.left if not name or name not in given]
        if merged.get("guidance") in (1, (1,)) and "negative" not in given and merged.pop("negative", ""):
            lines.append("the negative prompt, which guidance 1 does not ask")
        return merged, lines


def schedule_of(sampler: str) -> str | None:
    """The schedule that a sampler's name holds, if it is known."""
    try:
        return names.understood(sampler).schedule
    except RequestError:
        return None


def repeat(picture: Image, given: Collection[str] = ()) -> Repeat:
    """What a picture asks for.

    Args:
        given: what the user brings: of "image", "mask", "depth", "weak", "refiner", "upscaler".

    Raises:
        ImageError: it says nothing of how it was drawn, or is damaged.
    """
    found = texts(picture)
    if RECIPE in found:
        return of_recipe(Recipe.from_json(found[RECIPE]), given)
    settings = dialect.read(found)
    if settings is None:
        raise ImageError(
            "the picture does not say how it was drawn; name one with a recipe, or with settings of A1111,"
            " ComfyUI, InvokeAI or stable-diffusion.cpp"
        )
    return of_settings(settings, given)


def of_recipe(recipe: Recipe, given: Collection[str] = ()) -> Repeat:
    """What one of our own recipes asks for; see `repeat`."""
    from safelight.generate.reproduce import request_of  # it draws too, and needs torch

    left = []
    for name, record in (("image", recipe.image), ("mask", recipe.mask), ("depth", recipe.depth)):
        if record and name not in given:
            left.append((name, f"the {name} {record.get('file') or 'of no name'}; give it with --{name}"))
    told = replace(recipe, image=None, mask=None, depth=None, strength=None, invert=None)
    if recipe.weak and "weak" not in given:
        left.append(("rules", f"the weaker model {recipe.weak.get('name')}; give it with --weak-model"))
        told = replace(told, rules=[rule for rule in recipe.rules if rule["name"] != "autoguidance"])
    if recipe.refiner and "refiner" not in given:
        left.append(("handover", f"the refiner {recipe.refiner.get('name')}; give it with --refiner"))
        told = replace(told, refiner=None)
    if recipe.upscaler and "upscaler" not in given:
        left.append(("later", f"the upscaler {recipe.upscaler.get('name')}; give it with --upscale-with"))
        told = replace(told, later=None, later_guidance=None)
    request = request_of(told)
    over = {"strength": recipe.strength, "invert": recipe.invert} if "image" in given else {}
    fields = {name: value for name, value in (vars(request) | over).items() if value not in (None, (), {})}
    return Repeat(SAFELIGHT, fields, left, recipe.model.get("name"), files={**recipe.model.get("files", {})})


def of_settings(settings: Settings, given: Collection[str] = ()) -> Repeat:
    """What the settings of another program ask for; see `repeat`."""
    prompt, loras = settings.prompt, list(settings.loras)
    if settings.program in (A1111, SD_CPP):
        loras += [(name, float(weight) if _is_number(weight) else 1.0) for name, weight in LORA.findall(prompt)]
        prompt = LORA.sub("", prompt)
    left = [("", f"LoRA {name!r} at {weight:g}, which this command does not load") for name, weight in loras]
    left += [("", f"{words} was not followed") for words in settings.unread]
    pair, more = _pair(settings)
    left += more
    signs, used = EMPHASIS.get(settings.program, ("none", ""))
    both = prompt + settings.negative
    fields: dict[str, Any] = {
        "prompt": prompt,
        "negative": settings.negative or None,
        "steps": settings.steps,
        "sampler": pair.sampler or None,
        "schedule": pair.schedule,
        "options": dict(pair.options),
        "schedule_options": dict(pair.laid),
        "guidance": settings.guidance,
        "rescale": settings.rescale,
        "seed": settings.seed,
        "size": settings.size,
        "skip": settings.clip_skip - 1 if settings.clip_skip and settings.clip_skip > 1 else None,
        "variation": settings.variation if settings.variation and settings.variation[1] else None,
        "emphasis": signs if set(used) & set(both) or (used and len(both) > CHUNK) else None,
    }
    for part, lines in (_over(settings, given), _second(settings), _noise(settings, pair)):
        fields |= part
        left += lines
    asked = {name: value for name, value in fields.items() if value not in (None, {})}
    return Repeat(settings.program, asked, left, settings.model, settings.hash)


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"-?\d{0,6}\.?\d{1,9}", text))


def _pair(settings: Settings) -> tuple[Pair, list[tuple[str, str]]]:
    """The sampler on its schedule, the first an empty name for the model's own, and what of them is not known."""
    sampler, grid = settings.sampler, settings.schedule
    if settings.program == INVOKEAI and sampler:
        sampler = INVOKE.get(sampler, sampler)
        sampler = f"{sampler}()" if sampler.endswith("Scheduler") else sampler
    left, own = [], "the model's own is taken"
    named = Pair("")
    try:
        if sampler:
            named = _named(settings.program, sampler, "")
    except RequestError as error:
        left.append(("sampler", f"{_first(error, settings.sampler)}; {own}"))
    if grid == "Automatic" and settings.program == A1111 and not named.schedule:
        left.append(("schedule", f"the schedule, which A1111 chose by itself; {own}"))
    try:
        if grid and not named.schedule:
            whole = _named(settings.program, sampler if sampler and named.sampler else "euler", grid)
            named = replace(named, schedule=whole.schedule, laid=whole.laid)
    except RequestError as error:
        left.append(("schedule", f"{_first(error, grid)}; {own}"))
    return named, left


def _named(program: str, sampler: str, grid: str) -> Pair:
    """A pair in a program's own words, or in anybody's."""
    try:
        if program in PROGRAMS:
            return names.read(PROGRAMS[program], sampler, grid)
    except UnknownNameError:
        pass
    return names.understood(sampler, grid or None)


def _first(error: RequestError, name: str | None) -> str:
    """What an error says, with the name as it stands in the file."""
    return str(error) if repr(name) in str(error) else f"{name!r}: {error}"


def _over(settings: Settings, given: Collection[str]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The picture that it was drawn over, and its strength."""
    strength, steps = settings.strength, settings.steps
    if strength is None or settings.hires:
        return {}, []
    if settings.program == COMFYUI and settings.image is None:
        return {}, [("strength", f"denoise {strength:g} of an empty picture; drawn whole")]
    if "image" not in given:
        over = settings.image or "a picture"
        return {}, [("image", f"{over}, over which it was drawn at strength {strength:g}; give it with --image")]
    if settings.program == COMFYUI and steps and 0 < strength <= 1:
        return dict(zip(("steps", "strength"), counted(steps, strength))), []
    return {"strength": strength}, []


def counted(run: int, strength: float) -> tuple[int, float]:
    """The steps of a whole schedule of which the share ``strength`` is ``run``, and the share that has so many.

    ComfyUI lays int(run / strength) steps and runs the last of them.
    """
    steps = max(run, int(run / strength + 1e-9))
    share = run / steps
    return steps, share if int(steps * share) == run else share + 1e-9


def _second(settings: Settings) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The second pass of A1111's hires fix."""
    told, left = settings.hires, list[tuple[str, str]]()
    if not told:
        return {}, left
    strength = STRENGTH if settings.strength is None else settings.strength
    found = {words.lower(): name for name, words in UPSCALERS.items()}
    upscaler = found.get(str(told.get("upscaler", "")).lower())
    if upscaler is None:
        left.append(("hires", f"the upscaler {told.get('upscaler')!r}; enlarged by {PICTURE}"))
    if told.get("scale") is None:
        return {}, [("hires", "a second pass of unknown size; give --hires")]
    steps = counted(told["steps"], strength)[0] if told.get("steps") and 0 < strength <= 1 else None
    try:
        return {"hires": Hires(told["scale"], strength, steps, upscaler or PICTURE)}, left
    except RequestError as error:
        return {}, [("hires", f"the second pass: {error}")]


def _noise(settings: Settings, pair: Pair) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Who drew for the seed."""
    program, rng = settings.program, settings.rng
    if program == COMFYUI:
        row = SAMPLERS.get(pair.sampler)
        line = ("noise", "where the noise of the steps was drawn: taken for a card; a processor's is --noise comfyui")
        return {"noise": "comfyui-gpu"}, [line] if row and row.stochastic else []
    kind = NOISE.get((program, (rng or "GPU") if program == A1111 else str(rng)))
    if kind:
        ensd = settings.ensd if program == A1111 else None
        return {"noise": kind, "ensd": ensd or None}, []
    if program == SAFELIGHT and rng != "NV":
        return {}, []
    return {}, [("noise", f"the noise that {program} draws for a seed; our own is another")]


def other_model(asked: Repeat, name: str, hashes: Mapping[str, str], here: Collection[str]) -> str | None:
    """A line where a picture was drawn with another model, as far as it says.

    Args:
        name, hashes: of the model that draws now. here: names of models that could.
    """
    if not (asked.model or asked.hash):
        return None
    every, short = set(hashes.values()), (asked.hash or "").lower()
    if asked.files and set(asked.files.values()) <= every:
        return None
    if len(short) >= HASH and any(each.startswith(short) for each in every):
        return None
    if not (asked.files or short) and PurePosixPath(str(asked.model).replace("\\", "/")).stem == name:
        return None
    told = f"{asked.model or 'of no name'}" + (f" ({short})" if short else "")
    hint = f"; -m {asked.model} is here" if asked.model in here and asked.model != name else ""
    return f"the model {told}; drawn with {name}{hint}"


def easier(
    settle: Callable[[Request], Settled], request: Request, soft: Collection[str]
) -> Iterator[tuple[dict[str, Any], str]]:
    """Give up what a model cannot do, one thing after the other.

    Args:
        settle: raises RequestError for what the model cannot do.
        soft: fields that come from a file; the others stay.

    Yields:
        Fields at their defaults, and why: they replace those of the request.

    Raises:
        RequestError: it is for another reason.
    """
    plain = {name: value for name, value in _defaults().items() if name in soft}
    while True:
        try:
            settle(request)
            return
        except RequestError as error:
            reason = error
        for group in SOFT:
            reset = {name: plain[name] for name in group if name in plain and getattr(request, name) != plain[name]}
            if reset and _helps(settle, replace(request, **reset), reason):
                yield reset, f"{group[0]}: {reason}"
                request = replace(request, **reset)
                break
        else:
            raise reason


def _helps(settle: Callable[[Request], Settled], request: Request, reason: RequestError) -> bool:
    """Whether a request is settled now, or fails for another reason."""
    try:
        settle(request)
    except RequestError as error:
        return str(error) != str(reason)
    return True


def _defaults() -> dict[str, Any]:
    from safelight.generate.request import Request

    return vars(Request())
