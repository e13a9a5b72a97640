"""The command line: ``vtune demo | search | show | retest | bench``. Heavy imports come late: ``--help`` is quick."""

import argparse
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import metadata
from typing import Any, Literal

_NOT_PLANNED = {
    "strategy": "coarse_to_fine",
    "finalists": None,
    "seeds_per_trial": 1,
    "time_budget": None,
    "patience": None,
    "target_score": None,
    "seed": 0,
    "start": None,
}
"""Options of a search that decide nothing of what is planned, with their defaults."""

USER_ERROR, INTERRUPTED = 2, 130
"""Exit codes beside 0; the second is what a shell reports after Ctrl-C."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 2 for a mistake of the user's, 130 after Ctrl-C.

    Args:
        argv: what stands after ``vtune`` on the command line; ``sys.argv`` by default.

    Raises:
        SystemExit: after ``--help`` and ``--version``, and for arguments that make no command (exit code 2).

    Example:
        >>> main(["show", "no/such/folder"])
        2
    """
    arguments = _parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except (ValueError, TypeError, OSError) as error:
        return _fail(f"error: {error}", USER_ERROR)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("vtune", description="Trains hundreds of networks at once to find the best one.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo", help="search 256 networks for handwritten digits: optimizer and all nine hyperparameters"
    )
    demo.set_defaults(command=_demo)
    _add_search_options(demo)

    search = commands.add_parser("search", help="search a space on data of your own")
    search.set_defaults(command=_search)
    search.add_argument("--data", default="digits", metavar="digits|FILE.npz|FILE.csv", help="default: %(default)s")
    search.add_argument("--target", metavar="COLUMN", help="what to predict, of a .csv file; default: its last column")
    standardize = "train on numbers of mean 0 and standard deviation 1; default: for a .csv file"
    search.add_argument("--standardize", action=argparse.BooleanOptionalAction, help=standardize)
    search.add_argument("--space", metavar="FILE.toml", help="lines such as `layers = { integers = [1, 4] }`")
    search.add_argument("--optimizer", metavar="NAME[,NAME...]", help="default: adam")
    metric = "accuracy (y is a class), mse (y is a quantity) or loss; default: by what y looks like"
    search.add_argument("--metric", default="auto", metavar="NAME", help=metric)
    search.add_argument("--start", metavar="FOLDER", help="an older search, whose best 8 trials are tried first")
    planned = "print which programs it would compile, what they have of the trials and the expected time, and stop"
    search.add_argument("--plan", action="store_true", help=planned)
    _add_search_options(search)

    show = commands.add_parser("show", help="print what a search left in its folder")
    show.set_defaults(command=_show)
    show.add_argument("folder", metavar="FOLDER")

    retest = commands.add_parser(
        "retest",
        help="tell whether the best of an older search is still good on new data",
        description="Trains the best of an older search, its neighbours and fresh samples of its space on new data, on "
        "the same seeds, and tells whether the best is fresh or stale, what moved, and where the best lies now. The "
        "exit code is 0 whatever the verdict. Of a search with a model, optimizer, loss or metric of your own, call "
        "vtune.retest in Python.",
    )
    retest.set_defaults(command=_retest)
    retest.add_argument("folder", metavar="FOLDER", help="of the older search")
    _add_retest_options(retest)

    bench = commands.add_parser(
        "bench",
        help="measure this machine, how much of it a search makes use of, and what a loop would take",
        description="Takes a minute or two. The loop is written in Flax and Optax as usual, and compiles each trial.",
    )
    bench.set_defaults(command=_bench)
    ways = bench.add_mutually_exclusive_group()
    ways.add_argument("--quick", action="store_true", help="fewer trials and epochs: half a minute")
    calibrate = "instead, measure what programs cost here, for vtune.plan(..., cost_table=FILE): some minutes"
    ways.add_argument("--calibrate", metavar="FILE", help=calibrate)
    return parser


def _add_search_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strategy", default=_NOT_PLANNED["strategy"], help="what to try next; default: %(default)s")
    parser.add_argument("--trials", type=int, default=256, metavar="N", help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=20, metavar="N", help="of each trial; default: %(default)s")
    parser.add_argument(
        "--finalists", type=int, metavar="N", help="trained again to choose the winner; default: by trials"
    )
    parser.add_argument(
        "--seeds-per-trial", type=int, default=_NOT_PLANNED["seeds_per_trial"], metavar="N", help="default: %(default)s"
    )
    parser.add_argument("--time-budget", metavar="TIME", help="90s, 10m, 1h30m; --strategy auto decides by it")
    parser.add_argument("--patience", type=int, metavar="EPOCHS", help="stop a trial after so many without progress")
    parser.add_argument("--target-score", type=float, metavar="SCORE", help="stop when a trial reaches it")
    parser.add_argument("--chunk", type=_chunk, default="auto", metavar="auto|N", help="trials in one call")
    parser.add_argument("--seed", type=int, default=_NOT_PLANNED["seed"], metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--folder", metavar="FOLDER", help="where to keep the trials, and go on with them; default: nowhere"
    )


def _add_retest_options(parser: argparse.ArgumentParser) -> None:
    rows = "the new rows, with the columns and classes of the old ones; standardized if those were"
    parser.add_argument("--data", required=True, metavar="FILE.npz|FILE.csv|digits", help=rows)
    parser.add_argument("--target", metavar="COLUMN", help="what to predict, of a .csv file; default: its last column")
    seeds = "that choose the best challenger, and as many that judge it; default: %(default)s"
    parser.add_argument("--seeds", type=int, default=8, metavar="N", help=seeds)
    parser.add_argument("--neighbours", type=int, default=8, metavar="N", help="of the old best; default: %(default)s")
    parser.add_argument("--fresh", type=int, default=16, metavar="N", help="samples of the space; default: %(default)s")
    tolerance = "a difference of scores that does not matter; default: the noise of one training"
    parser.add_argument("--tolerance", type=float, metavar="X", help=tolerance)
    refine = "search on from the old best where it is stale; default: do so"
    parser.add_argument("--refine", action=argparse.BooleanOptionalAction, default=True, help=refine)
    parser.add_argument("--trials", type=int, default=64, metavar="N", help="of that search; default: %(default)s")
    parser.add_argument("--refined", metavar="FOLDER", help="where to keep its trials; default: nowhere")
    parser.add_argument("--chunk", type=_chunk, default="auto", metavar="auto|N", help="trials in one call")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")


def _chunk(text: str) -> int | Literal["auto"]:
    if text == "auto" or text.isdecimal():
        return "auto" if text == "auto" else int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of trials; write one such as 64, or auto")


def _version() -> str:
    try:
        return metadata.version("vtune")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _demo(arguments: argparse.Namespace) -> None:
    from vtune.space import default_space

    _run(arguments, default_space(["momentum", "adam", "rmsprop"], tiers=(1, 2, 3, 4)), data=None)


def _search(arguments: argparse.Namespace) -> None:
    from vtune.parameters import choice
    from vtune.scaling import SizeWarning
    from vtune.space import default_space
    from vtune.spacefile import read_space

    first, *others = optimizers = (arguments.optimizer or "adam").split(",")
    space: dict[str, Any] = read_space(arguments.space) if arguments.space else default_space(optimizers)
    if arguments.space and arguments.optimizer and "optimizer" in space:
        raise ValueError(
            f"--optimizer {arguments.optimizer}, and {arguments.space} has an optimizer as well; leave one of them out"
        )
    options = {"metric": arguments.metric}
    if others:
        space["optimizer"] = choice(optimizers)
    else:
        options["optimizer"] = first
    data = _data(arguments)
    with warnings.catch_warnings():
        if arguments.standardize is False:
            warnings.simplefilter("ignore", SizeWarning)
        if arguments.plan:
            _plan(arguments, space, data, **options)
        else:
            _run(arguments, space, data, **options, **({"start": arguments.start} if arguments.start else {}))


def _data(arguments: argparse.Namespace) -> Any:
    """Loads the data; of a table, says what is done with it."""
    from vtune.data import split_data
    from vtune.files import load_data
    from vtune.keys import seed_words, split_bits
    from vtune.training.objective import kind_needed

    kind = kind_needed("auto", arguments.metric)
    data, target, meaning = load_data(arguments.data, arguments.target, kind)
    is_table = target != ""
    is_standardized = is_table if arguments.standardize is None else arguments.standardize
    if is_table and isinstance(data, tuple):
        columns = data[0].shape[1]
        done = "standardized" if is_standardized else "as they are"
        print(f"{arguments.data}: target {target} ({meaning}), {columns} column{'s' if columns > 1 else ''} {done}")
    if not is_standardized:
        return data
    return split_data(data, partial(split_bits, seed_words(arguments.seed)), kind=kind, standardize=True)


def _run(arguments: argparse.Namespace, space: Mapping[str, Any], data: Any, **options: Any) -> None:
    from vtune.searching import search
    from vtune.training.mlp import MLP

    names = (
        "strategy",
        "trials",
        "epochs",
        "chunk",
        "seed",
        "folder",
        "seeds_per_trial",
        "patience",
        "time_budget",
        "target_score",
    )
    common = {name: getattr(arguments, name) for name in names}
    common["finalists"] = "auto" if arguments.finalists is None else arguments.finalists
    study = search(MLP, space, data, **common, **options)
    print(study.summary())
    print(_verdict(study.metric, study.best_score, study.test_score))


def _plan(arguments: argparse.Namespace, space: Mapping[str, Any], data: Any, **options: Any) -> None:
    """Prints the plan; a search that its folder holds keeps its ladder."""
    from vtune.planning import plan
    from vtune.results.store import read_if_there
    from vtune.start import ladder_of
    from vtune.training.mlp import MLP

    for name, default in _NOT_PLANNED.items():
        if (given := getattr(arguments, name)) != default:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(
                f"{option} {given}: a plan does not depend on it; every trial is taken to train all its epochs, once. "
                f"Leave {option} out, or --plan."
            )
    kept = read_if_there(arguments.folder) if arguments.folder else None
    amounts = {name: getattr(arguments, name) for name in ("trials", "epochs", "chunk")}
    print(plan(MLP, space, data, **amounts, ladder=ladder_of(kept, "auto") if kept else "auto", **options))


def _bench(arguments: argparse.Namespace) -> None:
    from vtune.benching import QUICK, WHOLE, bench
    from vtune.calibration import calibrate

    told = calibrate(arguments.calibrate) if arguments.calibrate else bench(QUICK if arguments.quick else WHOLE)
    for line in told:
        print(line, flush=True)


def _verdict(metric: str, best_score: float, test_score: float | None) -> str:
    part, score = ("validation", best_score) if test_score is None else ("held-out", test_score)
    return f"{part} {metric} {score:{'.3f' if metric == 'accuracy' else '.4g'}}"


def _show(arguments: argparse.Namespace) -> None:
    from vtune.results.store import read_folder
    from vtune.results.summary import summary

    held = read_folder(arguments.folder)
    facts = {name: held.record[name] for name in ("data", "metric", "seconds")}
    print(summary(held.trials, held.finalists, **facts))


def _retest(arguments: argparse.Namespace) -> None:
    from vtune.files import load_data
    from vtune.original import recorded_kind
    from vtune.retesting import retest

    data, target, meaning = load_data(arguments.data, arguments.target, recorded_kind(arguments.folder))
    if target:
        print(f"{arguments.data}: target {target} ({meaning})")
    names = ("seeds", "neighbours", "fresh", "tolerance", "refine", "trials", "chunk", "seed")
    options = {name: getattr(arguments, name) for name in names}
    print(retest(arguments.folder, data, folder=arguments.refined, **options).summary())


def _fail(message: str, code: int) -> int:
    print(f"vtune: {message}", file=sys.stderr)
    return code
