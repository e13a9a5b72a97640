"""scikit-learn's MLPClassifier.

``partial_fit`` trains one epoch on the rows that it is given and keeps Adam's moments and its step count; ``fit``, also
with ``warm_start``, begins with new ones. Given the rows of the whole mini-batches in the order of the epoch, and told
not to shuffle, it takes the very steps of the other contestants. It checks its rows at every call; ``fit`` takes every
mini-batch out by index instead, and trains the remainder: that costs about as much.

Two things it does otherwise. Its Adam adds epsilon before the bias of the second moment is corrected, so where
gradients are tiny its first steps are shorter. And losses are of probabilities clipped at 1e-7.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.neural_network import MLPClassifier

from contest.work import Part, Weights, Work


class Given(MLPClassifier):
    """An MLPClassifier that begins with the weights that it is given."""

    def begin_with(self, weights: Weights) -> "Given":
        """Gives it weights, from the first layer to the last."""
        self.given_ = iter(weights.values())
        return self

    def _init_coef(self, fan_in: int, fan_out: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        layer = next(self.given_)
        return layer["kernel"].copy(), layer["bias"].copy()


def train_trial(work: Work, place: int) -> Float[np.ndarray, "epochs 2"]:
    """Trains a trial for all its epochs; what diverges has no losses from then on."""
    row, (x, y) = work.rows[place], work.train
    model = make(row).begin_with(work.weights[place])
    classes = np.arange(work.num_classes)
    curve = np.full((work.epochs, 2), np.nan)
    for epoch in range(work.epochs):
        rows = work.batches(epoch, row["batch_size"]).ravel()
        try:
            model.partial_fit(x[rows], y[rows], classes=classes)
        except ValueError as error:
            if "non-finite" not in str(error):
                raise
            break
        curve[epoch] = model.loss_, validate(model, work.valid)
    return curve


def make(row: Mapping[str, Any]) -> Given:
    """Returns the network of a row of hyperparameters, untrained."""
    return Given(
        hidden_layer_sizes=(row["hidden"],) * row["layers"],
        alpha=0.0,
        batch_size=row["batch_size"],
        learning_rate_init=row["learning_rate"],
        beta_1=row["beta1"],
        beta_2=row["beta2"],
        epsilon=row["epsilon"],
        shuffle=False,
        n_iter_no_change=np.inf,  # pyright: ignore[reportArgumentType]  # it never stops early
    )


def validate(model: MLPClassifier, valid: Part) -> float:
    """Returns the mean loss, with probabilities clipped as scikit-learn's own loss has them."""
    x, y = valid
    chosen = np.asarray(model.predict_proba(x))[np.arange(len(y)), y]
    return -float(np.log(np.maximum(chosen, np.finfo(chosen.dtype).eps)).mean())
