"""What a folder says of a search that goes on in it: is it the same one, and how many trials was it to have?"""

import json
from collections.abc import Mapping
from typing import Any

from vtune.results.store import Held, unused_name

MAY_DIFFER = ("trials",)
"""The settings that may differ where a search is continued."""


def check_same(kept: Held, settings: Mapping[str, Any]) -> None:
    """Refuses to go on with another search than the one that the folder holds.

    Args:
        kept: what the folder holds.
        settings: of the search that is asked for: all that JSON can hold and that decides its trials.

    Raises:
        ValueError: for a setting that differs, with both values.
    """
    asked = json.loads(json.dumps(settings))
    for name, value in asked.items():
        before = kept.record.get(name)
        if name not in MAY_DIFFER and before != value:
            raise ValueError(
                f'folder "{kept.path}" holds a search with {_told(name, before)}, and this one has '
                f"{_told(name, value)}. "
                f'Write the same to continue that search, or a new folder, such as "{unused_name(kept.path)}".'
            )


def stages(kept: Held | None, trials: int) -> tuple[int, ...]:
    """Returns how many trials there were to be each time the search was asked for, ``trials`` the last.

    Raises:
        ValueError: where there are to be fewer than before.
    """
    before = tuple(kept.record["stages"]) if kept else ()
    if before and trials < before[-1]:
        raise ValueError(
            f"trials={trials}: the folder holds a search of {before[-1]}. Write trials={before[-1]} to see it through, "
            "or more to continue it."
        )
    return before if before and trials == before[-1] else (*before, trials)


def ladder_of(kept: Held, ladder: str) -> str:
    """Returns the ladder that the kept search has, as JSON.

    Raises:
        ValueError: where another one is asked for.
    """
    recorded = json.dumps(kept.record["ladder"], sort_keys=True)
    if ladder not in ("auto", recorded):
        raise ValueError(
            f'ladder: the search in folder "{kept.path}" has a ladder of its own. Write ladder="auto" to continue it, '
            f'or a new folder, such as "{unused_name(kept.path)}".'
        )
    return recorded


def _told(name: str, value: Any) -> str:
    return f"another {name}" if isinstance(value, str) and len(value) > 60 else f"{name}={value!r}"
