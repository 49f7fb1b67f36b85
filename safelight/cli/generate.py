"""``safelight generate``: draws pictures from a prompt, each with its recipe inside."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from safelight.cli import adapters, earlier, extras, output, passes, source, values
from safelight.cli.bar import Bar
from safelight.cli.earlier import Earlier
from safelight.cli.frames import Frames
from safelight.cli.output import Output
from safelight.errors import FileError, RequestError
from safelight.weights.folder import typed

if TYPE_CHECKING:
    from safelight.generate.pipe import Drawn, Pipe, Shown
    from safelight.generate.request import Request
    from safelight.generate.settle import Settled

DEFAULT = "figurines"
MOST_WORDS = 12


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``generate``."""
    what = parser.add_argument_group("what to draw").add_argument
    what("prompt", nargs="?", metavar="PROMPT", help="what to draw; '' is allowed")
    what("--from", dest="origin", metavar="FILE", help="repeat the settings in a picture, whichever program drew it")
    what("--prompt-file", metavar="FILE", help="one prompt a line, empty lines passed over; - for standard input")
    what("--negative", metavar="TEXT", help="what to lead away from")
    what("-m", "--model", metavar="MODEL", default=DEFAULT, help="name or folder; see 'safelight models'")
    what("--size", metavar="WxH", help="pixels; by default the model's own, or the image's")
    what("-n", "--count", type=int, metavar="N", default=1, help="pictures of each prompt, seeds counting upwards")
    what("--seed", metavar="N", help="of the first picture; -1 or random draws one (the default)")
    how = parser.add_argument_group("how to draw it").add_argument
    how("--steps", "--num-inference-steps", type=int, metavar="N", help="1 to 1000")
    how("--sampler", metavar="NAME", help="in the spelling of any program, such as euler_ancestral or 'DPM++ 2M'")
    how("--schedule", metavar="NAME", help="which noise levels are visited: karras, or 14.6,7.1,0.5,0")
    how("--option", metavar="NAME=VALUE", action="append", default=[], help="of the sampler, such as eta=0.5")
    how("--schedule-option", metavar="NAME=VALUE", action="append", default=[], help="of the schedule, such as rho=5")
    how("--guidance", metavar="S", help="1 follows the prompt alone, more exaggerates it; S,S,... one for each step")
    how("--guidance-interval", metavar="LOW,HIGH", help="noise above and up to which it guides, such as 0.3,5.4")
    how("--guidance-rule", metavar="RULE", action="append", default=[], help="apg, pag:scale=2 ...; may be repeated")
    how("--weak-model", metavar="MODEL", help="name or folder of a weaker model, for --guidance-rule autoguidance")
    how("--noise", metavar="KIND", help="path, fresh, or another program's: diffusers, comfyui, a1111-gpu ...")
    how("--ensd", type=int, metavar="N", help="A1111's eta noise seed delta, with its noise")
    how("--variation", metavar="SEED:X", help="mix in another seed's noise: 0 leaves this picture, 1 gives the other")
    how("--rescale", type=float, metavar="X", help="0 to 1, pulls the spread of guided predictions back")
    how("--fact", metavar="NAME=VALUE", action="append", default=[], help="XL is told: original=1024x768, crop=0,64")
    how("--refiner", metavar="MODEL", help="name or folder of a model that takes over near the end")
    how("--handover", type=float, metavar="X", help="where it does, 0 (pure noise) to 1 (never); 0.8 by default")
    how("--upscale-with", metavar="MODEL", help="then draw it twice as large with the x2 latent upscaler")
    how("--later-guidance", type=float, metavar="S", help="of that model; 1, its default, follows the prompt alone")
    how("--later-steps", type=int, metavar="N", help="of that model, or of Stable Cascade's decoder")
    how("--emphasis", metavar="NAME", help="what (a:1.2) means: a1111, comfyui, compel; none, the default: nothing")
    how("--clip-skip", type=int, metavar="N", help="text layer counted from the last, 1 is the last itself")
    over = parser.add_argument_group("over a picture").add_argument
    over("--image", metavar="FILE", help="start from this picture")
    over("--strength", type=float, metavar="X", help="how much of it is forgotten, 0 to 1; so many of the steps run")
    over("--invert", metavar="TEXT", help="what is on it; DDIM is run backwards from it instead of mixing noise in")
    over("--mask", metavar="FILE", help="of the image's size; white is repainted, black is kept")
    over("--depth", metavar="FILE", help="for models that are shown depth: bright is near, dark is far")
    over("--hires", type=float, metavar="SCALE", help="then draw it again, larger: above 1 to 8")
    over("--hires-strength", type=float, metavar="X", help="how much of the first pass is forgotten, 0.7 by default")
    over("--hires-steps", type=int, metavar="N", help="of the whole second schedule; by default as many as the first")
    over("--hires-upscaler", metavar="NAME", help="lanczos (the picture); nearest-exact, bilinear, bicubic (latents)")
    out = parser.add_argument_group("where it goes").add_argument
    out("-o", "--output", metavar="OUT", help=".png, .jpg or .webp (numbered for several), folder, or - for stdout")
    out("--quality", type=int, metavar="N", help="of a JPEG, 1 to 100; 95 by default")
    out("--force", action="store_true", help="replace files that exist")
    out("--json", action="store_true", help="print a line of JSON for each picture, and nothing else")
    out("--every-step", metavar="DIR|FILE.gif", help="keep the picture after every evaluation")
    out("--preview-vae", metavar="FOLDER", help="a tiny autoencoder (TAESD) that draws those pictures")
    adapters.arguments(parser)
    extras.arguments(parser)
    source.arguments(parser)
    machine = parser.add_argument_group("on what machine").add_argument
    machine("--device", metavar="D", help="cpu, cuda, cuda:1, mps, xpu; by default the best there is")
    machine("--dtype", metavar="T", help="float32, float16, bfloat16")
    machine("--threads", type=int, metavar="N", help="of one operation on a CPU; the last bits depend on it")
    machine("--width", type=int, metavar="N", help="rows of a call, 1 to 64: more draw -n faster")


def run(args: argparse.Namespace) -> int:
    """Draw; everything that can be wrong with the request or its files is found before the first step."""
    begun = time.perf_counter()
    asked_before = earlier.read(args)
    requests = asked(args, asked_before)
    place = output.plan(args.output, requests[0].seed, len(requests), args.force, args.quality, output.KINDS)
    if args.json and not place.paths:
        raise RequestError("--json and -o - both want standard output; give one")
    from safelight.generate.pipe import load  # takes seconds, so what can be wrong is wrong before

    beside = (args.weak_model, source.source(args), args.refiner, args.preview_vae)
    pipe = load(args.model, args.device, args.dtype, args.threads, *beside)
    if args.upscale_with:
        pipe = pipe.followed(load(args.upscale_with, args.device, args.dtype, args.threads))
    found = adapters.tagged(requests)
    worn = {each: adapters.worn("<lora>", each, args) for tags in found.tags for each in tags}
    adapters.dress(args, pipe)
    extras.dress(args, pipe)
    used = (*adapters.uses(args, pipe), *extras.uses(args))
    requests = [replace(each, adapters=used) for each in found.requests]
    if asked_before:
        requests = asked_before.fit(pipe, requests)
    settled = [pipe.settle(request) for request in requests]
    desk = Desk(place, settled, args.json, _frames(args, place, settled))
    strange(pipe, requests, [word for each in worn.values() for word in each.taught])
    weighted(pipe, requests)
    if not args.json:
        print(heading(pipe, settled), file=desk.voice, flush=True)
    _ = pipe.hashes  # a recipe names every file by its bytes; reading them is part of loading
    place.check(pipe.recipe(each) for each in settled)
    desk.seconds["load"] = time.perf_counter() - begun
    try:
        with Bar("drawing", total(settled)) as bar:
            for done, shown in enumerate(adapters.in_turn(pipe, requests, found.tags, worn), 1):
                bar.move(done)
                desk.take(shown, bar)
    except KeyboardInterrupt:
        print(f"safelight: {desk.kept} of {len(requests)} pictures were finished and are kept", file=sys.stderr)
        raise
    if not args.json:
        print("  ".join(f"{name} {seconds:.2f} s" for name, seconds in desk.seconds.items()), file=desk.voice)
    return 0


class Desk:
    """Where finished pictures are put down and told of.

    Args:
        place: where they go. settled: what each of them is.
        json: tell in JSON. frames: where the steps go, if anywhere.
    """

    def __init__(self, place: Output, settled: Sequence[Settled], json: bool, frames: Frames | None) -> None:
        self.place, self.settled, self.json, self.frames = place, settled, json, frames
        self.voice = sys.stdout if json or place.paths else sys.stderr
        self.seconds = {"load": 0.0, "encode": 0.0, "denoise": 0.0, "decode": 0.0}
        self.kept, self.cut = 0, set[str]()

    def take(self, shown: Shown, bar: Bar) -> None:
        """One evaluation, and the picture where it was the last."""
        if self.frames:
            self.frames.add(shown)
        if shown.drawn is None:
            return
        drawn, index = shown.drawn, shown.picture
        self.place.put(index, self.place.bytes_of(drawn.image, drawn.recipe))
        self.kept += 1
        for name, seconds in drawn.seconds.items():
            self.seconds[name] += seconds
        for cut in drawn.cut:
            if cut not in self.cut:
                self.cut.add(cut)
                more = drawn.recipe.emphasis == "none" and "a1111" in shown.pipe.model.emphases
                on = " (--emphasis a1111 reads on)" if more else ""
                bar.say(f"safelight: the prompt is too long for the text encoder{on}; this was cut off: {cut!r}")
        bar.say(self.line(index, drawn, shown.index), self.voice)

    def line(self, index: int, drawn: Drawn, evaluations: int) -> str:
        """What is told of a finished picture, which took so many evaluations."""
        name = self.place.name(index)
        if not self.json:
            return f"{name}  seed {drawn.recipe.seed}"
        told = {
            "file": name,
            "seed": drawn.recipe.seed,
            "steps_run": sum(len(each.levels) - 1 for each in self.settled[index].passes),
            "evaluations": evaluations,
            "cut": drawn.cut,
            "seconds": {"load": self.seconds["load"], **drawn.seconds},
            "recipe": json.loads(drawn.recipe.json()),
        }
        return json.dumps(told)  # ASCII, which every terminal and pipe takes


def total(settled: Sequence[Settled]) -> int | None:
    """Evaluations of all of them; None where one sampler finds out on its way."""
    counts = [each.evaluations for each in settled]
    return None if None in counts else sum(count for count in counts if count is not None)


def heading(pipe: Pipe, settled: Sequence[Settled]) -> str:
    """What is about to be drawn, in one line."""
    first = settled[0]
    seeds = sorted({each.request.seed for each in settled})
    run, steps = len(first.levels) - 1, first.request.steps
    count = "as many evaluations as it takes" if first.evaluations is None else f"{first.evaluations} evaluations"
    strength = first.request.strength
    begun = f"first {first.laid['first']:g}" if strength is None else f"strength {strength:g}"
    words = [
        pipe.name,
        " to ".join(dict.fromkeys(f"{each.size[0]}x{each.size[1]}" for each in first.passes if not each.inverts)),
        f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}",
        (f"{run} steps" if run == steps else f"{run} of {steps} steps ({begun})")
        + (" after an inversion" if first.before else ""),
        f"{first.sampler.sampler.name} ({count})",
        guided(first),
        str(pipe.place),
    ]
    return ", ".join(words)


def guided(settled: Settled) -> str:
    """What guides, in a few words."""
    scale = settled.guidance
    words = f"{scale[0]:g} to {scale[-1]:g}" if isinstance(scale, tuple) else f"{scale:g}"
    return " + ".join([f"guidance {words}", *(rule.name for rule in settled.request.rules)])


def strange(pipe: Pipe, requests: Sequence[Request], taught: Sequence[str]) -> None:
    """Name the words that the model was never taught, by itself or by what it wears, with prompts that work.

    Args:
        taught: what it is taught by adapters that are put on for single prompts.
    """
    from safelight.encoders.shares import spoken
    from safelight.generate.settle import STEPS
    from safelight.generate.vocabulary import PROMPTS, unknown

    texts = (
        said
        for each in requests
        for text in (each.prompt, each.negative, each.invert or "")
        for said in spoken(text, each.emphasis, each.steps or STEPS)
    )
    words = unknown(pipe.folder, dict.fromkeys(texts), (*pipe.wardrobe.taught, *taught))
    if words:
        named = ", ".join(repr(word) for word in words[:MOST_WORDS]) + (", ..." if len(words) > MOST_WORDS else "")
        works = ", ".join(f'"{prompt}"' for prompt in PROMPTS)
        print(f"safelight: {pipe.name} does not know {named}; prompts that work: {works}", file=sys.stderr)


def weighted(pipe: Pipe, requests: Sequence[Request]) -> None:
    """Say once that a prompt seems to give weights that nothing reads."""
    from safelight.encoders.prompt import hint

    texts = dict.fromkeys(text for each in requests if each.emphasis == "none" for text in (each.prompt, each.negative))
    if name := next((name for name in map(hint, texts) if name in pipe.model.emphases), ""):
        print(f"safelight: the prompt seems to give weights or steps; --emphasis {name} reads them", file=sys.stderr)


def asked(args: argparse.Namespace, before: Earlier | None = None) -> list[Request]:
    """The requests that the flags mean: for every prompt one per picture.

    Args:
        before: a picture whose settings stand where the flags say nothing.

    Raises:
        RequestError: a flag that is none, or two that contradict each other. FileError, ImageError: a file that cannot
            be read.
    """
    from safelight.generate.request import Request

    prompts = [] if before and args.prompt is args.prompt_file is None else _prompts(args.prompt, args.prompt_file)
    if args.clip_skip is not None and args.clip_skip < 1:
        raise RequestError(f"--clip-skip counts layers from the last, 1 and up, not {args.clip_skip}")
    if args.width is not None and args.width < 1:
        raise RequestError(f"--width is the rows of a call, 1 to 64, not {args.width}")
    if args.preview_vae and args.every_step is None:
        raise RequestError("--preview-vae draws the pictures of --every-step; give both or neither")
    if args.handover is not None and args.refiner is None:
        raise RequestError("--handover needs a --refiner that takes over")
    if args.image is None and not args.mask is args.strength is args.invert is None:
        raise RequestError("--strength, --invert and --mask need an --image to start from")
    given = {name: value for name, value in _given(args).items() if value is not None and value not in ((), {})}
    fields = before.under(given) if before else given
    fields.setdefault("seed", values.seed("random"))
    if args.refiner:
        fields.setdefault("handover", 0.8)
    if args.weak_model and not any(rule.name == "autoguidance" for rule in fields.get("rules", ())):
        raise RequestError("--weak-model is asked by --guidance-rule autoguidance only; give both or neither")
    first = Request(**fields)
    return [each for prompt in prompts or [first.prompt] for each in replace(first, prompt=prompt).series(args.count)]


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags say, by the fields of a request; None and empty for those that are not given."""
    from safelight.generate.file import open_picture
    from safelight.generate.guiding import read

    return {
        "negative": args.negative,
        "steps": args.steps,
        "sampler": args.sampler,
        "schedule": args.schedule,
        "options": dict(values.option("--option", text) for text in args.option),
        "schedule_options": dict(values.option("--schedule-option", text) for text in args.schedule_option),
        "guidance": None if args.guidance is None else values.numbers("--guidance", args.guidance, 0),
        "interval": None if args.guidance_interval is None else values.interval(args.guidance_interval),
        "rules": tuple(read(text) for text in args.guidance_rule),
        "rescale": args.rescale,
        "seed": None if args.seed is None else values.seed(args.seed),
        "noise": args.noise,
        "ensd": args.ensd,
        "variation": None if args.variation is None else values.variation(args.variation),
        "size": values.size(args.size),
        "image": None if args.image is None else open_picture(args.image),
        "strength": args.strength,
        "invert": args.invert,
        "mask": None if args.mask is None else open_picture(args.mask),
        "depth": None if args.depth is None else open_picture(args.depth, deep=True),
        "later": args.later_steps,
        "later_guidance": args.later_guidance,
        "hires": passes.hires(args),
        "facts": dict(passes.fact(text) for text in args.fact),
        "handover": args.handover,
        "skip": None if args.clip_skip is None else args.clip_skip - 1,
        "emphasis": args.emphasis,
        "rows": args.width,
    }


def _prompts(prompt: str | None, file: str | None) -> list[str]:
    if (prompt is None) == (file is None):
        raise RequestError("give one prompt, such as 'a person with green hair', or --prompt-file")
    if file is None:
        return [prompt or ""]
    try:
        text = sys.stdin.buffer.read() if file == output.STDOUT else typed(file).read_bytes()
        lines = [line.strip() for line in text.decode("utf-8").splitlines()]
    except OSError as error:
        raise FileError(f"{file}: cannot be read ({error.strerror or error}); name a file of prompts") from None
    except UnicodeDecodeError:
        raise FileError(f"{file}: is not text in UTF-8; write one prompt a line") from None
    if not any(lines):
        raise FileError(f"{file}: holds no prompts; write one a line")
    return [line for line in lines if line]


def _frames(args: argparse.Namespace, place: Output, settled: Sequence[Settled]) -> Frames | None:
    if args.every_step is None:
        return None
    stems = [path.stem for path in place.paths] or [f"safelight-{settled[0].request.seed}"]
    return Frames(args.every_step, stems, [each.evaluations for each in settled], args.force)
