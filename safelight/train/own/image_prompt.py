"""Teach an IP-Adapter: a network that sees pictures, tokens of what it sees, and keys and values that read them.

Axes: B rows, pictures [B, 3, E, E], M tokens of width X, H heads, D width of a head. The picture that is seen is the
one that is learned. Source: Ye et al. 2023 (2308.06721, section 3.2); here the image encoder learns, too, and at first
from the text encoder, as a tower that is locked teaches another in Zhai et al. 2022 (2111.07991).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.adapters.fitting import unet_of
from safelight.adapters.ip_adapter.file import ENCODER, load_ip_adapter
from safelight.adapters.ip_adapter.model import BASE, IpNetwork, numbered
from safelight.adapters.ip_adapter.model import Plan as Shape
from safelight.adapters.ip_adapter.use import ImageUse
from safelight.adapters.use import Use
from safelight.encoders.clip_pixels import MEAN, STD, ClipPixels
from safelight.encoders.clip_vision import ClipVision, ClipVisionConfig
from safelight.families.family import Model
from safelight.families.sd.model import UNet
from safelight.generate.pipe import Pipe
from safelight.nn.attention import Attention, split_heads
from safelight.nn.ports import Ports
from safelight.train.order import first_weights, generator
from safelight.train.own.lesson import Lesson
from safelight.train.own.lora import DTYPES
from safelight.train.own.plan import ImagePlan
from safelight.weights.save import make_folder, save, write

SEES, READS = "sees.", "reads."
"""What the names of the encoder's and of the adapter's numbers begin with in checkpoints."""


class Seeing:
    """The task: shown a picture, the U-Net should say what is under its noise.

    Args:
        seed: of the first numbers, and of the pictures that are left out.
    """

    suffix = ""

    def __init__(self, plan: ImagePlan, lesson: Lesson, seed: int) -> None:
        self.plan, self.lesson, self.model, self.seed = plan, lesson, lesson.model, seed
        unet = unet_of("an IP-Adapter", self.model)
        device = unet.conv_in.weight.device
        self.pixels = ClipPixels(plan.edge, plan.edge)
        with first_weights(seed):
            encoder = ClipVision(config(plan))
            network = IpNetwork(shape(plan, unet))
        layers = numbered(unet)
        with torch.no_grad():  # as the released adapters began: a picture's tokens are read as words are
            for number in network.plan.pairs:
                for ours, its in ((network.layer(number).to_k_ip, "to_k"), (network.layer(number).to_v_ip, "to_v")):
                    ours.weight.copy_(getattr(layers[number], its).weight)
        self.module = nn.ModuleDict({"sees": encoder, "reads": network}).to(device)
        self.encoder, self.network = encoder, network
        self.numbers = {layer.name: number for number, layer in enumerate(layers)}

    def loss(self, step: int, part: slice) -> Tensor:
        """The weighted error of the prediction; in the first steps that of the tokens."""
        batch = self.lesson.draw(step, part)
        chances = torch.rand(self.lesson.batch, generator=generator(self.seed, step, "pictures"))[part]
        shown = (chances >= self.plan.drop).to(batch.x)
        tokens = self.tokens([self.look(row, flip) for row, flip in zip(batch.rows, batch.mirrored)], shown)
        if step < self.plan.first:
            return F.mse_loss(tokens.float(), self.said(batch.rows, shown))

        def beside(name: str, layer: Attention, q: Tensor, y: Tensor) -> Tensor:
            k, v = self.network.layer(self.numbers[name]).pair(tokens)
            return y + layer.read(q, split_heads(k, layer.heads), split_heads(v, layer.heads))

        ported = self.model.ported
        assert ported is not None  # `check_teachable` saw it
        return self.lesson.error(ported.predict(batch.x, batch.t, batch.told, Ports(beside=beside)), batch)

    def said(self, rows: Sequence[int], shown: Tensor) -> Tensor:
        """What the text encoder says at the last M places of captions, or of none where no picture is ``shown``.

        A causal encoder's last places have read the whole caption. Returns [B, M, X].
        """
        told = [self.lesson.told(row, not seen).context for row, seen in zip(rows, shown.tolist())]
        return torch.cat(told).to(shown)[:, -self.plan.tokens :]

    def look(self, row: int, mirrored: bool) -> Tensor:
        """A picture as the encoder sees it, [3, E, E]."""
        (pixels,) = self.pixels([self.lesson.album.entries[row].picture()])
        return pixels.flip(-1) if mirrored else pixels

    def tokens(self, pictures: Sequence[Tensor], shown: Tensor) -> Tensor:
        """What is read of pictures, [B, M, X]; of those that are not ``shown`` what is read of nothing."""
        seen = self.encoder(torch.stack(list(pictures)).to(shown))
        assert seen.projected is not None
        return self.network.image_proj(seen.projected * shown[:, None])

    def export(self, tensors: Mapping[str, Tensor], path: Path, told: Mapping[str, str]) -> None:
        """Write a folder: NAME.safetensors, and ``image_encoder`` with its configuration and preprocessor.

        Raises:
            FileError: it cannot be written.
        """
        dtype, place = DTYPES[self.plan.dtype], path / ENCODER
        make_folder(place)
        halves: dict[str, dict[str, Tensor]] = {SEES: {}, READS: {}}
        for name, tensor in tensors.items():
            begin = SEES if name.startswith(SEES) else READS
            halves[begin][name.removeprefix(begin)] = tensor.to(dtype)
        said = {key: value for key, value in asdict(self.encoder.config).items() if key != "projection"}
        kind = {"architectures": ["CLIPVisionModelWithProjection"], "model_type": "clip_vision_model"}
        square = {"crop_size": {"height": self.plan.edge, "width": self.plan.edge}}
        looks = {"size": {"shortest_edge": self.plan.edge}, **square, "image_mean": MEAN, "image_std": STD}
        put(place / "config.json", {**kind, **said})
        put(place / "preprocessor_config.json", {"image_processor_type": "CLIPImageProcessor", **looks})
        save(halves[SEES], place / "model.safetensors")
        save(halves[READS], path / f"{path.name}.safetensors", told)

    @contextmanager
    def used(self, pipe: Pipe, path: Path, count: int) -> Iterator[Sequence[tuple[Use, ...]]]:
        """What ``count`` requests ask for so that the exported folder reads a picture of the album for each."""
        adapter = load_ip_adapter(path / f"{path.name}.safetensors", pipe.model)
        entries = self.lesson.album.entries
        yield [(ImageUse(adapter, [entries[i % len(entries)].picture()]),) for i in range(count)]


def check(plan: ImagePlan, model: Model) -> None:
    """Refuse early.

    Raises:
        RequestError: the model has no U-Net of Stable Diffusion. ConfigError: sizes of the encoder that do not fit.
    """
    unet_of("an IP-Adapter", model)
    config(plan)


def config(plan: ImagePlan) -> ClipVisionConfig:
    """The image encoder's configuration."""
    return ClipVisionConfig(
        hidden_size=plan.width,
        intermediate_size=4 * plan.width,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        image_size=plan.edge,
        patch_size=plan.patch,
        projection_dim=plan.width,
        projection=True,
    )


def shape(plan: ImagePlan, unet: UNet) -> Shape:
    """An adapter of the base kind for a network."""
    pairs = {n: layer.to_q.out_features for n, layer in enumerate(numbered(unet)) if layer.name.endswith("attn2")}
    return Shape(BASE, unet.config.cross_attention_dim, plan.width, 0, plan.tokens, 0, 0, pairs, {})


def put(path: Path, value: Mapping[str, object]) -> None:
    """Indented JSON; FileError where it cannot be written."""
    write(path, [(json.dumps(value, indent=2) + "\n").encode()])
