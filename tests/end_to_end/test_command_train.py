"""``safelight train``: every stage from the command line, stopped and gone on with at any time."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from safelight.cli.main import main
from safelight.train import checkpoint
from safelight.train.figurines import stages
from safelight.train.figurines.export import export
from safelight.train.loop import Trainer
from safelight.train.run import Progress
from safelight.weights.hash import sha256
from tests.end_to_end.shell import Shell, wrong
from tests.train.tiny import FIT, FITS, SHAPES, tiny

SMALL = [word for change in (*(f"{name}.{fit}" for name in FITS for fit in FIT), *SHAPES) for word in ("--set", change)]
CPU = ["--device", "cpu"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of all stages, made by the command, and its model beside it."""
    run = tmp_path_factory.mktemp("train") / "run"
    assert main(["train", "figurines", "--run", str(run), *SMALL, *CPU]) == 0
    export(run, tiny(), run.parent / "model", {})
    return run.parent


def test_the_whole_model_is_made_by_one_command(model: Path) -> None:
    for part in ("text", "vae", "decoder", "unet"):
        assert (model / "run" / part / "average.safetensors").is_file()
        assert (model / "run" / part / "log.jsonl").is_file()


def test_what_is_done_is_not_done_again(model: Path, shell: Shell) -> None:
    before = sha256(model / "run/unet/average.safetensors")
    said = shell.run("train", "figurines", "--run", str(model / "run"), *SMALL, *CPU)
    assert said.code == 0 and "done: " in said.out
    assert "unet" not in said.err
    assert sha256(model / "run/unet/average.safetensors") == before


@pytest.mark.parametrize(
    ("what", "parts"), [("figurines-words", {"text", "tokenizer"}), ("figurines-vae", {"data", "vae", "decoder"})]
)
def test_a_part_is_made_alone(what: str, parts: set[str], shell: Shell) -> None:
    assert shell.run("train", what, "--run", "run", *SMALL, *CPU).code == 0
    assert {path.name for path in Path("run").iterdir()} == parts


def test_training_goes_on_from_a_published_model(model: Path, shell: Shell) -> None:
    words = ["train", "figurines", "--run", "run", *SMALL, *CPU]
    assert shell.run(*words, "--from", str(model / "model")).code == 0
    assert not checkpoint.found(Path("run/text/checkpoints")), "the text encoder is the published one"
    assert not checkpoint.found(Path("run/vae/checkpoints"))
    assert checkpoint.found(Path("run/unet/checkpoints"))
    before = sha256("run/text/average.safetensors")
    assert shell.run(*words, "--set", "unet_fit.steps=3").code == 0
    assert sha256("run/text/average.safetensors") == before


def test_the_autoencoder_goes_on_from_a_published_model_or_a_file(model: Path, shell: Shell) -> None:
    hashes = set()
    for start in ([], ["--from", str(model / "model")], ["--from", str(model / "run/vae/average.safetensors")]):
        run = Path(f"run{len(hashes)}")
        assert shell.run("train", "figurines-vae", "--run", str(run), *SMALL, *CPU, *start).code == 0
        hashes.add(sha256(run / "vae/average.safetensors"))
    assert len(hashes) == 3


def test_minutes_stop_with_a_checkpoint_and_the_run_goes_on(shell: Shell) -> None:
    words = ["train", "figurines-words", "--run", "run", *SMALL, "--set", "words_fit.steps=6", *CPU]
    said = shell.run(*words, "--minutes", "1e-9")
    assert said.code == 0 and "stopped, with a checkpoint in run" in said.err
    (stopped,) = checkpoint.found(Path("run/text/checkpoints"))
    assert stopped.name == "step-00000001"
    assert shell.run(*words).code == 0
    alone = shell.run(*words[:3], "alone", *words[4:])
    assert alone.code == 0
    assert sha256("alone/text/average.safetensors") == sha256("run/text/average.safetensors")


@pytest.fixture
def pressed(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has Ctrl-C pressed in the middle of a step of training."""
    ours = Trainer.advance

    def press_at(step: int) -> None:
        def advance(self: Trainer) -> object:
            if self.step + 1 == step:
                signal.raise_signal(signal.SIGINT)
            return ours(self)

        monkeypatch.setattr(Trainer, "advance", advance)

    return press_at


def test_ctrl_c_ends_the_step_and_saves_it(shell: Shell, pressed: Callable[[int], None]) -> None:
    before = signal.getsignal(signal.SIGINT)
    pressed(3)
    said = shell.run("train", "figurines-words", "--run", "run", *SMALL, "--set", "words_fit.steps=9", *CPU)
    assert said.code == 130
    assert "stopping after this step" in said.err and "stopped, with a checkpoint in run" in said.err
    assert checkpoint.found(Path("run/text/checkpoints"))[-1].name == "step-00000003"
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_ends_at_once(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def advance(self: Trainer) -> object:
        signal.raise_signal(signal.SIGINT)
        return signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "advance", advance)
    said = shell.run("train", "figurines-words", "--run", "run", *SMALL, *CPU)
    assert said.code == 130 and said.err.endswith("safelight: interrupted\n")


def test_portraits_stop_between_two_lots(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def render(run: Path, plan: object) -> Iterator[Progress]:
        yield Progress("portraits", 1, 3)
        signal.raise_signal(signal.SIGINT)
        yield Progress("portraits", 2, 3)
        raise AssertionError("asked for more")

    monkeypatch.setattr(stages, "render", render)
    assert shell.run("train", "figurines", "--run", "run", *SMALL, *CPU).code == 130


def test_a_config_is_laid_over_the_plan_and_set_over_that(shell: Shell) -> None:
    Path("plan.toml").write_text("[words_fit]\nsteps = 3\nseed = 4\n")
    less = [word for word in SMALL if word != "words_fit.steps=2"]
    words = [word for place, word in enumerate(less) if word != "--set" or less[place + 1 : place + 2] != ["--set"]]
    words = words[:-1] if words[-1] == "--set" else words
    assert shell.run("train", "figurines-words", "--run", "a", "--config", "plan.toml", *words, *CPU).code == 0
    assert checkpoint.found(Path("a/text/checkpoints"))[-1].name == "step-00000003"
    set_ = ["--set", "words_fit.steps=4"]
    assert shell.run("train", "figurines-words", "--run", "b", "--config", "plan.toml", *words, *set_, *CPU).code == 0
    assert checkpoint.found(Path("b/text/checkpoints"))[-1].name == "step-00000004"


WRONG = {
    "--minutes 0": (2, "a number above 0"),
    "--minutes nan": (2, "a number above 0"),
    "--set unet.steps": (1, "section.key=value"),
    "--set unet_fit.stepz=3": (2, "steps"),
    "--set unit.steps=3": (2, "section"),
    "--config none.toml": (1, "none.toml"),
    "--from none": (1, "no such file or folder"),
    "--device gpu": (2, "unknown device"),
    "--run /proc/self/run": (1, "cannot be"),
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_is_one_line_and_leaves_nothing(words: str, shell: Shell) -> None:
    code, told = WRONG[words]
    assert told in wrong(shell.run("train", "figurines-words", *SMALL, *words.split()), code)
    assert shell.names() == []


def test_words_are_not_begun_from_a_model_which_has_no_heads(model: Path, shell: Shell) -> None:
    said = shell.run("train", "figurines-words", "--run", "run", *SMALL, "--from", str(model / "model"))
    assert "keeps no heads" in wrong(said)
