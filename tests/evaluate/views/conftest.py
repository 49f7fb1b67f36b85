"""Three people from four cameras in front, drawn once."""

from __future__ import annotations

import numpy as np
import pytest

from safelight.evaluate.views.trial import Exam, exam
from safelight.evaluate.views.truth import Truth, cameras
from tests.evaluate.views.front import FRONT, quiet


@pytest.fixture(scope="session")
def prepared() -> Exam:
    return exam(3, cameras(FRONT), quiet, asked=False)


@pytest.fixture(scope="session")
def one(prepared: Exam) -> Truth:
    return prepared.truths[0]


@pytest.fixture(scope="session")
def wrong(prepared: Exam) -> np.ndarray:
    """The first person's views at azimuths of the other sign, what a flipped sign draws (but for height)."""
    return np.ascontiguousarray(prepared.truths[0].pictures[::-1])
