"""What is trained, and how much of it counts."""

from collections.abc import Mapping
from typing import Any

import vtune
from vtune.data import Data

MIXED = {
    "beta1": vtune.reverse_loguniform(0.8, 0.99),
    "batch_size": vtune.powers_of_two(32, 256),
    "hidden": vtune.integers(16, 256, log=True),
    "layers": vtune.integers(1, 4),
}
"""Networks of all sizes; learning rates come with the benchmark."""

ONE_SHAPE = {**MIXED, "batch_size": 64, "hidden": 64, "layers": 2}
"""Networks of one size, which compile once: what a map over numbers can vary."""


def useful_flops(params: Mapping[str, Any], data: Data, epochs: int) -> int:
    """Returns the floating-point operations of one MLP at its true size: padding and the optimizer do not count.

    4 per weight of the first layer and trained row, as no gradient of the input is needed, and 6 per other weight.

    Args:
        params: hidden, layers and batch_size at least.
        data: that it is trained on.
        epochs: how many.
    """
    first, *others = vtune.MLP.elastic.row_macs(params, vtune.Shapes(data.inputs, data.outputs))
    rows_of_epoch = data.num_train // params["batch_size"] * params["batch_size"]
    return epochs * rows_of_epoch * (4 * first + 6 * sum(others))
