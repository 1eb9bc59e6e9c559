"""How errors are told: by text to a person at the command line, by kind and place where the text may hold a secret."""

from __future__ import annotations

import traceback
from pathlib import Path


class UnusableInputError(Exception):
    """What was given cannot be used; the text says where, why and what to do, on one line or several."""


def place_of(error: BaseException) -> str:
    """Return the kind of `error` and the line that raised it, its text left out."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
