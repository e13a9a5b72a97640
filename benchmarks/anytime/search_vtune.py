"""vtune's side: one search in this process."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

import vtune
from anytime.asked import Asked, Ended, improvements
from measuring.work import MIXED
from vtune.protocols import Training
from vtune.results.tables import Table, TrialResult
from vtune.training.trained import trained_module

SPACE = {**MIXED, "learning_rate": vtune.loguniform(1e-4, 1e-1)}


def main() -> None:
    """Searches, and prints what came out."""
    asked = Asked.read()
    data = vtune.Data(train=asked.part("train"), valid=asked.part("valid"))
    amount: dict[str, Any] = {} if asked.strategy == "auto" else {"trials": asked.trials}
    with noted() as results:
        study = vtune.search(
            vtune.MLP,
            SPACE,
            data,
            strategy=asked.strategy,
            epochs=asked.epochs,
            finalists=0,
            seed=asked.seed,
            time_budget=asked.seconds - asked.elapsed,
            progress=False,
            **amount,
        )
    took = asked.elapsed
    ended = {ended_of(result, asked): result for result in results if result.status != "diverged"}
    better = improvements(ended, asked.seconds)
    if better:
        better[-1] = better[-1]._replace(test_score=test_score(study, ended[better[-1]], asked))
    print(json.dumps({"ended": better, "trials": len(study.trials), "took": took}))


@contextmanager
def noted() -> Iterator[list[TrialResult]]:
    """Keeps all that a study records: a trial that goes on is recorded again."""
    add, results = Table.add, []

    def noting(self: Table, added: Sequence[TrialResult]) -> None:
        results.extend(added)
        add(self, added)

    Table.add = noting  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield results
    finally:
        Table.add = add


def ended_of(result: TrialResult, asked: Asked) -> Ended:
    return Ended(result.finished_at.timestamp() - asked.started, result.score, result.loss)


def test_score(study: vtune.Study, result: TrialResult, asked: Asked) -> float:
    """Returns the accuracy of a trial as it then was, on test rows."""
    training = Training(study.lineages[result.trial_id]).cut(result.epochs)
    x, y = asked.part("test")
    outputs = trained_module(study.executor, study.job, training)(x)
    return float(np.mean(np.argmax(outputs, axis=1) == y))


if __name__ == "__main__":
    main()
