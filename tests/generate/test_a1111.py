"""A1111's text, there and back: whatever a prompt or a name holds."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from safelight.errors import ImageError
from safelight.generate.metadata import a1111
from safelight.generate.metadata.settings import A1111, LONGEST, SAFELIGHT, Settings

WORDS = [
    "a hat",
    "Steps: 3, Sampler: x",
    ", ",
    ": ",
    '"',
    "\\",
    "\n",
    "(a:1.2)",
    "ünï 帽子 🎩",
    "Negative prompt",
    "<lora:a:1>",
]
LETTERS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
PROMPTS = (
    st.lists(st.sampled_from(WORDS) | LETTERS, max_size=6)
    .map("".join)
    .filter(lambda text: not any(line.startswith(a1111.NEGATIVE) for line in text.split("\n")))
)
NAMES = st.none() | (st.sampled_from(WORDS) | LETTERS).filter(bool)
NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)
SETTINGS = st.builds(
    Settings,
    program=st.sampled_from([A1111, SAFELIGHT]),
    version=st.sampled_from(["", "v1.10.1"]),
    prompt=PROMPTS,
    negative=PROMPTS,
    steps=st.integers(1, 1000),
    sampler=st.sampled_from(["Euler a", "DPM++ 2M"]),
    schedule=st.none() | st.sampled_from(["Automatic", "Karras"]),
    guidance=st.none() | NUMBERS,
    seed=st.integers(-(2**63), 2**64 - 1),
    size=st.tuples(st.integers(1, 8192), st.integers(1, 8192)),
    model=NAMES,
    hash=st.none() | st.text("0123456789abcdef", min_size=10, max_size=10),
    strength=st.none() | NUMBERS,
    clip_skip=st.none() | st.integers(1, 12),
    ensd=st.none() | st.integers(-(2**31), 2**31),
    rng=st.none() | st.sampled_from(["CPU", "NV"]),
    variation=st.none() | st.tuples(st.integers(0, 2**64 - 1), NUMBERS),
    hires=st.just({})
    | st.fixed_dictionaries({"scale": NUMBERS, "steps": st.integers(0, 99), "upscaler": NAMES.filter(bool)}),
    other=st.dictionaries(st.sampled_from(["Lora hashes", "Face restoration", "TI"]), NAMES.filter(bool)),
)


@settings(max_examples=100, deadline=None)
@given(SETTINGS)
@example(
    Settings(
        A1111,
        prompt='a "b", c: d\nSteps: 3, Sampler: x, Seed: 4, Size: 1x1',
        steps=1,
        sampler="Euler",
        seed=2,
        size=(8, 8),
    )
)
@example(Settings(A1111, prompt="", negative="\n", steps=1, sampler="Euler", seed=2, size=(8, 8), model=' a\n"b": \\'))
@example(
    Settings(
        A1111, prompt="a\r", guidance=1 / 3, steps=1, sampler="Euler", seed=2**64 - 1, size=(8, 8), model="C:\\a\\"
    )
)
def test_what_is_written_is_read(told: Settings) -> None:
    assert a1111.read(a1111.write(told)) == told


def test_a_file_of_a1111_is_read_whole() -> None:
    read = a1111.read(
        "a hat, (red:1.2)\nby the sea\nNegative prompt: blurry,\nugly\n"
        "Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 3571, Size: 512x768, Model hash: 6ce0161689, "
        "Model: v1-5, Variation seed: 9, Variation seed strength: 0.25, Denoising strength: 0.6, Clip skip: 2, "
        'ENSD: 31337, RNG: NV, Hires upscale: 2, Hires upscaler: "R-ESRGAN, 4x", '
        'Lora hashes: "ink: 0123456789ab, x: ba", Version: v1.10.1'
    )
    assert read == Settings(
        program="A1111",
        version="v1.10.1",
        prompt="a hat, (red:1.2)\nby the sea",
        negative="blurry,\nugly",
        steps=20,
        sampler="DPM++ 2M Karras",
        guidance=7.0,
        seed=3571,
        size=(512, 768),
        model="v1-5",
        hash="6ce0161689",
        strength=0.6,
        clip_skip=2,
        ensd=31337,
        rng="NV",
        variation=(9, 0.25),
        hires={"scale": 2.0, "upscaler": "R-ESRGAN, 4x"},
        other={"Lora hashes": "ink: 0123456789ab, x: ba"},
    )


@pytest.mark.parametrize(
    ("last", "counts"), [("Steps: 3, Sampler: x", False), ("Steps: 3, Sampler: x, Seed: 4", True), ("no colons", False)]
)
def test_a_last_line_is_settings_from_three_pairs_on(last: str, counts: bool) -> None:
    read = a1111.read(f"a hat\n{last}")
    assert (read.prompt, read.steps) == (("a hat", 3) if counts else (f"a hat\n{last}", None))


def test_a_value_of_another_kind_stays_what_it_is() -> None:
    read = a1111.read("\nSteps: many, Seed: 1, Size: big, CFG scale: nan")
    assert (read.steps, read.seed, read.size, read.guidance) == (None, 1, None, None)
    assert read.other == {"Steps": "many", "Size": "big", "CFG scale": "nan"}


def test_a_value_is_quoted_only_where_it_would_confuse() -> None:
    plain = Settings(A1111, model="v1-5 pruned", steps=1, sampler="Euler a", guidance=7.0, seed=1)
    assert a1111.write(plain) == "\nSteps: 1, Sampler: Euler a, CFG scale: 7, Seed: 1, Model: v1-5 pruned"
    assert a1111.quoted('a "b", c: d\n') == '"a \\"b\\", c: d\\n"'


@pytest.mark.parametrize("unit", ["a", "a ", "a:", 'a:"', 'a:"\\', "a:,", "\n", "Negative prompt: \n", '"', ","])
def test_a_hostile_text_is_read_or_refused_at_once(unit: str) -> None:
    begun = time.perf_counter()
    a1111.read(unit * (2**16 // len(unit)))
    a1111.read(unit * (LONGEST // len(unit)))
    with pytest.raises(ImageError, match="more than 4194304 are not read"):
        a1111.read(unit * (LONGEST + 1))
    assert time.perf_counter() - begun < 2
