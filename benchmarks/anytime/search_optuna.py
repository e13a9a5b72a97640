"""Optuna's side: one of the processes, a core each, that share a search, with a PyTorch loop.

It is what Optuna's documentation advises for one machine: a journal in a file that all processes share, here one in
memory where the system has such. Its TPE has its defaults, and counts what other processes try at the time
(``constant_liar``). Hyperband's pruner is told of the epochs that it decides at, and of no others, as each report is
written to the journal. What is told is what vtune tells its strategies: the accuracy, and among equal ones the loss.
"""

import json
import math
import warnings
from collections.abc import Iterator

import optuna
import torch  # pyright: ignore[reportMissingImports]
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from torch import nn  # pyright: ignore[reportMissingImports]

from anytime.asked import Asked, Ended, improvements
from contest.peers.pytorch import adam, tensors

ETA = 3


def main() -> None:
    """Takes part in the search until the time is over, and prints what came out here."""
    asked, ended = Asked.read(), []
    torch.manual_seed(1000 * asked.seed + asked.place)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    study = optuna.create_study(
        study_name="search",
        storage=JournalStorage(JournalFileBackend(asked.journal)),
        sampler=optuna.samplers.TPESampler(seed=1000 * asked.seed + asked.place, constant_liar=True),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=asked.epochs, reduction_factor=ETA),
        direction="maximize",
        load_if_exists=True,
    )
    objective = Objective(asked, ended)
    study.optimize(objective, timeout=max(0.0, asked.seconds - asked.elapsed))
    better = improvements(ended, asked.seconds)
    told = {"ended": better, "trials": len(ended), "took": asked.elapsed}
    print(json.dumps(told))


class Objective:
    """Trains a trial, for as long as the pruner lets it.

    Attributes:
        asked: what is asked.
        ended: where networks are noted as they stand when their training ends.
    """

    def __init__(self, asked: Asked, ended: list[Ended]):
        self.asked, self.ended = asked, ended
        self.train, self.valid, self.test = (tensors(asked.part(name)) for name in ("train", "valid", "test"))
        self.num_classes = int(self.train[1].max()) + 1
        self.decides_at = {round(asked.epochs / ETA**level) for level in range(round(math.log(asked.epochs, ETA)) + 1)}

    def __call__(self, trial: optuna.Trial) -> float:
        """Returns what is to be maximized."""
        model, epochs = self.begin(trial)
        score, loss, told = 0.0, math.inf, -math.inf
        is_pruned = False
        for epoch in range(1, 1 + self.asked.epochs):
            next(epochs)
            if self.asked.elapsed > self.asked.seconds:
                trial.study.stop()
                raise optuna.TrialPruned
            if epoch not in self.decides_at:
                continue
            score, loss = measure(model, *self.valid)
            told = score - math.atan(loss) / (math.pi * len(self.valid[1])) if math.isfinite(loss) else -1.0
            trial.report(told, epoch)
            if is_pruned := epoch < self.asked.epochs and trial.should_prune():
                break
        now = self.asked.elapsed
        self.ended.append(Ended(now, score, loss, measure(model, *self.test)[0]))
        if is_pruned:
            raise optuna.TrialPruned
        return told

    def begin(self, trial: optuna.Trial) -> tuple[nn.Module, Iterator[None]]:
        """Returns the network of a trial, and its epochs."""
        rate = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
        beta1 = 1 - trial.suggest_float("one_minus_beta1", 1e-2, 2e-1, log=True)
        batch_size = 2 ** trial.suggest_int("log2_batch_size", 5, 8)
        hidden, layers = trial.suggest_int("hidden", 16, 256, log=True), trial.suggest_int("layers", 1, 4)
        widths = [self.train[0].shape[1], *[hidden] * layers]
        modules: list[nn.Module] = []
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            modules += [nn.Linear(inputs, outputs), nn.ReLU()]
        model = nn.Sequential(*modules, nn.Linear(hidden, self.num_classes))
        return model, self.epochs(model, rate, beta1, batch_size)

    def epochs(self, model: nn.Module, rate: float, beta1: float, batch_size: int) -> Iterator[None]:
        """Trains a network, and yields after each epoch: as many whole batches as there are in the rows."""
        (x, y), mean_loss = self.train, nn.CrossEntropyLoss()
        optimizer = adam(model, {"learning_rate": rate, "beta1": beta1, "beta2": 0.999, "epsilon": 1e-8})
        while True:
            order = torch.randperm(len(y))
            for batch in order[: len(y) // batch_size * batch_size].view(-1, batch_size):
                optimizer.zero_grad()
                mean_loss(model(x[batch]), y[batch]).backward()
                optimizer.step()
            yield


def measure(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """Returns accuracy and loss."""
    with torch.no_grad():
        outputs = model(x)
        return (outputs.argmax(1) == y).float().mean().item(), nn.functional.cross_entropy(outputs, y).item()


if __name__ == "__main__":
    main()
