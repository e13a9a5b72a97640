"""The optimizers known by name: from a trial's scalars to an Optax transformation.

A user's function of the same kind may take their place. They are built inside the trace, so their numbers are data:
no ``inject_hyperparams``, no retrace for a value.
"""

from collections.abc import Callable

import optax

from vtune.protocols import Hparams

Optimizer = Callable[[Hparams], optax.GradientTransformation]


def _adam(hparams: Hparams) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015)."""
    return optax.adam(hparams["learning_rate"], b1=hparams["beta1"], b2=hparams["beta2"], eps=hparams["epsilon"])


def _momentum(hparams: Hparams) -> optax.GradientTransformation:
    """Gradient descent with momentum (Polyak 1964), as Optax has it: the sum is not scaled by 1 - momentum."""
    return optax.sgd(hparams["learning_rate"], momentum=hparams["momentum"])


def _rmsprop(hparams: Hparams) -> optax.GradientTransformation:
    """RMSProp (Tieleman & Hinton 2012) with momentum; its average of squares keeps Optax's window of 0.9."""
    return optax.rmsprop(hparams["learning_rate"], eps=hparams["epsilon"], momentum=hparams["momentum"])


def _sgd(hparams: Hparams) -> optax.GradientTransformation:
    """Plain gradient descent."""
    return optax.sgd(hparams["learning_rate"])


OPTIMIZERS: dict[str, Optimizer] = {"adam": _adam, "momentum": _momentum, "rmsprop": _rmsprop, "sgd": _sgd}


def named(hparams: Hparams) -> optax.GradientTransformation:
    """The one that the trial's ``optimizer`` names: a string, and so a constant of each program."""
    return OPTIMIZERS[hparams["optimizer"]](hparams)
