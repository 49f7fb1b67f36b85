"""What ComfyUI writes: the whole graph of nodes that ran, followed from the picture back to what a person chose.

A node has a ``class_type`` and ``inputs``: values, or links [id of another node, which of its outputs]. From the last
node that saves, the way goes back to a sampler, and from there to the texts, the empty latents or the picture that it
began on, the checkpoint, and what stands between. Earlier samplers on the way are the first pass. Every node on the way
that is not understood is named in ``unread``. A way visits a node once, so a graph with a circle comes to an end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from safelight.generate.metadata import workflow as screen
from safelight.generate.metadata.a1111 import number
from safelight.generate.metadata.settings import COMFYUI, Settings, real, table, whole, words

SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
SAVES = ("SaveImage", "SaveImageWebsocket", "PreviewImage", "SaveAnimatedWEBP")
VALUES = ("value", "text", "string", "seed", "noise_seed", "int", "float", "number")
"""Fields of nodes that only hold a value."""
MODELS = ("ckpt_name", "unet_name", "model_name", "gguf_name")
LATENTS = ("samples", "latent_image", "latent", "pixels", "image", "images")
QUIET = ("Reroute", "VAEEncode", "VAEDecode", "VAEEncodeTiled", "VAEDecodeTiled", "LoadImage", "PrimitiveNode")
"""Nodes on the way that change nothing that a request says otherwise."""
MOST_PASSES = 20


@dataclass(frozen=True)
class Node:
    """A node: what it is, and its inputs."""

    id: str
    kind: str
    inputs: dict[str, Any]


@dataclass
class Graph:
    """The nodes, and what of them could not be followed."""

    nodes: dict[str, Node]
    unread: list[str] = field(default_factory=list)

    def behind(self, link: Any) -> Node | None:
        """The node that a link comes from; None for a value."""
        if isinstance(link, list) and len(link) == 2 and isinstance(link[0], str | int):
            return self.nodes.get(str(link[0]))
        return None

    def links(self, node: Node) -> Iterator[tuple[str, Node]]:
        """The nodes before this one, by the names of its inputs."""
        for name, value in node.inputs.items():
            before = self.behind(value)
            if before:
                yield name, before

    def value(self, node: Node, name: str) -> Any:
        """An input that is a value, or that a node of one value gives."""
        found, seen = node.inputs.get(name), {node.id}
        while isinstance(found, list):
            before = self.behind(found)
            if before is None or before.id in seen:
                return None
            seen.add(before.id)
            found = next((before.inputs[key] for key in VALUES if key in before.inputs), None)
            if found is None and before.kind == "Reroute":
                found = next(iter(before.inputs.values()), None)
            if found is None:
                self.missed(f"{name} comes from a {before.kind}")
        return found

    def way(self, node: Node, name: str, *next_names: str) -> Iterator[Node]:
        """The nodes behind an input, each behind the first of ``next_names`` that the one before has.

        Whoever walks may stop; what has none of the names, but one link only, is followed by that.
        """
        link, seen = node.inputs.get(name), set[str]()
        while (before := self.behind(link)) is not None and before.id not in seen:
            seen.add(before.id)
            yield before
            names = [each for each in next_names if isinstance(before.inputs.get(each), list)]
            every = [name for name, _ in self.links(before)]
            names = names or (every if len(every) == 1 else [])
            link = before.inputs[names[0]] if names else None

    def missed(self, words: str) -> None:
        """Note what could not be followed, once."""
        if words not in self.unread:
            self.unread.append(words)

    def sampler(self) -> Node | None:
        """The sampler whose picture was saved: the nearest before the nodes that nothing comes after."""
        used = {before.id for node in self.nodes.values() for _, before in self.links(node)}
        ends = [node for node in self.nodes.values() if node.id not in used]
        ends.sort(key=lambda node: node.kind not in SAVES)
        seen = set[str]()
        for end in ends:
            waiting = deque([end])
            while waiting:
                node = waiting.popleft()
                if node.kind in SAMPLERS:
                    return node
                if node.id not in seen:
                    seen.add(node.id)
                    waiting.extend(before for _, before in self.links(node))
        return None


def read(prompt: str | None, workflow: str | None = None) -> Settings:
    """What a graph says.

    Args:
        prompt: the graph that ran. workflow: the graph on the screen, read where the other is not there.

    Raises:
        ImageError: the text is damaged.
    """
    if prompt is not None:
        raw = table(prompt, "graph of ComfyUI")
    else:
        raw = screen.graph(table(workflow or "", "workflow of ComfyUI"))
    graph = Graph(dict(_nodes(raw)))
    last = graph.sampler()
    if last is None:
        kinds = sorted({node.kind for node in graph.nodes.values() if "ampler" in node.kind})
        told = f"no sampler that is known ({', '.join(kinds[:5])})" if kinds else "no sampler"
        return Settings(COMFYUI, unread=(told,))
    first, found = _first(graph, last)
    found |= _numbers(graph, first) | _guided(graph, first)
    return Settings(COMFYUI, **found, unread=tuple(graph.unread))


def _nodes(raw: dict[str, Any]) -> Iterator[tuple[str, Node]]:
    for name, node in raw.items():
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict):
            yield name, Node(name, str(node.get("class_type")), node["inputs"])


def _first(graph: Graph, last: Node) -> tuple[Node, dict[str, Any]]:
    """The first pass, and what it began on."""
    sampler, found = last, dict[str, Any]()
    for _ in range(MOST_PASSES):
        before = None
        for node in graph.way(sampler, "latent_image", *LATENTS):
            if node.kind in SAMPLERS:
                before = node
                break
            width, height = whole(graph.value(node, "width")), whole(graph.value(node, "height"))
            if node.kind == "LoadImage":
                found = {"image": str(node.inputs.get("image") or "")}
            elif node.kind.startswith("Empty") and width and height:
                found = {"size": (width, height)}
                if (whole(graph.value(node, "batch_size")) or 1) > 1:
                    graph.missed("one picture of a batch, whose noise depends on its place there")
            elif node.kind not in QUIET:
                graph.missed(f"a {node.kind} on the way of the picture")
        if before is None:
            break
        told = _numbers(Graph(graph.nodes), sampler)
        graph.missed(f"a later pass ({told.get('steps')} steps, denoise {told.get('strength', 1)})")
        sampler = before
    return sampler, found


def _numbers(graph: Graph, node: Node) -> dict[str, Any]:
    """Seed, steps, sampler, schedule and strength of a sampler's node."""
    noise, select, sigmas = (graph.behind(node.inputs.get(name)) for name in ("noise", "sampler", "sigmas"))
    seeded, named, laid = noise or node, select or node, sigmas or node
    steps, denoise = whole(graph.value(laid, "steps")), real(graph.value(laid, "denoise"))
    schedule = words(graph.value(laid, "scheduler"))
    if sigmas is not None and schedule is None:
        schedule = sigmas.kind.removesuffix("Scheduler").lower()
        ends = {name: value for name, value in sigmas.inputs.items() if name != "steps" and real(value) is not None}
        if ends:
            graph.missed(f"of the {sigmas.kind}: " + ", ".join(f"{name} {value}" for name, value in ends.items()))
    if node.kind == "KSamplerAdvanced" and steps:
        begin, end = (whole(graph.value(node, name)) for name in ("start_at_step", "end_at_step"))
        if begin:
            denoise, steps = (steps - begin) / steps, steps - begin
        if end is not None and begin is not None and end < begin + steps:
            graph.missed(f"it ends at step {end}")
    seed = whole(graph.value(seeded, "noise_seed"))
    found: dict[str, Any] = {
        "steps": steps,
        "seed": whole(graph.value(seeded, "seed")) if seed is None else seed,
        "sampler": words(graph.value(named, "sampler_name")),
        "schedule": schedule,
    }
    if denoise is not None and denoise < 1:
        found["strength"] = denoise
    return found


def _guided(graph: Graph, node: Node) -> dict[str, Any]:
    """Texts, guidance, model and what stands between, of a sampler's node."""
    guider = graph.behind(node.inputs.get("guider")) or node
    positive = "positive" if "positive" in guider.inputs else "conditioning"
    found: dict[str, Any] = {"guidance": real(graph.value(guider, "cfg")), "other": {}}
    if guider.kind == "BasicGuider":
        found["guidance"] = 1.0
    found["prompt"], encoder = _text(graph, guider, positive, found)
    found["negative"], _ = _text(graph, guider, "negative", found) if "negative" in guider.inputs else ("", None)
    loras: list[tuple[str, float]] = []
    for each in graph.way(guider, "model", "model"):
        model = next((words(graph.value(each, name)) for name in MODELS if name in each.inputs), None)
        lora, rescale = words(graph.value(each, "lora_name")), real(graph.value(each, "multiplier"))
        if lora:
            loras.append((lora, real(graph.value(each, "strength_model")) or 0.0))
        elif each.kind == "RescaleCFG" and rescale is not None:
            found["rescale"] = rescale
        elif model:
            found["model"] = model
            break
        elif each.kind not in QUIET:
            graph.missed(f"a {each.kind} on the way of the model")
    for each in graph.way(encoder, "clip", "clip") if encoder else ():
        layer = whole(graph.value(each, "stop_at_clip_layer"))
        if layer is not None and layer < 0:
            found["clip_skip"] = -layer
            break
    return {**found, "loras": tuple(loras)}


def _text(graph: Graph, node: Node, name: str, found: dict[str, Any]) -> tuple[str, Node | None]:
    """The text behind an input of conditioning, and the node that encodes it."""
    side = "negative" if name == "negative" else "positive"
    following = ("conditioning", side, "conditioning_1", "conditioning_to", "positive", "negative")
    for each in graph.way(node, name, *following):
        texts = [words(graph.value(each, key)) for key in ("text", "t5xxl", "text_g", "clip_l", "text_l", "prompt")]
        told = list(dict.fromkeys(text for text in texts if text is not None))
        if "clip" in each.inputs:
            if len(told) > 1:
                graph.missed(f"the second text of a {each.kind}: {told[1][:60]!r}")
            return (told[0] if told else ""), each
        if each.kind == "ConditioningZeroOut":
            return "", None
        distilled = real(graph.value(each, "guidance"))
        if each.kind == "FluxGuidance" and distilled is not None:
            found["other"]["guidance of FLUX"] = number(distilled)
        elif each.kind not in QUIET:
            graph.missed(f"a {each.kind} on the way of the {side} prompt")
    return "", None


def known(texts: Mapping[str, str]) -> bool:
    """Whether a file with these texts is ComfyUI's; others call words a prompt that are no graph."""
    return any(texts.get(name, "").lstrip().startswith(("{", "[")) for name in ("prompt", "workflow"))
