"""The best score against wall time, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from anytime.asked import best_at
from anytime.running import INSTALL, Outcome


def plot(by_data: Mapping[str, Mapping[str, Sequence[Outcome]]], seconds: float, file: Path) -> None:
    """Draws the error of the best network so far, median and quartiles over the seeds, one panel a data set.

    Raises:
        SystemExit: without Matplotlib, with the line that installs it.
    """
    try:
        from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise SystemExit(f"--plot needs Matplotlib: {INSTALL}") from None
    figure = Figure(figsize=(6 * len(by_data), 4), layout="constrained")
    moments = np.linspace(0, seconds, 600)
    for axes, (data, by_side) in zip(figure.subplots(1, len(by_data), squeeze=False)[0], by_data.items(), strict=True):
        last = 0.0
        for side, outcomes in by_side.items():
            errors = 1 - np.array([best_at(moments, outcome.better) for outcome in outcomes])
            quartiles = np.percentile(errors, [25, 50, 75], axis=0, method="inverted_cdf")
            low, middle, high = np.where(np.isfinite(quartiles), quartiles, 1.0)  # no network is right in no row
            (line,) = axes.step(moments, middle, where="post", label=side)
            axes.fill_between(moments, low, high, step="post", alpha=0.15, color=line.get_color())
            last = max(last, middle[-1])
        axes.set(title=data, xlabel="seconds since the start of the process", ylabel="validation error of the best")
        axes.set(xlim=(0, seconds), ylim=(0, min(1.0, 4 * last + 0.01)))
        axes.legend()
    figure.savefig(file)
