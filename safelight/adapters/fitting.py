"""Whether a network that speaks to a U-Net's skip connections was made for this U-Net."""

from __future__ import annotations

import torch

from safelight.errors import RequestError
from safelight.families.family import Model
from safelight.families.sd.model import UNet, UNetConfig
from safelight.weights.variants import tables_of

SHARED = {
    "cross_attention_dim": "text of width {}",
    "block_out_channels": "levels of widths {}",
    "layers_per_block": "{} layers a level",
    "down_block_types": "levels {}",
    "addition_embed_type": "told {} beside the text",
    "projection_class_embeddings_input_dim": "told {} numbers beside the text",
    "num_class_embeds": "told one of {} classes",
}
"""What a control network and its U-Net must have in common, and how it is said."""


def unet_of(what: str, model: Model) -> UNet:
    """The U-Net of a model.

    Raises:
        RequestError: it has another kind of network.
    """
    if not isinstance(model.network, UNet):
        raise RequestError(f"{what} speaks to a U-Net of Stable Diffusion; this model ({model.family}) has none")
    return model.network


def check_fit(what: str, config: UNetConfig, device: torch.device, model: Model) -> None:
    """Refuse a control network that was made for another U-Net, or lies elsewhere.

    Raises:
        RequestError: says for which it was made, and which this is.
    """
    unet = unet_of(what, model)
    made, here = title(config), title(unet.config)
    for name, words in SHARED.items():
        theirs, ours = getattr(config, name), getattr(unet.config, name)
        if theirs != ours:
            apart = f" ({words.format(theirs)}, not {ours})"
            raise RequestError(f"{what} was made for {made}, this model is {here}{apart}; use one that was made for it")
    if config.in_channels != model.latent.channels:
        raise RequestError(f"{what} reads latents of {config.in_channels} channels, not {model.latent.channels}")
    if device != unet.conv_in.weight.device:
        raise RequestError(f"{what} lies on {device}, the model on {unet.conv_in.weight.device}; move it there")


def title(config: UNetConfig) -> str:
    """What a network of this shape is of, for a person."""
    width = config.cross_attention_dim
    known = [each.title for each in tables_of("sd").variants if each.width == width and not each.task]
    return known[0] if known else f"a network that reads text of width {width}"
