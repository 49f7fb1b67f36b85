"""The flags of adapters: each changes the picture, is told of in the recipe, and draws the same bits again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from safelight.weights.save import save
from tests.adapters import made, nets
from tests.end_to_end.shell import PROMPT, Shell, wrong
from tests.generate.scenes import mask, picture
from tests.models import tiny
from tests.parity import ip_adapters

FLAGS = ("--lora", "--embedding", "--control", "--image-prompt", "--image-adapter", "--image-encoder")
WRONG = {
    "--lora none.safetensors": "unknown lora",
    "--lora style.safetensors:strong": "a number, such as 0.8, not 'strong'",
    "--lora style.safetensors:nan": "a number, such as 0.8, not 'nan'",
    "--lora style.safetensors:1:=0.5": "block=scale",
    "--lora style.safetensors:1:nowhere=0.5": "changes nothing in 'nowhere'",
    "--lora style.safetensors:1000": "it can be from -100 to 100",
    "--lora xl.safetensors": "nothing was changed",
    "--embedding none.safetensors": "unknown embedding",
    "--embedding word.safetensors=": "FILE[=WORD]",
    "--embedding word.safetensors=hat": "has the word 'hat' already",
    "--embedding word.safetensors --embedding word.safetensors": "has the word 'word' already",
    "--embedding style.safetensors": "a learned word has one",
    "--control net": "NET=IMAGE",
    "--control net=none.png": "no such file",
    "--control none=hint.png": "unknown controlnet",
    "--control net=hint.png:3": "strength lies between",
    "--control net=hint.png:1:0.5": "start-end",
    "--control net=hint.png:1:0.9-0.2": "later one",
    "--control net=hint.png:1:0-1:canny": "behind the steps",
    "--control net=hint.png:1::guess:guess": "each once",
    "--control net=hint.png:1::make=": "behind the steps",
    "--control net=hint.png:1::make=cany": "unknown way to make a hint 'cany'; the nearest known: canny",
    "--control net=hint.png:1::kind=depth": "without a kind",
    "--control t2i=hint.png:1::guess": "a T2I-Adapter has neither",
    "--control xlt2i=hint.png": "was made for Stable Diffusion XL",
    "--control net=wide.png": "of another shape",
    "--control xlnet=hint.png": "was made for",
    "--image-prompt hint.png": "belong together",
    "--image-adapter models/ip-adapter.safetensors": "belong together",
    "--image-encoder models": "belong together",
    "--image-prompt hint.png:x --image-adapter models/ip-adapter.safetensors": "a number",
    "--image-prompt hint.png --image-adapter style.safetensors": "style.safetensors",
    "--image-prompt hint.png --image-adapter models/ip-adapter.safetensors --image-encoder none": "none",
}
FILES = (
    *("--lora xl", "--embedding style", "--control net=none.png", "--control net=wide"),
    *("--image-adapter style", "--image-encoder none"),
)


@pytest.fixture
def desk(shell: Shell) -> Shell:
    """A folder with a LoRA, control networks, an IP-Adapter, and what they are shown."""
    made.write(made.kohya(made.model(), made.matrices(made.lora), "unet", "text_encoder"), Path("style.safetensors"))
    made.write(made.kohya(made.model("sdxl"), made.matrices(made.lora), "unet"), Path("xl.safetensors"))
    save({"emb_params": torch.randn(2, 16, generator=torch.Generator().manual_seed(0))}, "word.safetensors")
    ip_adapters.write(Path("."), ip_adapters.tensors("base", made.model().network))
    Path("net").symlink_to(nets.folder("sd1"), target_is_directory=True)
    Path("xlnet").symlink_to(nets.folder("sdxl"), target_is_directory=True)
    Path("t2i").symlink_to(nets.t2i_folder("sd1"), target_is_directory=True)
    Path("xlt2i").symlink_to(nets.t2i_folder("sdxl"), target_is_directory=True)
    Path("union").symlink_to(nets.folder("sdxl", union=True), target_is_directory=True)
    picture(seed=3).save("hint.png")
    picture(64, seed=4).resize((64, 32)).save("wide.png")
    return shell


PROMPTED = ("--image-prompt", "hint.png", "--image-adapter", "models/ip-adapter.safetensors")
CHANGES = {
    "lora": ("--lora", "style.safetensors"),
    "weaker": ("--lora", "style.safetensors:0.5"),
    "blocks": ("--lora", "style.safetensors:1:mid_block=0,down_blocks=0.5"),
    "control": ("--control", "net=hint.png"),
    "weak control": ("--control", "net=hint.png:0.5"),
    "half of the steps": ("--control", "net=hint.png:1:0-0.5"),
    "made": ("--control", "net=hint.png:1::make=canny"),
    "guess": ("--control", "net=hint.png:1::guess"),
    "t2i": ("--control", "t2i=hint.png:0.8:0-0.9"),
    "t2i, made": ("--control", "t2i=hint.png:0.8:0-0.9:make=invert"),
    "image prompt": PROMPTED,
    "weak image prompt": ("--image-prompt", "hint.png:0.5", *PROMPTED[2:]),
    "two images": (*PROMPTED, "--image-prompt", "wide.png"),
    "encoder": (*PROMPTED, "--image-encoder", "models/image_encoder"),
    "all": ("--lora", "style.safetensors", "--control", "net=hint.png", *PROMPTED, "--lora", "style.safetensors:0.3"),
}


def test_every_form_of_a_flag_changes_the_picture_and_is_drawn_again_to_the_last_bit(desk: Shell) -> None:
    seen = {}
    for name, words in {"plain": (), **CHANGES}.items():
        recipe = desk.drawn(*words, "-o", f"{name}.png")
        given = [word for word in words if word in ("--lora", "--control", "--image-adapter")]
        assert len(recipe.adapters) == len(given), name
        assert all(len(value) == 64 for each in recipe.adapters for value in each["files"].values())
        seen[name] = desk.pixels
        said = desk.run("reproduce", f"{name}.png", "-m", str(tiny()), *words)
        assert (said.code, said.out) == (0, "bit-equal\n"), (name, said)
    assert seen["encoder"] == seen["image prompt"]
    assert len(set(seen.values())) == len(seen) - 1


def test_adapters_work_over_pictures_with_masks_and_with_hires(desk: Shell) -> None:
    mask().save("mask.png")
    tasks = [("--image", "hint.png"), ("--image", "hint.png", "--mask", "mask.png"), ("--hires", "1.5")]
    for number, task in enumerate(tasks):
        desk.drawn(*task, "-o", f"plain-{number}.png")
        plain = desk.pixels
        for name in ("lora", "control", "image prompt"):
            desk.drawn(*task, *CHANGES[name], "-o", f"{name}-{number}.png")
            assert desk.pixels != plain, (task, name)


def test_a_union_network_is_told_the_kind_of_its_hint(desk: Shell) -> None:
    seen = []
    for kind in ("depth", "edges"):
        words = ("-m", str(tiny("sdxl")), "--control", f"union=hint.png:1::kind={kind}", "-o", f"{kind}.png")
        assert (said := desk.run("generate", PROMPT, "--steps", "2", "--seed", "3", *words)).code == 0, said.err
        seen.append(Path(f"{kind}.png").read_bytes())
    assert seen[0] != seen[1]
    lost = desk.run("generate", PROMPT, "-m", str(tiny("sdxl")), "--control", "union=hint.png", "-o", "x.png")
    assert lost.code == 2 and "told the kind of each hint" in lost.err


def test_a_map_of_depth_may_have_sixteen_bits(desk: Shell) -> None:
    Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32) * 60).save("depth.png")
    desk.drawn("-o", "plain.png")
    plain = desk.pixels
    desk.drawn("--control", "net=depth.png:1::make=depth", "-o", "deep.png")
    assert desk.pixels != plain
    assert "more than 8 bits" in wrong(desk.generate("--control", "net=depth.png"), 1)


def test_a_learned_word_is_read_in_prompts_and_drawn_again_to_the_last_bit(desk: Shell) -> None:
    text, again = "a word hat", ("reproduce", "x.png", "-m", str(tiny()), "--embedding", "word.safetensors")
    desk.drawn("-o", "plain.png", prompt=text)
    plain = desk.pixels
    recipe = desk.drawn("--embedding", "word.safetensors", "-o", "x.png", prompt=text)
    learned = desk.pixels
    assert learned != plain and [each["kind"] for each in recipe.adapters] == ["embedding"]
    assert desk.run(*again).out == "bit-equal\n"
    desk.drawn("--embedding", "word.safetensors=<w>", "-o", "y.png", prompt="a <w> hat")
    assert desk.pixels == learned
    desk.drawn("--embedding", "word.safetensors=<w>", "-o", "z.png", prompt=text)
    assert desk.pixels == plain


def test_a_lora_in_the_prompt_is_the_lora_of_the_flag_and_each_prompt_has_its_own(desk: Shell) -> None:
    flagged = desk.drawn("--lora", "style.safetensors:0.8", "-o", "flag.png")
    pixels = desk.pixels
    inside = desk.drawn("-o", "tag.png", prompt=f"{PROMPT} <lora:style.safetensors:0.8>")
    assert desk.pixels == pixels and inside == flagged and inside.prompt == PROMPT
    assert f"{PROMPT} <lora:style:0.8>" in inside.parameters()
    desk.drawn("-o", "plain.png")
    plain = desk.pixels
    Path("prompts.txt").write_text(f"{PROMPT}\n{PROMPT} <lora:style.safetensors:0.8>\n{PROMPT}\n")
    said = desk.generate("--prompt-file", "prompts.txt", "-o", "x.png", prompt=None)
    assert said.code == 0, said.err
    from safelight.generate.file import open_picture

    assert [open_picture(f"x-{n}.png").tobytes() for n in (1, 2, 3)] == [plain, pixels, plain]


def test_a_picture_says_which_adapters_it_lacks_or_has_too_many(desk: Shell) -> None:
    desk.drawn("--lora", "style.safetensors:0.8", "-o", "x.png")
    said = wrong(desk.run("reproduce", "x.png", "-m", str(tiny())), 1)
    assert "drawn with the lora style" in said and "same flag" in said
    desk.drawn("-o", "plain.png")
    extra = wrong(desk.run("reproduce", "plain.png", "-m", str(tiny()), "--lora", "style.safetensors"), 1)
    assert "drawn without the lora style" in extra
    other = desk.run("reproduce", "x.png", "-m", str(tiny()), "--lora", "style.safetensors:0.7")
    assert other.code == 1 and "scale of the lora style was 0.8, now 0.7" in other.out


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_is_said_at_once_and_leaves_nothing(words: str, desk: Shell) -> None:
    before = desk.names()
    said = desk.generate(*words.split())
    assert said.code == (1 if any(each in words for each in FILES) else 2), said
    assert WRONG[words] in said.err and "Traceback" not in said.err
    assert desk.names() == before


def test_a_lora_for_what_is_led_away_from_is_refused(desk: Shell) -> None:
    assert "not in the negative" in wrong(desk.generate("--negative", "<lora:style.safetensors>"))
