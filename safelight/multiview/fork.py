"""``config.json`` of forks of the stock U-Net that draw views, read as that of the stock one.

They rename the classes of blocks and say beside them who reads whom in attention: words that a preset has, too. What
they say is compared with the preset, and what is left is the configuration of a stock U-Net.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from safelight.errors import ConfigError
from safelight.multiview.presets import Preset
from safelight.multiview.rig import rig

CLASS: Final = "UNetMV2DConditionModel"
BLOCKS: Final = {
    "CrossAttnDownBlockMV2D": "CrossAttnDownBlock2D",
    "UNetMidBlockMV2DCrossAttn": "UNetMidBlock2DCrossAttn",
    "CrossAttnUpBlockMV2D": "CrossAttnUpBlock2D",
}
ALWAYS: Final = {
    "multiview_attention": True,
    "cd_attention_last": False,
    "joint_attention": False,
    "cross_domain_attention": False,
}
LEFT: Final = frozenset(
    {"decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup"}
)
"""What the averaging of weights in training leaves in a configuration: it says nothing of the network."""
SAID: Final[Mapping[tuple[str, str], Mapping[str, Any]]] = {
    ("dense", "joint_mid"): {
        "cd_attention_mid": True,
        "joint_attention_twice": True,
        "mvcd_attention": False,
        "sparse_mv_attention": False,
    },
    ("front-self", ""): {
        "cd_attention_mid": False,
        "mvcd_attention": False,
        "sparse_mv_attention": True,
        "selfattn_block": "custom",
        "addition_downsample": False,
        "addition_channels": [1280, 1280, 1280],
    },
    ("joint-domain", "mv"): {
        "cd_attention_mid": False,
        "mvcd_attention": True,
        "sparse_mv_attention": True,
        "selfattn_block": "self_rowwise",
        "use_dino": False,
        "addition_downsample": False,
        "addition_channels": [1280, 1280, 1280],
        "num_regress_blocks": 3,
        "projection_camera_embeddings_input_dim": 4,
    },
}
"""Layout of a preset and name of its second self-attention -> what a configuration says of both."""


def stock(raw: Mapping[str, Any], preset: Preset) -> dict[str, Any]:
    """The configuration of the stock U-Net in that of a fork.

    Raises:
        ConfigError: the preset is of no fork, or the configuration says of attention what the preset is not.
    """
    words = SAID.get((preset.layout, preset.second.get("name", "")))
    if words is None:
        raise ConfigError(f"config.json is of a {CLASS}, which {preset.title} is not; choose another preset")
    guess = dict.fromkeys(("regress_elevation", "regress_focal_length"), preset.guesses > 0)
    said = {**ALWAYS, **guess, **words, "num_views": len(rig(preset.rig).azimuths)}
    made: dict[str, Any] = {"_class_name": "UNet2DConditionModel"}
    for key, value in raw.items():
        if key in said:
            if value != said[key]:
                raise ConfigError(f"config.json says {key} = {str(value)[:60]}; {preset.title} has {said[key]}")
        elif key.endswith("_block_types"):
            made[key] = [BLOCKS.get(each, each) for each in value] if isinstance(value, list) else value
        elif key == "mid_block_type":
            made[key] = BLOCKS.get(value, value) if isinstance(value, str) else value
        elif key != "_class_name" and key not in LEFT:
            made[key] = value
    return made
