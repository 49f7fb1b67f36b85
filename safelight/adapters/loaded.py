"""A network of an adapter, loaded, with the files that it was read from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor, nn

from safelight.errors import WeightsError
from safelight.weights.folder import weight_files
from safelight.weights.hash import sha256
from safelight.weights.sound import unsound

Network = TypeVar("Network", bound=nn.Module, covariant=True)
Read = TypeVar("Read", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Loaded(Generic[Network]):
    """A network for any number of requests.

    Attributes:
        network: on the device of the model that it is used with. name: for errors and recipes.
        files: that were read.
    """

    network: Network
    name: str
    files: tuple[Path, ...] = ()

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file, read once."""
        return {file.name: sha256(file) for file in self.files}


def beside(network: Read, path: Path, weight: Tensor, *, variant: str = "", pickles: bool = False) -> Loaded[Read]:
    """A network that was read from ``path``, put where the weights of a model lie, in their number format.

    Args:
        weight: one of the model's. variant, pickles: what it was read with.

    Raises:
        WeightsError: a number in it that is none.
    """
    network.to(weight).requires_grad_(False)
    if broken := unsound(network):
        raise WeightsError(f"{path}: the tensor {broken} holds what is no number in {weight.dtype}; download it again")
    files = [path / "config.json", *weight_files(path, variant, pickles=pickles)] if path.is_dir() else [path]
    return Loaded(network, path.stem, tuple(files))
