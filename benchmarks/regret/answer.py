"""Who does better than the baseline, and why those that lose to it do."""

from collections.abc import Mapping, Sequence

from regret.statistics import Interval

REASONS: dict[tuple[str, str], str] = {
    (
        "grid",
        "Hartmann6 + 4",
    ): "128 points are 2 values on 7 of 10 axes and 1 on the others, whether or not they matter",
    ("grid", "Griewank6"): "the best point is no worse than random's, but noise hides it, and with 2 values on 5 of 6 "
    "axes few others come close",
    **dict.fromkeys(
        [("grid", "breast cancer"), ("grid", "MNIST-1D")],
        "32 points on 5 axes are 2 learning rates, 0.001 and 0.1; the best of random's lie between them",
    ),
    ("sobol", "Ackley5"): "20 seeds mislead: with 400 (`--part functions --seeds 400 --trainings 128 --only random "
    "sobol`) the difference is -0.8 (-2.4 to +0.8)",
}
"""Why a strategy loses, by its name and that of what it was tried on; from what the numbers show."""


def print_answer(differences: Mapping[tuple[str, str], Interval], baseline: str, trainings: int) -> None:
    """Prints in how many places each strategy is better or worse than the baseline, and why it is worse there."""
    print(f"\nBelow 0, it does better than {baseline} search with equally many epochs.\n")
    by_strategy: dict[str, dict[str, Interval]] = {}
    for (strategy, on), against in differences.items():
        by_strategy.setdefault(strategy, {})[on] = against
    lost = []
    for strategy, against in by_strategy.items():
        better = [on for on, interval in against.items() if interval.high < 0]
        worse = [on for on, interval in against.items() if interval.low > 0]
        lost += [(strategy, on) for on in worse]
        print(
            f"- {strategy}, {trainings} trainings: better on {_listed(better, against)}; worse on "
            f"{_listed(worse, against)}."
        )
    if lost:
        print(f"\n| loses to {baseline} | on | why |\n|---|---|---|")
    for strategy, on in lost:
        print(f"| {strategy} | {on} | {REASONS.get((strategy, on), 'not explained yet')} |")


def _listed(names: Sequence[str], of: Mapping[str, Interval]) -> str:
    return f"{len(names)} of {len(of)}" + f" ({', '.join(names)})" * bool(names)
