"""Checks of arguments that several calls of users share: what was written, why it cannot be, what to write instead."""

from collections.abc import Hashable
from os import PathLike
from typing import Any

import numpy as np


def check_count(name: str, value: Any, least: int, example: int) -> None:
    """Refuses what is not a whole number of at least ``least``.

    Args:
        name: of the argument, as the user wrote it.
        value: what the user wrote.
        least: the smallest number that makes sense.
        example: one that does, for the message.

    Raises:
        ValueError: for anything else.

    Example:
        >>> check_count("rounds", 0, least=1, example=4)
        Traceback (most recent call last):
        ValueError: rounds=0: this must be a whole number of 1 or more. Write for example rounds=4.
    """
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not (is_whole and value >= least):
        raise ValueError(
            f"{name}={value!r}: this must be a whole number of {least} or more. Write for example {name}={example}."
        )


def check_model_fn(model_fn: Any) -> None:
    """Refuses a model function that cannot be called, or not be kept by.

    Raises:
        TypeError: for such a one.
    """
    if not callable(model_fn):
        raise TypeError(
            f"model_fn={model_fn!r} cannot be called. Write a function that returns a Flax module, or vtune.MLP."
        )
    if not isinstance(model_fn, Hashable):
        raise TypeError(f"model_fn={model_fn!r} cannot be hashed, and programs are remembered by it. Write a function.")


def check_chunk(chunk: Any) -> None:
    """Refuses what is neither "auto" nor a number of lanes.

    Raises:
        ValueError: for such a value.
    """
    if not (isinstance(chunk, str) and chunk == "auto"):
        check_count("chunk", chunk, least=1, example=64)


def check_folder(folder: Any) -> None:
    """Refuses what is neither a path nor None.

    Raises:
        TypeError: for anything else.
    """
    if not isinstance(folder, str | PathLike | None):
        raise TypeError(f'folder={folder!r} is no path. Write one as a string, such as "studies/first".')
