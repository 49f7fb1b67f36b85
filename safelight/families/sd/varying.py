"""Stable Diffusion that is told a picture instead of a text, and draws others like it, as one `Family`.

The network is that of Stable Diffusion 1; in the place of the text's tokens stands one: the picture as CLIP's image
encoder projects it, zeros for what guidance leads away from. Source: the released pipeline's folder (Pinkney 2022,
"Stable Diffusion Image Variations").
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from safelight.encoders.viewer import Viewer, load_viewer
from safelight.errors import ConfigError, RequestError, WeightsError
from safelight.families.family import Defaults, Family, Model, Prompt, Words
from safelight.families.sd import scheduler, shown
from safelight.families.sd.checkpoints import load_unet
from safelight.families.sd.model import UNet
from safelight.families.sd.wiring import Told, ported, says_variance
from safelight.nn.ports import NO_PORTS, Ports
from safelight.vae.checkpoints import load_kl
from safelight.vae.kl import AutoencoderKL
from safelight.weights.folder import Index, read_json, weight_files

PARTS = ("unet", "vae", "image_encoder", "feature_extractor", "scheduler")


def load(index: Index) -> Model:
    """Read a folder.

    Raises:
        WeightsError: a part is missing, or its weights are unreadable or of another shape than its config says.
        ConfigError: a part is of a kind or a shape that this family does not have, or the parts do not fit together.
    """
    folder, variant, pickles = index.folder, index.variant, index.pickles
    for part in PARTS:
        if part not in index.parts:
            raise WeightsError(f"{folder / 'model_index.json'}: names no {part}; are these image variations?")
    extractor = folder / "feature_extractor"
    viewer = load_viewer(folder / "image_encoder", variant, pickles=pickles, preprocessor=extractor)
    unet = load_unet(folder / "unet", variant, pickles=pickles)
    vae = load_kl(folder / "vae", variant, pickles=pickles)
    check(folder, unet, vae, viewer)
    plan = scheduler.read_of(folder, read_json(folder / "scheduler" / "scheduler_config.json"))
    read = [folder / "model_index.json", folder / "scheduler" / "scheduler_config.json", *viewer.files]
    for part in ("unet", "vae"):
        read += [folder / part / "config.json", *weight_files(folder / part, variant, pickles=pickles)]

    def predict(x: Tensor, t: Tensor, told: Told, ports: Ports = NO_PORTS) -> Tensor:
        return unet(x, t, told.context, ports=ports)

    latent = vae.config.latent()
    size = unet.config.sample_size * latent.stride
    return Model(
        family="sd-variations",
        folder=folder,
        network=unet,
        encoders=(viewer.encoder,),
        vae=vae,
        path=plan.path,
        prediction=plan.prediction,
        latent=latent,
        tasks=("vary",),
        defaults=Defaults(size, size, plan.levels, plan.start, plan.sampler, plan.options),
        encode=lambda prompt: encode(viewer, prompt),
        predict=predict,
        ported=ported(unet, predict),
        ranged=says_variance(folder, unet.config.out_channels, latent.channels, plan),
        files=tuple(read),
    )


def check(folder: Path, unet: UNet, vae: AutoencoderKL, viewer: Viewer) -> None:
    """Check that the parts speak of the same things.

    Raises:
        ConfigError: they do not.
    """
    projected, asked = viewer.encoder.config, unet.config.cross_attention_dim
    if not projected.projection or projected.projection_dim != asked:
        written = projected.projection_dim if projected.projection else "none"
        raise ConfigError(f"{folder}: the U-Net is told pictures of width {asked}, the image encoder writes {written}")
    channels = vae.config.latent_channels
    if shown.kind(folder, unet.config, channels) != shown.NOTHING or unet.config.addition_embed_type:
        raise ConfigError(f"{folder}: the U-Net is shown or told more than a picture; no released one is")


def encode(viewer: Viewer, prompt: Prompt) -> Words:
    """A picture as the network is told it: one token [1, 1, P]; zeros where guidance leads away.

    Raises:
        RequestError: a text, which this network cannot read.
    """
    if prompt.text or prompt.picture is None:
        raise RequestError("this model is told a picture and no text; leave the prompt and its negative empty")
    if prompt.negative:
        weight = viewer.encoder.vision_model.embeddings.class_embedding
        return Words(Told(weight.new_zeros(1, 1, viewer.encoder.config.projection_dim)))
    projected = viewer.see([prompt.picture]).projected
    assert projected is not None
    return Words(Told(projected[:, None].detach()))


VARYING = Family("sd-variations", frozenset({"StableDiffusionImageVariationPipeline"}), load)
