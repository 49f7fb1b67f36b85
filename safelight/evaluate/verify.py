"""Run a model and the reference's side by side, block by block, and name the first module that says something else.

Both hold the same tensors under the same names, so every module of ours has its counterpart by name; each is heard
while both whole networks read the same inputs. The reference is diffusers with transformers, an extra.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from safelight.errors import ConfigError, RequestError
from safelight.families.sd.convert import to_folder
from safelight.families.sd.model import Added, UNet
from safelight.families.sd.parts import Parts, read_parts
from safelight.families.sd.single import read_single, understand
from safelight.weights.folder import Index, read_index, weight_files

FORMATS = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
BARS = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Largest difference, relative to the largest value of the reference, that is only rounding in each number format."""
TOKENS, EDGE = 7, 16


@dataclass(frozen=True)
class Heard:
    """What one module said in both.

    Attributes:
        part: ``unet``, ``vae``, ``text_encoder``, ``text_encoder_2``. module: its dotted name; empty for the whole.
        error: largest difference of its output, relative to the largest value of the reference.
    """

    part: str
    module: str
    error: float


@dataclass(frozen=True)
class Verdict:
    """All modules of a part in the order in which they were run, and the bar.

    Attributes:
        first: the first module beyond the bar, None where there is none: what came before it is sound.
    """

    part: str
    heard: tuple[Heard, ...]
    bar: float

    @property
    def first(self) -> Heard | None:
        """The first module whose output differs."""
        return next((each for each in self.heard if not each.error <= self.bar), None)

    @property
    def worst(self) -> float:
        """The largest difference of all modules."""
        return max(each.error for each in self.heard)


def verify(index: Index, dtype: torch.dtype) -> Iterator[Verdict]:
    """Compare every part of a model with the reference's, one after the other.

    Raises:
        RequestError: the reference is not installed. WeightsError, ConfigError: the model cannot be read.
    """
    try:
        import diffusers
        import transformers
    except ImportError:
        raise RequestError("verify needs the reference; pip install 'safelight[reference]'") from None
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        single = index.folder.is_file()
        ours = read_single(index) if single else read_parts(index)
        folder = index.folder
        if single:  # the reference reads the folder that `safelight convert` writes of it
            folder = Path(scratch, "model")
            to_folder(understand(index.folder, pickles=index.pickles), folder, index)
        names = [name for name in ("text_encoder", "text_encoder_2") if name in read_index(folder).parts]
        for name, reader in zip(names, ours.readers, strict=True):
            kind = "CLIPTextModelWithProjection" if reader.encoder.config.projection else "CLIPTextModel"
            theirs = _opened(getattr(transformers, kind), folder / name, index, dtype)
            ids = _ids(reader.encoder.config.vocab_size, reader.encoder.config.eos_token_id)
            yield compare(name, reader.encoder.to(dtype), theirs, partial(_called, ids), dtype)
        theirs = _opened(diffusers.AutoencoderKL, folder / "vae", index, dtype)
        yield compare("vae", ours.vae.to(dtype), theirs, _through(ours, dtype), dtype)
        theirs = _opened(diffusers.UNet2DConditionModel, folder / "unet", index, dtype)
        yield compare("unet", ours.unet.to(dtype), theirs, _asked(ours.unet, dtype), dtype)


def _opened(kind: Any, folder: Path, index: Index, dtype: torch.dtype) -> nn.Module:
    """The reference's module of a part, from the same file as ours."""
    file = weight_files(folder, "" if index.folder.is_file() else index.variant, pickles=index.pickles)[0]
    variant = index.variant or ("fp16" if ".fp16." in file.name else None)
    how: dict[str, Any] = {"torch_dtype": dtype} if kind.__module__.startswith("diffusers") else {}
    try:
        module: nn.Module = kind.from_pretrained(folder, variant=variant, local_files_only=True, **how)
    except Exception as error:  # the reference raises anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{folder}: the reference cannot open it ({reason[:200]})") from None
    return module.eval() if how else module.to(dtype).eval()


@torch.no_grad()
def compare(
    part: str, ours: nn.Module, theirs: nn.Module, run: Callable[[nn.Module], Any], dtype: torch.dtype
) -> Verdict:
    """Run both and compare what the modules of equal name said, in the order of ours.

    Raises:
        ConfigError: hardly a name is in both, so that nothing was compared.
    """
    said, answer = _listen(ours, run, plain=True)  # a module of ours that says several things has no one answer
    reference, expected = _listen(theirs, run)
    prefix = "" if any(name.startswith("text_model.") for name in reference) else "text_model."  # dropped by newer ones
    rows = [
        Heard(part, name, difference(value, reference[other]))
        for name, value in said.items()
        if (other := name if name in reference else name.removeprefix(prefix)) in reference
    ]
    if len(rows) < len(said) // 2:
        raise ConfigError(
            f"{part}: {len(rows)} of {len(said)} modules are in the reference too; is it another version?"
        )
    return Verdict(part, (*rows, Heard(part, "", difference(answer, expected))), BARS[dtype])


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference relative to the largest value; infinite where sizes differ or a number is none.

    A module may see a picture as a grid in one program and as a row in the other; its numbers are the same.
    """
    if ours.numel() != theirs.numel():
        return float("inf")
    theirs = theirs.reshape(ours.shape)
    error = float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max().clamp_min(1e-30))
    return error if error == error else float("inf")


def _listen(
    module: nn.Module, run: Callable[[nn.Module], Any], *, plain: bool = False
) -> tuple[dict[str, Tensor], Tensor]:
    """The first tensor that every module below said, by name, in the order in which they finished; and the answer.

    Args:
        plain: only those that said one tensor and nothing else.
    """
    said: dict[str, Tensor] = {}
    hooks = []
    for name, each in module.named_modules():
        if name:

            def hear(_: nn.Module, __: Any, out: Any, name: str = name) -> None:
                tensor = out if plain else _tensor(out)
                if isinstance(tensor, Tensor) and name not in said:
                    said[name] = tensor.detach().clone()

            hooks.append(each.register_forward_hook(hear))
    try:
        answer = _tensor(run(module))
    finally:
        for hook in hooks:
            hook.remove()
    assert answer is not None
    return said, answer


def _tensor(out: Any) -> Tensor | None:
    """A tensor, or the first one in what a module returned."""
    if isinstance(out, Tensor):
        return out
    for name in ("sample", "last_hidden_state", "last", "text_embeds", "mean"):
        value = getattr(out, name, None)
        if isinstance(value, Tensor):
            return value
    if isinstance(out, Mapping):
        out = tuple(out.values())
    return _tensor(out[0]) if isinstance(out, tuple | list) and out else None


def _random(*shape: int, seed: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _ids(count: int, end: int) -> Tensor:
    ids = torch.randint(0, max(count - 2, 1), (2, TOKENS), generator=torch.Generator().manual_seed(0))
    ids[:, -1] = end if 0 <= end < count else count - 1
    return ids


def _called(ids: Tensor, module: nn.Module) -> Any:
    return module(ids)


def _through(ours: Parts, dtype: torch.dtype) -> Callable[[nn.Module], Any]:
    """A picture into latents and back, noise-free."""
    edge = ours.vae.config.stride * 4
    picture = _random(1, ours.vae.config.in_channels, edge, edge, seed=1, dtype=dtype).tanh()

    def run(module: nn.Module) -> Any:
        autoencoder: Any = module
        coded = autoencoder.encode(picture)
        return autoencoder.decode(getattr(coded, "latent_dist", coded).mode())

    return run


def _asked(unet: UNet, dtype: torch.dtype) -> Callable[[nn.Module], Any]:
    """Everything that a U-Net of this configuration is asked, under the names of either."""
    config = unet.config
    x = _random(2, config.in_channels, EDGE, EDGE, seed=1, dtype=dtype)
    context = _random(2, TOKENS, config.cross_attention_dim, seed=2, dtype=dtype)
    t = torch.tensor([3, 801])
    added: dict[str, Any] = {}
    if config.addition_embed_type:
        # How many sizes there are beside the pooled text is the caller's affair: the network reads them in one row.
        width, each = config.projection_class_embeddings_input_dim or 0, config.addition_time_embed_dim or 1
        added["pooled"] = _random(2, width - 5 * each, seed=3, dtype=dtype)
        added["times"] = torch.tensor([[512.0, 768, 0, 32, 6]] * 2)
    if config.num_class_embeds:
        added["labels"] = torch.tensor([1, 0])
    if config.time_cond_proj_dim:
        added["guidance"] = _random(2, config.time_cond_proj_dim, seed=4, dtype=dtype)

    def run(module: nn.Module) -> Any:
        if isinstance(module, UNet):
            return module(x, t, context, added=Added(**added))
        told = {"text_embeds": added["pooled"], "time_ids": added["times"]} if "pooled" in added else None
        labels, guidance = added.get("labels"), added.get("guidance")
        return module(x, t, context, added_cond_kwargs=told, timestep_cond=guidance, class_labels=labels)

    return run
