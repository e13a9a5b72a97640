"""Who trains a search: vtune, the loops that one would write instead, and other libraries.

Only who they are: what a contestant imports, its own process imports, and waits for.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple, TypeAlias

from contest.work import Curves, Work

Prepare: TypeAlias = Callable[[Work], Callable[[], Curves]]
"""Does what is not timed, and returns what is: a function that trains all trials."""


class Contestant(NamedTuple):
    """One way to train a search.

    Attributes:
        name: of its rows.
        told: what it does, in a sentence.
        start: where a function of the number of cores stands, as "module:name". It starts what a process needs before
            it trains, other processes among it, and returns what prepares a search.
        packages: what it imports that vtune does not bring along.
        is_ever_warm: whether a second search finds anything compiled.
    """

    name: str
    told: str
    start: str
    packages: tuple[str, ...] = ()
    is_ever_warm: bool = True

    @property
    def missing(self) -> str | None:
        """Which of its packages are not installed, and what to do; None where all are there."""
        absent = [package for package in self.packages if find_spec(package) is None]
        if not absent:
            return None
        verb = "is" if len(absent) == 1 else "are"
        return f"left out, as {' and '.join(absent)} {verb} not installed. Write: pip install 'vtune[bench]'"


CONTESTANTS = (
    Contestant(
        "vtune",
        'vtune.search(..., strategy="random") on all devices, a thread a core',
        "contest.loops:start_vtune",
    ),
    Contestant(
        "per-trial",
        "a loop in Flax and Optax as usually written: the hyperparameters are Python numbers in jitted closures, so "
        "every trial compiles, and a second search is as slow as the first",
        "contest.loops:start_per_trial",
        is_ever_warm=False,
    ),
    Contestant(
        "per-shape",
        "the best loop: one program with the whole training for each (hidden, layers, batch size), all other numbers "
        "its arguments; warm, shapes that it has met are compiled, up to 250 of them",
        "contest.loops:start_per_shape",
    ),
    Contestant(
        "padded",
        "jax.vmap of all trials in one program, padded to the largest network, mini-batches cut into micro-batches of "
        "the smallest batch size (padding rows instead would cost eight times the rows)",
        "contest.loops:start_padded",
    ),
)
"""In JAX."""

PEERS = (
    Contestant(
        "scikit-learn",
        "sklearn.neural_network.MLPClassifier, one process a core with one thread each; an epoch is a call of "
        "partial_fit with the rows of its whole mini-batches, which keeps Adam's state (fit trains the remainder too "
        "and validates nothing, in about the same time)",
        "contest.peers.team:start_scikit_learn",
    ),
    Contestant(
        "pytorch",
        "PyTorch eager: torch.nn.Sequential, torch.optim.Adam, rows taken by index without a DataLoader; one process a "
        "core with one thread each",
        "contest.peers.team:start_pytorch",
        packages=("torch",),
    ),
    Contestant(
        "optuna",
        "the same PyTorch loop in the same processes, driven by a study of Optuna with its RandomSampler: ask, train, "
        "tell; each trial is enqueued before it is asked for, so that the draws are the same",
        "contest.peers.optuna_study:start",
        packages=("optuna", "torch"),
    ),
    Contestant(
        "hyperoptax",
        "hyperoptax.RandomSearch, all trials at once (n_parallel) under its jax.vmap, of the jitted training of the "
        "per-shape loop; it is handed the draws, and returns the last validation loss alone",
        "contest.peers.hyperoptax_map:start",
        packages=("hyperoptax",),
    ),
)
"""In other libraries."""

TRUTH = "per-shape"
"""With whose losses the others are compared: it is Flax and Optax alone, and the fastest to run again."""

TRUTHS = (TRUTH, "pytorch", "scikit-learn")
"""Who stands in for it, in this order, where it takes no part: then medians and quartiles alone are compared."""
