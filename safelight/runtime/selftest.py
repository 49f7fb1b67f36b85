"""One second of arithmetic with known answers: does this machine compute what the program was tested with?

The start noise is compared bit by bit (SHA-256 of its float32 bytes), attention and convolution by value, against
numbers computed in float64. A machine whose random numbers differ in their last bits still draws well; it draws
slightly other pictures for the same seed, and says so here.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from safelight.core.noise import start_noise
from safelight.nn.attention import attend

NOISE_SEED, NOISE_SHAPE = 42, (4, 16, 16)
NOISE_SHA256 = "d8607ea4ae1d5a731e50f615a12d198e0a1531cfe4e48cac3d228e521fd969f8"
NOISE_HEAD = (
    1.926915288, 1.487284064, 0.900717199, -2.105520964, 0.678418458, -1.234544873, -0.043067478, -1.604666948,
)
ATTENTION_HEAD = (
    -0.010011883, 0.023440003, -0.177316031, -0.206923377, 0.235369781, -0.013495899, -0.222840261, -0.152773741,
)
CONVOLUTION_HEAD = (
    0.109695823, 0.115824090, 0.121952343, 0.128080604, -0.099089239, -0.092960985, 0.056002857, 0.062131110,
)
# Largest distance from the float64 answers, which are below 2. Accelerators may round inputs to TF32.
CPU_BOUND, ACCELERATOR_BOUND = 1e-5, 1e-2


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Args:
        name: what was computed.
        device: where.
        ok: whether pictures drawn here can be trusted.
        detail: one line: the distance from the known answer, or what it means.
        seconds: wall time.
    """

    name: str
    device: str
    ok: bool
    detail: str
    seconds: float


def selftest(devices: list[torch.device]) -> list[Finding]:
    """Every check: the start noise on the CPU, where it is always drawn, then the layers on each device."""
    findings = [_timed("start noise", torch.device("cpu"), lambda _: check_noise(start_noise(NOISE_SEED, NOISE_SHAPE)))]
    for device in devices:
        findings.append(_timed("attention", device, lambda d: _near(attention(d), ATTENTION_HEAD, d)))
        findings.append(_timed("convolution", device, lambda d: _near(convolution(d), CONVOLUTION_HEAD, d)))
    return findings


def check_noise(noise: Tensor) -> tuple[bool, str]:
    """Whether the start noise is the one of every other machine, by bits or else by value, and a line on it."""
    if hashlib.sha256(noise.contiguous().numpy().tobytes()).hexdigest() == NOISE_SHA256:
        return True, f"the known bits ({NOISE_SHA256[:8]})"
    far = _farthest(noise.flatten()[: len(NOISE_HEAD)], NOISE_HEAD)
    if far < CPU_BOUND:
        return True, f"other bits than the tested machines', {far:.0e} apart: seeds give nearly the same pictures here"
    return False, "other numbers than every tested machine: seeds give other pictures here"


def pattern(*shape: int, salt: int) -> Tensor:
    """[*shape] float32 numbers between -1 and 1 from integer arithmetic, the same on every machine."""
    count = torch.Size(shape).numel()
    return ((torch.arange(count) * (2 * salt + 37) + salt) % 101 - 50).float().div(50).reshape(shape)


def attention(device: torch.device) -> Tensor:
    """[1, 2, 64, 32]: one attention of 64 tokens in two heads through the program's one entry point."""
    q, k, v = (pattern(1, 2, 64, 32, salt=salt).to(device) for salt in (1, 2, 3))
    return attend(8 * q, k, v)  # sharp enough that a wrong scale or order shows


def convolution(device: torch.device) -> Tensor:
    """[1, 16, 32, 32]: one 3x3 convolution, zeros around the picture, divided by the number of its inputs' root."""
    x, weight = pattern(1, 8, 32, 32, salt=4).to(device), pattern(16, 8, 3, 3, salt=5).to(device)
    return F.conv2d(x, weight, padding=1) / 72**0.5


def _near(found: Tensor, head: tuple[float, ...], device: torch.device) -> tuple[bool, str]:
    bound = CPU_BOUND if device.type == "cpu" else ACCELERATOR_BOUND
    # Numbers from all over the result, not only its first row.
    far = _farthest(found.flatten()[:: max(1, found.numel() // len(head))][: len(head)], head)
    return far <= bound, f"{far:.0e} from the known answer, at most {bound:.0e}"


def _farthest(found: Tensor, known: tuple[float, ...]) -> float:
    """The largest distance, in Python's own floats: not every accelerator has float64."""
    return max(abs(one - other) for one, other in zip(found.tolist(), known, strict=True))


def _timed(name: str, device: torch.device, check: Callable[[torch.device], tuple[bool, str]]) -> Finding:
    begin = time.perf_counter()
    try:
        ok, detail = check(device)
    except (RuntimeError, TypeError) as error:  # a torch that does not fit the device must not end the rest
        ok, detail = False, str(error).partition("\n")[0]
    return Finding(name, str(device), ok, detail, time.perf_counter() - begin)
