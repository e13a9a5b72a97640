"""Which hyperparameters a trial uses: the others are inactive, and decide nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Num

from vtune.protocols import Hparams
from vtune.space import Space
from vtune.training.inspection import Reads


@dataclass(frozen=True)
class Usage:
    """Tells active hyperparameters from inactive ones.

    A trial uses what its model, its optimizer and the engine read of it, along the way that its own constants decide:
    Adam reads ``beta1``, momentum does not. Of what a space has per layer it uses what belongs to a layer it has.

    Attributes:
        space: defaults included.
        reads: what is read.
    """

    space: Space
    reads: Reads

    def used(self, row: Hparams) -> dict[str, Any]:
        """Returns what a trial uses, by name.

        Args:
            row: a value for every name of the space.
        """
        lacking = {name for name, has_layer in self.space.has_layer(row).items() if not has_layer}
        names = self.reads.names(row) - lacking
        return {name: value for name, value in row.items() if name in names}

    def complete(self, used: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what a program is given of a trial: for a name that it does not use, always the same value.

        So an inactive hyperparameter decides neither the program of a trial nor any of its bits.

        Args:
            used: what ``used`` returned, or as much of it as varies.
        """
        return {**self._lowest, **used}

    def mask(self, used: Sequence[Mapping[str, Any]]) -> Bool[np.ndarray, "trials axes"]:
        """Returns which coordinates of their points trials use, from what ``used`` returned for each."""
        return np.array([[name in row for name in self.space.parameters] for row in used])

    def trace(
        self, points: Float[Array, "trials axes"], dtypes: Mapping[str, str], constants: Mapping[str, Any]
    ) -> tuple[dict[str, Num[Array, " trials"]], Float[Array, "trials axes"]]:
        """Returns, inside a program, what the program is given of trials, and their points, NaN where not used.

        Args:
            points: of the unit cube.
            dtypes: the hyperparameters that are data, each with its type.
            constants: the values of all others, the same for all trials.
        """
        hparams, reads = self.space.trace(points, dtypes), self.reads.names({**self._lowest, **constants})
        has_layer = self.space.has_layer({**constants, **hparams})
        for name in hparams.keys() & has_layer.keys():
            hparams[name] = jnp.where(has_layer[name], hparams[name], np.array(self._lowest[name], dtypes[name]))
        used = [(name in reads) & jnp.asarray(has_layer.get(name, True)) for name in self.space.parameters]
        mask = jnp.stack([jnp.broadcast_to(column, points.shape[:1]) for column in used], axis=1)
        return hparams, jnp.where(mask, points, jnp.nan)

    @cached_property
    def _lowest(self) -> dict[str, Any]:
        (row,) = self.space.rows(np.zeros((1, len(self.space.axes))))
        return row
