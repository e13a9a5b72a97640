"""Warnings that point at the line of the user that led to them."""

import os
import sys
import warnings
from pathlib import Path

_HERE = str(Path(__file__).parent) + os.sep


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warns as from the line that called vtune, however deep in vtune the cause was found.

    Args:
        message: what is wrong, and what to write instead.
        category: the kind of warning, by which users filter.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
