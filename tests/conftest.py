"""What holds for every test: one thread, no network, and warnings of our own as errors.

This is the one place where the references' warnings are silenced, each by name.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import pytest

# Before torch is loaded by anyone: bits may depend on the number of threads, and two workers share two cores.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
# The references would look for newer files on their hub; everything here is made here.
for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS"):
    os.environ[variable] = "1"
# A user's settings are not ours.
for variable in [name for name in os.environ if name.startswith("SAFELIGHT_")]:
    del os.environ[variable]
os.environ["NO_COLOR"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

REFERENCES = ("accelerate", "diffusers", "huggingface_hub", "k_diffusion", "torchdiffeq", "torchsde", "transformers")
LOCAL = ("127.0.0.1", "::1", "localhost")


def pytest_configure(config: pytest.Config) -> None:
    lines = [f"ignore::Warning:{name}" for name in REFERENCES]
    # Later lines come first: what safelight itself causes is an error.
    for line in [*lines, "error:::safelight"]:
        config.addinivalue_line("filterwarnings", line)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Whatever the test before it asked for: bits of this process are compared with those of another."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections leave this machine only in tests that say so."""
    if request.node.get_closest_marker("network") is not None:
        return
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else LOCAL[0]  # a path: a socket of this machine
        assert host in LOCAL, f"a test without the mark 'network' connects to {host}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def laid_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights lie in memory of their own, all alike, and not where a file has them.

    Without AVX-512, kernels add up otherwise for numbers that begin elsewhere in a line of memory; so equal weights of
    two files give equal bits only where they lie alike.
    """
    from torch import nn

    plain = nn.Module.load_state_dict

    def copied(self: nn.Module, tensors: Any, *words: Any, **named: Any) -> Any:
        return plain(self, {name: tensor.clone() for name, tensor in tensors.items()}, *words, **named)

    monkeypatch.setattr(nn.Module, "load_state_dict", copied)
