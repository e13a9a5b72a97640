"""The last round of a search: its best trials once more, under seed indices that chose nothing so far."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from vtune.ending import Ending, OutOfTime
from vtune.progress import Progress
from vtune.protocols import ChunkResult, Moment, Training
from vtune.results.finalists import choose, finalists_table, verify
from vtune.results.store import Held
from vtune.saves import Saves
from vtune.study import Study

NUM_SEEDS = 8
"""How many fresh seeds the finalists are compared on, and how many further ones the winner is measured on."""

FROM_TRIALS, DEFAULT = 32, 8
"""How many trials a search has at least whose default is to have finalists, and how many."""

_NO_TIME = "finals: none, as there is no time left for them; the best score is that of the search"

_SLACK = 1.1
"""How much longer than its time a search may take for the finals, which are guessed at."""


def number_of_finalists(finalists: int | str, trials: int) -> int:
    """Returns how many finalists a search has; "auto" goes by its trials.

    Example:
        >>> number_of_finalists("auto", 256), number_of_finalists("auto", 31), number_of_finalists(3, 10)
        (8, 0, 3)
    """
    return (DEFAULT if trials >= FROM_TRIALS else 0) if isinstance(finalists, str) else finalists


def expected_seconds(study: Study, number: int) -> float:
    """Returns about how long the finals take that are not held yet, by how long a chunk took for an epoch so far.

    Args:
        study: so far.
        number: of finalists.
    """
    comparable = study.table.comparable()
    if not comparable or not number:
        return 0.0
    results = [study.table.result(trial_id) for trial_id in comparable]
    born = [Training(study.lineages[trial_id]).born for trial_id in comparable]
    epochs = study.num_seeds * sum(result.epochs - before for result, before in zip(results, born, strict=True))
    seconds_per_epoch = sum(result.seconds for result in results) / epochs
    return seconds_per_epoch * _num_epochs(study, comparable[:number]) / study.executor.num_parallel


def _num_epochs(study: Study, candidates: Sequence[int]) -> int:
    """How many epochs chunks train for the finals, with all that leads to them; the winner may be the longest."""
    fresh, further = _seeds(study.num_seeds)
    new = _missing(study, candidates, fresh)
    if not new:
        scores = _known(study, candidates, fresh)
        candidates = [candidates[choose(scores, is_maximized=study.table.is_maximized).winner]]
    longest = max(candidates, key=lambda trial_id: study.training(trial_id).until)
    legs: dict[Moment, Training] = {}
    for training in [*new, *_missing(study, [longest], further)]:
        legs[training.end] = training
        while training.start and training.before.end not in legs:
            training = training.before
            legs[training.end] = training
    chunks = study.job.chunks(legs.values(), study.executor.num_parts)
    return sum(chunk.until - chunk.start for chunk in chunks)


def reserved_seconds(study: Study, number: int, ending: Ending) -> float:
    """Returns how much of the time that there is to leave to the finals; none where they would take a third of it.

    Before two thirds of it are over there is nothing to ask.

    Args:
        study: so far.
        number: of finalists.
        ending: of the search.
    """
    if ending.seconds is None or study.seconds < ending.seconds * 2 / 3:
        return 0.0
    seconds = expected_seconds(study, number)
    return seconds if seconds < ending.seconds / 3 else 0.0


def hold_finals(study: Study, number: int, progress: Progress, ending: Ending) -> None:
    """Trains the best trials under fresh seed indices, chooses among them, and measures the winner under further ones.

    What the folder tells of these trainings is not done again.

    Args:
        study: whose trials are done.
        number: of finalists; 0 for none.
        progress: what is told of it.
        ending: of the search: where they would take more time than is left, there are none; where they do, either.
    """
    candidates = study.table.comparable()[:number]
    if not candidates:
        return
    fresh, further = _seeds(study.num_seeds)
    until = math.inf if ending.seconds is None else _SLACK * ending.seconds
    if (expected := expected_seconds(study, number)) and study.seconds + expected > until:
        progress.say(_NO_TIME)
        return
    progress.say(f"finals: the best {len(candidates)} on {NUM_SEEDS} fresh seeds, then the winner on {NUM_SEEDS} more")
    saves = Saves(study)
    try:
        choice = choose(_scores(saves, candidates, fresh, until), is_maximized=study.table.is_maximized)
        (of_winner,) = _scores(saves, [candidates[choice.winner]], further, until)
        searched = [study.table.result(trial_id).score for trial_id in candidates]
        study.finalists = finalists_table(candidates, searched, choice, verify(of_winner))
    except OutOfTime:
        progress.say(_NO_TIME)
    finally:  # what is trained is in the folder, also when Ctrl-C or an error ends the finals here
        saves.write()


def winner_of(held: Held) -> int:
    """Returns the trial that the search in a folder has found the best, by its finals where they were held.

    Args:
        held: what the folder holds.

    Raises:
        ValueError: where no trial has a finite score.
    """
    finite = held.trials.loc[np.isfinite(held.trials["score"])]
    if finite.empty:
        raise ValueError(
            f'folder "{held.path}" holds no trial with a finite score, so none is the best; search again with a lower '
            "upper bound of the learning rate"
        )
    return int(held.finalists.index[0] if len(held.finalists) else finite.index[0])


def seeds_taken(seeds_per_trial: int) -> int:
    """Returns how many seed indices, from 0 on, a search and its finals may use.

    Example:
        >>> seeds_taken(1)
        17
    """
    return _seeds(seeds_per_trial)[1].stop


def _seeds(seeds_per_trial: int) -> tuple[range, range]:
    """The seed indices that finalists are compared on, and those that the winner is measured on."""
    fresh = range(seeds_per_trial, seeds_per_trial + NUM_SEEDS)
    return fresh, range(fresh.stop, fresh.stop + NUM_SEEDS)


def _trainings(study: Study, trial_ids: Sequence[int], seeds: Iterable[int]) -> list[Training]:
    """The trainings of some trials as far as the epoch that is ranked, under each of these seeds."""
    trainings = [study.training(trial_id) for trial_id in trial_ids]
    return [training._replace(seed_index=seed) for training in trainings for seed in seeds]


def _missing(study: Study, trial_ids: Sequence[int], seeds: Iterable[int]) -> list[Training]:
    """Those that have no score yet."""
    wanted = _trainings(study, trial_ids, seeds)
    return [training for training in wanted if training.end not in study.final_scores]


def _known(study: Study, trial_ids: Sequence[int], seeds: Iterable[int]) -> np.ndarray:
    """Their scores, one a trial and seed, NaN where it diverged."""
    wanted = _trainings(study, trial_ids, seeds)
    return np.array([study.final_scores[training.end] for training in wanted]).reshape(len(trial_ids), -1)


def _scores(saves: Saves, trial_ids: Sequence[int], seeds: Sequence[int], until: float) -> np.ndarray:
    """Returns the scores, for which what has none yet is trained while there is time: until the study took so long."""
    study = saves.study
    missing = _missing(study, trial_ids, seeds)
    num_open = len(missing)

    def check_time() -> None:
        saves.look()
        if num_open and study.seconds > until:
            raise OutOfTime

    def record(done: ChunkResult) -> None:
        nonlocal num_open
        for place, training in enumerate(done.chunk.trainings):
            last = study.parts.objective._replace(select="last", patience=None)  # what is ranked ends them
            score, _ = last.outcome(done.curves[place].astype(np.float64))
            study.final_scores[training.end] = score
        num_open -= len(done.chunk.trainings)
        if saves.is_due:
            saves.write()
        check_time()

    check_time()
    if missing:
        study.executor.train(missing, record)
    return _known(study, trial_ids, seeds)
