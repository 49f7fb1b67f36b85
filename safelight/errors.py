"""One tree of exceptions: every error that a user can cause says what is wrong and what to do.

    SafelightError
    ├── FileError               a file cannot be read or written
    │   ├── WeightsError        a model file is missing, truncated, hostile, or holds other keys or shapes
    │   ├── ConfigError         a configuration file says something that this program does not know
    │   ├── ImageError          a picture cannot be read: unreadable, too large, or of another mode
    │   └── ExistsError         a file would be overwritten
    ├── RequestError            a request that cannot be honoured: sizes, steps, guidance, combinations
    │   ├── PromptError         a prompt that cannot be encoded
    │   └── UnknownNameError    a name that is in no table; lists the nearest ones
    ├── PredictionError         a network's prediction is not defined at this noise level
    ├── CheckpointError         a training run cannot be resumed or started from what was found
    ├── TrainingError           a training run cannot go on: its numbers are no numbers any more
    └── DeviceError             a device or number format that this machine does not have
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SafelightError(Exception):
    """Root of the tree; ``str(error)`` is one line for a person, with what to do."""


class FileError(SafelightError):
    """A file cannot be read or written."""


class WeightsError(FileError):
    """A model file is missing, truncated, hostile, or holds other keys or shapes than the model."""


class ConfigError(FileError):
    """A configuration file says something that this program does not know."""


class ImageError(FileError):
    """A picture cannot be read: unreadable, too large, or of another mode or size."""


class ExistsError(FileError):
    """A file would be overwritten."""


class RequestError(SafelightError):
    """A request that cannot be honoured: sizes, steps, guidance, or a combination of options."""


class PromptError(RequestError):
    """A prompt that cannot be encoded."""


class UnknownNameError(RequestError):
    """A name that is in no table.

    Args:
        kind: what was asked for, such as ``"sampler"``.
        name: the name as given.
        known: every name that would have been accepted.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        nearest = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.4) or names[:8]
        known_here = f"the nearest known: {', '.join(nearest)}" if nearest else "none is known here"
        super().__init__(f"unknown {kind} {name!r}; {known_here}")
        self.kind, self.name, self.nearest = kind, name, nearest


class PredictionError(SafelightError):
    """A network's prediction is not defined at this noise level."""


class CheckpointError(SafelightError):
    """A training run cannot be resumed or started from what was found."""


class TrainingError(SafelightError):
    """A training run cannot go on: its numbers are no numbers any more."""


class DeviceError(SafelightError):
    """A device or number format that this machine does not have."""
