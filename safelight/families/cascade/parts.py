"""Everything in the two released folders of Stable Cascade, its decoder's and its prior's, or in the one with both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.encoders.checkpoints import load_clip_text
from safelight.encoders.clip import ClipText
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.encoders.viewer import Viewer, load_viewer
from safelight.errors import ConfigError, WeightsError
from safelight.families.cascade import ratio
from safelight.families.cascade.checkpoints import load_unet
from safelight.families.cascade.model import CascadeConfig, CascadeUNet
from safelight.families.cascade.ratio import Ratio
from safelight.vae.stage_a import StageA, StageAConfig
from safelight.weights.folder import Index, read_index, read_json, weight_files
from safelight.weights.load import load_part

COMBINED, DECODER, PRIOR = (f"StableCascade{name}Pipeline" for name in ("Combined", "Decoder", "Prior"))


@dataclass(frozen=True)
class Stage:
    """One of the two networks and what belongs to it.

    Attributes:
        unet: the network. encoder, tokenizer: what reads its texts. path: its noise path.
        settings: what ``model_index.json`` says beside its parts.
        files: every file that was read.
        viewer: what reads pictures for it (a prior whose folder brings it).
    """

    unet: CascadeUNet
    encoder: ClipText
    tokenizer: ClipTokenizer
    path: Ratio
    settings: Mapping[str, Any]
    files: tuple[Path, ...]
    viewer: Viewer | None = None


def read_stages(index: Index) -> tuple[Stage, Stage]:
    """The prior and the decoder.

    Raises:
        WeightsError: a part is missing, or its weights are unreadable or of another shape than its config says; the
            decoder's folder has no prior's beside it. ConfigError: a part is of another kind.
    """
    prior, prefix = _prior(index)
    return _stage(prior, f"{prefix}prior", prefix), _stage(index, "decoder", "")


def read_tokenizers(index: Index) -> dict[str, ClipTokenizer]:
    """The tokenizer of the prior, under its encoder's name: the decoder is told the pooled text of its chunk alone.

    Raises:
        WeightsError, ConfigError: see `read_stages`.
    """
    prior, prefix = _prior(index)
    return {"prior_text_encoder": ClipTokenizer.from_folder(prior.folder / f"{prefix}tokenizer")}


def _prior(index: Index) -> tuple[Index, str]:
    """The folder with the prior's parts, and what their names begin with there."""
    if index.pipeline == COMBINED:
        return index, "prior_"
    beside = index.folder.with_name(f"{index.folder.name}-prior")
    if not (beside / "model_index.json").is_file():
        raise WeightsError(
            f"{index.folder}: is the decoder of Stable Cascade; put its prior's folder beside it: {beside}"
        )
    prior = read_index(beside, index.variant, pickles=index.pickles)
    if prior.pipeline != PRIOR:
        raise ConfigError(f"{beside}: is a {prior.pipeline}; a {PRIOR} is expected")
    return prior, ""


def read_stage_a(index: Index) -> tuple[StageA, tuple[Path, ...]]:
    """The autoencoder, and the files that were read.

    Raises:
        WeightsError, ConfigError: see `safelight.weights.load.load_part`; also that there is none.
    """
    if "vqgan" not in index.parts:
        raise WeightsError(f"{index.folder / 'model_index.json'}: names no vqgan; is this Stable Cascade's decoder?")
    folder = index.folder / "vqgan"
    vae = load_part(
        folder, lambda raw: StageA(StageAConfig.from_dict(raw)), variant=index.variant, pickles=index.pickles
    )
    return vae, (folder / "config.json", *weight_files(folder, index.variant, pickles=index.pickles))


def _stage(index: Index, network: str, prefix: str) -> Stage:
    folder, variant, pickles = index.folder, index.variant, index.pickles
    encoder, tokenizer, scheduler = (f"{prefix}{part}" for part in ("text_encoder", "tokenizer", "scheduler"))
    for part in (network, encoder, tokenizer, scheduler):
        if part not in index.parts:
            raise WeightsError(f"{folder / 'model_index.json'}: names no {part}; is this Stable Cascade?")
    unet = load_unet(folder / network, variant, pickles=pickles)
    text = load_clip_text(folder / encoder, variant, pickles=pickles)
    words = ClipTokenizer.from_folder(folder / tokenizer)
    fitting(folder / network, unet.config, text, words, folder / tokenizer)
    plan = folder / scheduler / "scheduler_config.json"
    try:
        path = ratio.read(read_json(plan))
    except ConfigError as error:
        raise ConfigError(f"{plan}: {error}") from error
    read = [folder / "model_index.json", plan]
    for part in (network, encoder):
        read += [folder / part / "config.json", *weight_files(folder / part, variant, pickles=pickles)]
    read += sorted(file for file in (folder / tokenizer).iterdir() if file.is_file())
    viewer = read_viewer(index, folder, prefix, unet.config) if f"{prefix}image_encoder" in index.parts else None
    read += viewer.files if viewer else ()
    return Stage(unet, text, words, path, index.settings, tuple(read), viewer)


def read_viewer(index: Index, folder: Path, prefix: str, unet: CascadeConfig) -> Viewer:
    """What reads pictures for a prior, in a folder.

    Args:
        prefix: what the names of the prior's parts begin with there.

    Raises:
        WeightsError, ConfigError: see `safelight.encoders.viewer.load_viewer`; also another width than the prior reads.
    """
    place, extractor = folder / f"{prefix}image_encoder", folder / f"{prefix}feature_extractor"
    viewer = load_viewer(place, index.variant, pickles=index.pickles, preprocessor=extractor)
    written = viewer.encoder.config.projection_dim if viewer.encoder.config.projection else None
    if written != unet.clip_image_in_channels:
        raise ConfigError(f"{place}: writes pictures of width {written}, the prior reads {unet.clip_image_in_channels}")
    return viewer


def fitting(place: Path, unet: CascadeConfig, text: ClipText, words: ClipTokenizer, vocabulary: Path) -> None:
    """Check that a network reads what its text encoder writes, and that one what the tokenizer does.

    Args:
        place, vocabulary: where the network and the tokenizer lie.

    Raises:
        ConfigError: they do not.
    """
    config = text.config
    if words.highest >= config.vocab_size or words.length > config.max_position_embeddings:
        raise ConfigError(f"{vocabulary}: writes numbers that the text encoder does not read")
    if not config.projection or unet.clip_text_pooled_in_channels != config.projection_dim:
        raise ConfigError(
            f"{place}: reads pooled text of width {unet.clip_text_pooled_in_channels}, the text encoder writes "
            f"{config.projection_dim if config.projection else 'none that is projected'}"
        )
    if unet.clip_text_in_channels not in (None, config.hidden_size):
        raise ConfigError(
            f"{place}: reads text of width {unet.clip_text_in_channels}, the text encoder writes {config.hidden_size}"
        )
