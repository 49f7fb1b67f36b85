"""The self-test says yes to this machine, no to a wrong one, and its known answers are right."""

from __future__ import annotations

import math
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from safelight.runtime import selftest as st

CPU = torch.device("cpu")
T = TypeVar("T")


def test_this_machine_passes_within_a_second() -> None:
    findings = st.selftest([CPU])
    assert [finding.name for finding in findings] == ["start noise", "attention", "convolution"]
    assert all(finding.ok for finding in findings), findings
    assert sum(finding.seconds for finding in findings) < 1


def test_the_noise_is_what_torch_draws_for_the_seed() -> None:
    noise = torch.randn((1, *st.NOISE_SHAPE), generator=torch.Generator("cpu").manual_seed(st.NOISE_SEED))
    assert st.check_noise(noise) == (True, "the known bits (d8607ea4)")
    nudged = noise + 1e-7
    assert "other bits" in st.check_noise(nudged)[1]
    assert not st.check_noise(noise.flip(-1))[0]


def _some(values: list[T], count: int) -> list[T]:
    return values[:: len(values) // count][:count]


def test_the_known_attention_is_the_formula_written_out() -> None:
    q, k, v = (st.pattern(1, 2, 64, 32, salt=salt).double()[0].tolist() for salt in (1, 2, 3))
    rows = []
    for head in range(2):
        for query in q[head]:
            scores = [math.exp(8 * sum(a * b for a, b in zip(query, key)) / math.sqrt(32)) for key in k[head]]
            total = sum(scores)
            rows += [sum(s * row[c] for s, row in zip(scores, v[head])) / total for c in range(32)]
    assert _some(rows, len(st.ATTENTION_HEAD)) == pytest.approx(st.ATTENTION_HEAD, abs=2e-9)


def test_the_known_convolution_is_the_formula_written_out() -> None:
    x, weight = (t.double().tolist() for t in (st.pattern(8, 32, 32, salt=4), st.pattern(16, 8, 3, 3, salt=5)))

    def at(out: int, row: int, column: int) -> float:
        return sum(
            weight[out][c][i][j] * x[c][row + i - 1][column + j - 1]
            for c in range(8)
            for i in range(3)
            for j in range(3)
            if 0 <= row + i - 1 < 32 and 0 <= column + j - 1 < 32
        ) / math.sqrt(72)

    places = _some([(o, r, c) for o in range(16) for r in range(32) for c in range(32)], len(st.CONVOLUTION_HEAD))
    assert [at(*place) for place in places] == pytest.approx(st.CONVOLUTION_HEAD, abs=2e-9)


def test_a_device_without_float64_is_tested_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")

    monkeypatch.setattr(Tensor, "double", refused)
    assert all(finding.ok for finding in st.selftest([CPU]))
    monkeypatch.setattr(st, "convolution", refused)
    assert [finding.ok for finding in st.selftest([CPU])] == [True, True, False]


@pytest.mark.parametrize("name", ["attend", "F"])
def test_a_machine_that_computes_wrongly_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return v * 0.99

        def conv2d(self, x: Tensor, weight: Tensor, padding: int) -> Tensor:
            raise RuntimeError("no kernel image is available\nfor execution on the device")

    monkeypatch.setattr(st, name, Wrong())
    wrong = [finding for finding in st.selftest([CPU]) if not finding.ok]
    assert len(wrong) == 1
    assert "\n" not in wrong[0].detail
