"""Loads k-diffusion's samplers alone: the package's own __init__ imports training code with heavy dependencies."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import types

import torch


@functools.cache
def image() -> types.ModuleType:
    """The module ``k_diffusion.models.image_v1``, of whose neighbours only what it needs is imported."""
    package = sys.modules[sampling().__name__.partition(".")[0]]
    models = types.ModuleType("k_diffusion.models")
    models.__path__ = [f"{place}/models" for place in package.__path__]
    sys.modules["k_diffusion.models"] = models
    unused = {"dctorch": ("functional",), "einops": ("rearrange", "repeat")}  # by losses and other networks only
    stand_ins = {name: types.ModuleType(name) for name in unused if name not in sys.modules}
    for name, stand_in in stand_ins.items():
        stand_in.__dict__.update(dict.fromkeys(unused[name]))
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module("k_diffusion.models.image_v1")
    finally:
        for name in stand_ins:
            del sys.modules[name]


@functools.cache
def sampling() -> types.ModuleType:
    """The module ``k_diffusion.sampling``, behind a package that imports nothing else."""
    spec = importlib.util.find_spec("k_diffusion")
    assert spec is not None, "k-diffusion is not installed: pip install --no-deps k-diffusion"
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations or [])
    utils = types.ModuleType("k_diffusion.utils")

    def append_dims(x: torch.Tensor, ndim: int) -> torch.Tensor:
        return x[(...,) + (None,) * (ndim - x.ndim)]

    utils.append_dims = append_dims  # type: ignore[attr-defined]
    package.utils = utils  # type: ignore[attr-defined]
    sys.modules["k_diffusion"], sys.modules["k_diffusion.utils"] = package, utils
    return importlib.import_module("k_diffusion.sampling")
