"""A network of an adapter, loaded, with the files that it was read from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from torch import nn

from safelight.weights.hash import sha256

Network = TypeVar("Network", bound=nn.Module, covariant=True)


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
