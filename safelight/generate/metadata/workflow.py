"""ComfyUI's ``workflow``, the graph as a person sees it, as the graph that runs: used where only it is in the file.

Its nodes hold values in the order of their fields on the screen, which stands here for the nodes that are followed.
Nodes inside of subgraphs are not seen.
"""

from __future__ import annotations

from typing import Any

SEED = "control_after_generate"
"""A field that stands beside every seed on the screen."""
FIELDS: dict[str, tuple[str, ...]] = {
    "KSampler": ("seed", SEED, "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        *("add_noise", "noise_seed", SEED, "steps", "cfg", "sampler_name", "scheduler"),
        *("start_at_step", "end_at_step", "return_with_leftover_noise"),
    ),
    "SamplerCustom": ("add_noise", "noise_seed", SEED, "cfg"),
    "RandomNoise": ("noise_seed", SEED),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "KarrasScheduler": ("steps", "sigma_max", "sigma_min", "rho"),
    "CFGGuider": ("cfg",),
    "CLIPTextEncode": ("text",),
    "CLIPSetLastLayer": ("stop_at_clip_layer",),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "LatentUpscale": ("upscale_method", "width", "height", "crop"),
    "LatentUpscaleBy": ("upscale_method", "scale_by"),
    "LoadImage": ("image",),
    "RescaleCFG": ("multiplier",),
    "FluxGuidance": ("guidance",),
    "PrimitiveNode": ("value",),
}
OFF = (2, 4)
"""Modes of nodes that do not run."""


def graph(workflow: dict[str, Any]) -> dict[str, Any]:
    """The nodes that run, by their ids: ``class_type`` and ``inputs``, a link being [id, slot]."""
    begins = dict(filter(None, map(_link, _list(workflow.get("links")))))
    nodes = {}
    for node in _list(workflow.get("nodes")):
        if not isinstance(node, dict) or node.get("mode") in OFF:
            continue
        kind, values = str(node.get("type")), node.get("widgets_values")
        fields = dict(values) if isinstance(values, dict) else dict(zip(FIELDS.get(kind, ()), _list(values)))
        for slot in _list(node.get("inputs")):
            if isinstance(slot, dict) and isinstance(slot.get("link"), int) and slot["link"] in begins:
                fields[str(slot.get("name"))] = begins[slot["link"]]
        nodes[str(node.get("id"))] = {"class_type": kind, "inputs": fields}
    return nodes


def _link(link: Any) -> tuple[int, list[Any]] | None:
    """A link's number, and where it begins."""
    if isinstance(link, dict):
        link = [link.get("id"), link.get("origin_id"), link.get("origin_slot")]
    if isinstance(link, list) and len(link) >= 3 and all(isinstance(each, int) for each in link[:3]):
        return link[0], [str(link[1]), link[2]]
    return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
