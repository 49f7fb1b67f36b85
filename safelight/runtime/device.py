"""The one place that picks the device, the number format and the threads.

What a flag says comes first, then the environment, then what the machine has:

    SAFELIGHT_DEVICE    cpu, cuda, cuda:1, mps, xpu
    SAFELIGHT_DTYPE     float32, float16, bfloat16
    SAFELIGHT_THREADS   threads of one operation on a CPU, 1 and up
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from safelight.errors import DeviceError, RequestError, UnknownNameError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SHORT_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
DEVICES = ("cuda", "xpu", "mps", "cpu")  # in the order of preference


@dataclass(frozen=True)
class Place:
    """Where a model computes, and in what numbers.

    Args:
        device: one device of this machine.
        dtype: of the weights and of what the network computes; the sampler's state is float32 whatever this says.
        threads: of one operation on a CPU, 1 and up. Results may differ in the last bits between thread counts,
            so a recipe records it.
    """

    device: torch.device
    dtype: torch.dtype
    threads: int

    def __str__(self) -> str:
        return f"{self.device} {str(self.dtype).removeprefix('torch.')}, {self.threads} thread{'s'[: self.threads > 1]}"


def pick(
    device: str | None = None,
    dtype: str | None = None,
    threads: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Place:
    """Choose the place to compute, and set the process's number of threads to it.

    Args:
        device: a name such as ``"cuda:1"``; ``None`` or ``"auto"`` for the environment's or the best there is.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"`` (or fp32, fp16, bf16); ``None`` or ``"auto"`` for the
            environment's, or float32 on a CPU and the half format that the accelerator computes well.
        threads: 1 and up; ``None`` for the environment's or torch's own choice (``OMP_NUM_THREADS``, else cores).
        environment: where the ``SAFELIGHT_`` variables are looked up.

    Raises:
        UnknownNameError: no device or format is called so.
        DeviceError: this machine does not have the device.
        RequestError: the number of threads is below 1 or above what any machine has.
    """
    where = _device(_said(device, environment, "SAFELIGHT_DEVICE"))
    numbers = _dtype(_said(dtype, environment, "SAFELIGHT_DTYPE"), where)
    place = Place(where, numbers, _threads(threads, environment))
    adopt(place)
    return place


def adopt(place: Place) -> None:
    """Set the process's number of threads to that of a place."""
    if place.threads != torch.get_num_threads():
        torch.set_num_threads(place.threads)


def wait(device: torch.device) -> None:
    """Let a device finish what it was told to do, so that a clock can be read."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def devices() -> list[torch.device]:
    """Every device that torch can use on this machine, accelerators first, the CPU last."""
    found = []
    for kind in DEVICES:
        found += [torch.device(kind, index) for index in range(_count(kind))] if kind != "cpu" else []
    return [*found, torch.device("cpu")]


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16; without them, a CPU takes ten to thirty times as long as for
    float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(known.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def describe(device: torch.device) -> str:
    """One line for a person: the device's name and memory where torch knows them."""
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        return f"{device}: {facts.name}, {facts.total_memory / 2**30:.0f} GiB"
    if device.type == "cpu":
        return f"cpu: {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
    return str(device)


def _said(flag: str | None, environment: Mapping[str, str], variable: str) -> str | None:
    said = (flag or environment.get(variable) or "auto").strip().lower()
    return None if said == "auto" else said


def _device(name: str | None) -> torch.device:
    if name is None:
        return devices()[0]
    kind, _, index = name.partition(":")
    if kind not in DEVICES or (index and not index.isdecimal()):
        raise UnknownNameError("device", name, ["auto", *DEVICES])
    count = _count(kind)
    if int(index or 0) >= count:
        have = ", ".join(str(device) for device in devices())
        raise DeviceError(f"this machine has no device {name!r} that torch {torch.__version__} can use; it has: {have}")
    return torch.device("cpu") if kind == "cpu" else torch.device(kind, int(index or 0))


def _count(kind: str) -> int:
    if kind == "cpu":
        return 1
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    module = torch.cuda if kind == "cuda" else torch.xpu
    return module.device_count() if module.is_available() else 0


def _dtype(name: str | None, device: torch.device) -> torch.dtype:
    if name is not None:
        long = SHORT_DTYPES.get(name, name)
        if long not in DTYPES:
            raise UnknownNameError("dtype", name, ["auto", *DTYPES, *SHORT_DTYPES])
        return DTYPES[long]
    if device.type == "cpu":
        return torch.float32
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16 if device.type in ("cuda", "xpu") else torch.float16


def _threads(asked: int | None, environment: Mapping[str, str]) -> int:
    said = environment.get("SAFELIGHT_THREADS", "")
    if asked is None and said:
        if not said.strip().isdecimal():
            raise RequestError(f"SAFELIGHT_THREADS is {said!r}; it must be a whole number from 1 to 1024")
        asked = int(said)
    if asked is None:
        return torch.get_num_threads()
    if not 1 <= asked <= 1024:
        raise RequestError(f"threads must be from 1 to 1024, not {asked}")
    return asked
