"""``safelight train lora`` and its kin: the preview is what ``safelight generate`` draws."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from safelight.generate.file import open_picture
from safelight.train.loop import Trainer
from safelight.weights.safetensors import read_header
from tests.end_to_end.shell import Shell, wrong
from tests.models import tiny
from tests.train.album import FIT, OWN, write_pictures

PROMPT = "a person <mira> with green hair"
DRAWN = (f"preview.prompts=['{PROMPT}']", "preview.steps=2", "preview.guidance=3.0", "preview.seed=5")


def _words(what: str, *changes: str) -> list[str]:
    changes = (*(f"fit.{change}" for change in FIT), *OWN[what], *changes)
    return ["train", what, "-m", str(tiny()), "--data", "pictures", "--run", "moss", "--device", "cpu",
            *(word for change in changes for word in ("--set", change))]  # fmt: skip


USED = {
    "lora": ("--lora", "moss/moss-000002.safetensors"),
    "controlnet": ("--control", "moss/moss-000002=pictures/control/0.png"),
    "textual-inversion": ("--embedding", "moss/moss-000002.safetensors"),
    "ip-adapter": ("--image-adapter", "moss/moss-000002/moss-000002.safetensors", "--image-prompt", "pictures/0.png"),
}


@pytest.mark.parametrize("what", USED)
def test_the_preview_is_what_generate_draws_with_the_exported_file_bit_for_bit(what: str, shell: Shell) -> None:
    write_pictures(Path("pictures"))
    said = shell.run(*_words(what, *DRAWN, "fit.sample_every=2"))
    assert said.code == 0 and f"{what}: moss/moss" in said.out, said
    seen = open_picture("moss/moss-000002-0.png").tobytes()
    shell.drawn(*USED[what], "--guidance", "3", "--device", "cpu", prompt=PROMPT)
    assert shell.pixels == seen
    shell.drawn("--guidance", "3", "--device", "cpu", prompt=PROMPT)
    assert shell.pixels != seen, "the adapter does something"
    assert shell.run("reproduce", "moss/moss-000002-0.png", "-m", str(tiny()), *USED[what]).code == 0


def test_minutes_stop_with_a_checkpoint_and_the_run_goes_on(shell: Shell) -> None:
    write_pictures(Path("pictures"))
    said = shell.run(*_words("lora"), "--minutes", "1e-9")
    assert said.code == 0 and "stopped, with a checkpoint in moss" in said.err
    assert shell.run(*_words("lora")).code == 0
    assert Path("moss/moss.safetensors").is_file()


def test_a_training_begins_with_the_averages_of_another(shell: Shell) -> None:
    write_pictures(Path("pictures"))
    assert shell.run(*_words("lora")).code == 0
    words = _words("lora", "fit.lr=0.0", "fit.steps=1")
    words[words.index("moss")] = "further"
    assert shell.run(*words, "--from", "moss/average.safetensors").code == 0
    assert Path("further/average.safetensors").read_bytes()[-64:] == Path("moss/average.safetensors").read_bytes()[-64:]


WRONG = {
    "train lora": (2, "--data"),
    "train lora --data none": (1, "--data takes a folder"),
    "train lora --data pictures --control pictures": (2, "leave --control out"),
    "train controlnet --data bare": (1, "bare/control: no picture of the same name"),
    "train controlnet --data pictures --control none": (1, "no picture of the same name"),
    "train lora --data pictures --config none": (1, "none"),
    "train lora --data pictures -m none": (2, "unknown model"),
    "train lora --data pictures --set lora.rank=0": (1, "rank = 0"),
    "train lora --data pictures --set lora.rink=3": (2, "rank"),
    "train textual-inversion --data pictures --set textual_inversion.word=moss": (2, "caption does not hold"),
    "train textual-inversion --data pictures --set textual_inversion.word=hair": (2, "knows 'hair' already"),
    "train figurines --data pictures": (2, "leave --data out"),
    "train figurines-vae -m figurines": (2, "leave --model out"),
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_is_one_line(words: str, shell: Shell) -> None:
    write_pictures(Path("pictures"))
    (write_pictures(Path("bare")) / "control/0.png").unlink()
    code, told = WRONG[words]
    model = [] if "-m" in words or "figurines" in words else ["-m", str(tiny())]
    assert told in wrong(shell.run(*words.split(), *model), code)


def test_ctrl_c_saves_and_exports_even_a_run_that_is_called_as_a_stage_of_the_default_model(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(Path("pictures"))
    ours = Trainer.advance

    def advance(self: Trainer) -> object:
        if self.step == 1:
            signal.raise_signal(signal.SIGINT)
        return ours(self)

    monkeypatch.setattr(Trainer, "advance", advance)
    words = _words("lora", "fit.steps=50")
    words[words.index("moss")] = "portraits"
    said = shell.run(*words)
    assert said.code == 130 and "stopped, with a checkpoint in portraits" in said.err
    assert read_header(Path("portraits/average.safetensors")).metadata["step"] == "2"
    assert Path("portraits/portraits.safetensors").is_file(), "what was learned so far can be used"
