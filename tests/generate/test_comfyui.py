"""Graphs of ComfyUI, followed back from the picture; every graph here was made by hand from the names of its nodes."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.errors import ImageError
from safelight.generate.metadata import comfyui
from safelight.generate.metadata.settings import Settings

Graph = dict[str, dict[str, Any]]


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def plain(**sampler: Any) -> Graph:
    """The graph that everybody begins with."""
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    numbers = {"seed": 2**64 - 1, "steps": 20, "cfg": 8, "sampler_name": "euler", "scheduler": "karras", "denoise": 1}
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name="sd15.safetensors"),
        "2": node("CLIPTextEncode", text='a "hat",\n(red:1.2)', clip=["1", 1]),
        "3": node("CLIPTextEncode", text="blurry", clip=["1", 1]),
        "4": node("EmptyLatentImage", width=512, height=768, batch_size=1),
        "5": node("KSampler", **{**links, **numbers, **sampler}),
        "6": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
        "7": node("SaveImage", images=["6", 0], filename_prefix="x"),
    }


def read(graph: Graph) -> Settings:
    return comfyui.read(json.dumps(graph))


PLAIN = Settings(
    program="ComfyUI",
    prompt='a "hat",\n(red:1.2)',
    negative="blurry",
    steps=20,
    sampler="euler",
    schedule="karras",
    guidance=8.0,
    seed=2**64 - 1,
    size=(512, 768),
    model="sd15.safetensors",
)


def test_the_usual_graph_is_followed_whole() -> None:
    assert read(plain()) == PLAIN


def test_what_stands_between_is_followed_or_named() -> None:
    graph = plain(model=["11", 0])
    graph["8"] = node(
        "LoraLoader", model=["1", 0], clip=["1", 1], lora_name="ink.st", strength_model=0.8, strength_clip=1
    )
    graph["9"] = node("CLIPSetLastLayer", clip=["8", 1], stop_at_clip_layer=-2)
    graph["10"] = node("FreeU_V2", model=["8", 0], b1=1.3)
    graph["11"] = node("RescaleCFG", model=["10", 0], multiplier=0.7)
    graph["2"]["inputs"]["clip"] = graph["3"]["inputs"]["clip"] = ["9", 0]
    found = read(graph)
    assert (found.loras, found.clip_skip, found.rescale) == ((("ink.st", 0.8),), 2, 0.7)
    assert found.unread == ("a FreeU_V2 on the way of the model",)
    assert (found.prompt, found.model) == (PLAIN.prompt, PLAIN.model)


def test_values_from_other_nodes_are_found() -> None:
    graph = plain(seed=["8", 0], steps=["10", 0])
    graph["8"] = node("PrimitiveInt", value=77)
    graph["9"] = node("PrimitiveStringMultiline", value="from elsewhere")
    graph["10"] = node("SomebodysDice", low=1, high=6)
    graph["2"]["inputs"]["text"] = ["11", 0]
    graph["11"] = node("Reroute", **{"": ["9", 0]})
    found = read(graph)
    assert (found.seed, found.prompt, found.steps) == (77, "from elsewhere", None)
    assert found.unread == ("steps comes from a SomebodysDice",)


def test_a_picture_to_start_from_gives_its_name_and_its_strength() -> None:
    graph = plain(denoise=0.6)
    graph["4"] = node("VAEEncode", pixels=["8", 0], vae=["1", 2])
    graph["8"] = node("ImageScale", image=["9", 0], width=512, height=512)
    graph["9"] = node("LoadImage", image="start.png")
    found = read(graph)
    assert (found.image, found.strength, found.size) == ("start.png", 0.6, None)
    assert found.unread == ("a ImageScale on the way of the picture",)


def test_of_two_passes_the_first_is_read_and_the_second_named() -> None:
    graph = plain(seed=1)
    graph["8"] = node("LatentUpscaleBy", samples=["5", 0], upscale_method="bislerp", scale_by=1.5)
    graph["9"] = {"class_type": "KSampler", "inputs": {**graph["5"]["inputs"], "latent_image": ["8", 0]}}
    graph["9"]["inputs"] |= {"seed": 2, "steps": 12, "denoise": 0.5}
    graph["6"]["inputs"]["samples"] = ["9", 0]
    found = read(graph)
    assert (found.seed, found.steps, found.strength, found.size) == (1, 20, None, (512, 768))
    assert set(found.unread) == {"a LatentUpscaleBy on the way of the picture", "a later pass (12 steps, denoise 0.5)"}


def test_the_advanced_sampler_counts_its_steps_from_where_it_begins() -> None:
    graph = plain()
    inputs = graph["5"]["inputs"]
    inputs["noise_seed"] = inputs.pop("seed")
    del inputs["denoise"]
    graph["5"]["class_type"] = "KSamplerAdvanced"
    inputs |= {"add_noise": "enable", "start_at_step": 0, "end_at_step": 10000, "return_with_leftover_noise": "disable"}
    assert read(graph) == PLAIN
    inputs |= {"start_at_step": 5, "end_at_step": 15}
    found = read(graph)
    assert (found.steps, found.strength, found.unread) == (15, 0.75, ("it ends at step 15",))


def test_a_sampler_of_parts_is_put_together() -> None:
    graph = plain()
    graph["5"] = node(
        "SamplerCustomAdvanced",
        noise=["8", 0],
        guider=["9", 0],
        sampler=["10", 0],
        sigmas=["11", 0],
        latent_image=["4", 0],
    )
    graph["8"] = node("RandomNoise", noise_seed=2**64 - 1)
    graph["9"] = node("CFGGuider", model=["1", 0], positive=["2", 0], negative=["3", 0], cfg=8.0)
    graph["10"] = node("KSamplerSelect", sampler_name="euler")
    graph["11"] = node("BasicScheduler", model=["1", 0], scheduler="karras", steps=20, denoise=1.0)
    assert read(graph) == PLAIN
    graph["9"] = node("BasicGuider", model=["1", 0], conditioning=["12", 0])
    graph["12"] = node("FluxGuidance", conditioning=["2", 0], guidance=3.5)
    graph["11"] = node("KarrasScheduler", steps=20, sigma_max=14.6, sigma_min=0.03, rho=7.0)
    found = read(graph)
    assert (found.guidance, found.negative, found.other) == (1.0, "", {"guidance of FLUX": "3.5"})
    assert (found.schedule, found.prompt) == ("karras", PLAIN.prompt)
    assert found.unread == ("of the KarrasScheduler: sigma_max 14.6, sigma_min 0.03, rho 7.0",)


def test_controls_on_the_way_of_a_prompt_keep_its_sides_apart() -> None:
    graph = plain(positive=["8", 0], negative=["8", 1])
    graph["8"] = node("ControlNetApplyAdvanced", positive=["2", 0], negative=["3", 0], strength=1.0)
    found = read(graph)
    assert (found.prompt, found.negative) == (PLAIN.prompt, PLAIN.negative)
    assert found.unread == tuple(
        f"a ControlNetApplyAdvanced on the way of the {side} prompt" for side in ("positive", "negative")
    )


def test_the_saved_picture_is_followed_and_no_other() -> None:
    other = json.loads(json.dumps(plain(seed=3)).replace('["', '["0'))
    del other["6"], other["7"]
    graph = {f"0{name}": each for name, each in other.items()} | plain()
    assert read(graph) == PLAIN


def test_the_graph_on_the_screen_says_the_same() -> None:
    def shown(number: int, kind: str, values: list[Any], **links: int) -> dict[str, Any]:
        inputs = [{"name": name, "link": link} for name, link in links.items()]
        return {"id": number, "type": kind, "widgets_values": values, "inputs": inputs, "mode": 0}

    nodes = [
        shown(1, "CheckpointLoaderSimple", ["sd15.safetensors"]),
        shown(2, "CLIPTextEncode", [PLAIN.prompt], clip=1),
        shown(3, "CLIPTextEncode", ["blurry"], clip=2),
        shown(4, "EmptyLatentImage", [512, 768, 1]),
        shown(
            5,
            "KSampler",
            [2**64 - 1, "randomize", 20, 8, "euler", "karras", 1],
            model=3,
            positive=4,
            negative=5,
            latent_image=6,
        ),
        shown(6, "VAEDecode", [], samples=7),
        shown(7, "SaveImage", ["x"], images=8),
        {**shown(8, "SaveImage", ["y"], images=9), "mode": 2},
    ]
    begins = [(1, 1), (1, 1), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (6, 0)]
    links: list[Any] = [[place, *begin, 0, 0, "X"] for place, begin in enumerate(begins, 1)]
    assert comfyui.read(None, json.dumps({"nodes": nodes, "links": links})) == PLAIN
    named = [{"id": link[0], "origin_id": link[1], "origin_slot": link[2]} for link in links]
    assert comfyui.read(None, json.dumps({"nodes": nodes, "links": named})) == PLAIN


def test_a_graph_without_a_sampler_says_so() -> None:
    assert read({}).unread == ("no sampler",)
    assert read({"1": node("MySampler")}).unread == ("no sampler that is known (MySampler)",)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '{"a":' * 100_000, "1" * 5000, "", " " * (2**22 + 1)])
def test_a_damaged_graph_is_an_error_of_the_picture(text: str) -> None:
    for pair in ((text, None), (None, text)):
        with pytest.raises(ImageError, match=r"(graph|workflow) of ComfyUI"):
            comfyui.read(*pair)


def test_circles_and_long_chains_come_to_an_end() -> None:
    begun = time.perf_counter()
    circle = plain(model=["8", 0], seed=["8", 0], latent_image=["5", 0], positive=["9", 0])
    circle["8"] = node("Reroute", value=["8", 0], model=["8", 0])
    circle["9"] = node("ConditioningCombine", conditioning_1=["9", 0], conditioning_2=["9", 0])
    assert read(circle).steps == 20
    chain = plain(model=["c0", 0])
    chain |= {f"c{place}": node("Patch", model=[f"c{place + 1}", 0]) for place in range(10_000)}
    assert read(chain).unread == ("a Patch on the way of the model",)
    samplers = {f"s{place}": node("KSampler", latent_image=[f"s{place + 1}", 0]) for place in range(2_000)}
    read(samplers)
    assert time.perf_counter() - begun < 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just(["5", 0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_a_graph_holds_it_is_read_or_refused(data: st.DataObject) -> None:
    graph = plain()
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.sampled_from(sorted(graph)))
        name = data.draw(st.sampled_from(["inputs", "class_type", *graph[place].get("inputs", {})]))
        where: Any = graph[place] if name in ("inputs", "class_type") else graph[place]["inputs"]
        where[name] = data.draw(JSON)
        if not isinstance(graph[place].get("inputs"), dict):
            graph[place]["inputs"] = {}
    found = read(graph)
    assert isinstance(found.prompt, str) and (found.seed is None or isinstance(found.seed, int))
    comfyui.read(None, json.dumps(data.draw(st.dictionaries(st.sampled_from(["nodes", "links", "x"]), JSON))))
