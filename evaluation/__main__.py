"""`python -m evaluation COMMAND`. Exit codes: 0 done, 2 wrong use, 3 input refused."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation import calibrate, fees, runs, score, words
from utxoiq.errors import ConfigError, UtxoiqError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evaluation.claims import Run


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m evaluation", description="What utxoiq claims, measured.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser("fees", help="feerate forecasts against simple methods, walking forward")
    command.add_argument("--series", type=Path, required=True, metavar="DIR", help="folder of feerate series")
    command.add_argument("--json", action="store_true", help="one object a line")
    command.set_defaults(run=lambda options: fees.run(options.series, options.json))
    command = commands.add_parser("words", help="true paraphrases and subtle falsehoods through the checker")
    command.add_argument(
        "--corpus", type=Path, default=words.HELD_OUT, metavar="FILE", help="lines with signal and texts"
    )
    command.add_argument("--json", action="store_true", help="one object")
    command.set_defaults(run=lambda options: words.run(options.corpus, options.json))
    command = commands.add_parser("score", help="signals against the truth of simulated economies")
    _add_runs(command)
    command.add_argument("--json", action="store_true", help="one object a line")
    command.add_argument("--report", type=Path, metavar="DIR", help="folder for README.md and plots")
    command.set_defaults(run=_score)
    command = commands.add_parser("calibrate", help="fit confidences to simulated economies")
    _add_runs(command)
    command.add_argument("--in-turn", action="store_true", help="each seed in one regime, in turn, not in all")
    command.add_argument("--output", type=Path, default=calibrate.PACKAGED, metavar="FILE", help="the packaged file")
    command.set_defaults(run=_calibrate)
    command = commands.add_parser("examples", help="one insight of each kind, with its chart")
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for README.md and charts")
    command.set_defaults(run=_examples)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except UtxoiqError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _add_runs(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seeds", type=_numbers, required=True, metavar="N,N", help="seeds of the economies, or N-N")
    command.add_argument("--regimes", type=_names, default=["all"], metavar="NAME,NAME", help="regimes, or all")
    command.add_argument("--blocks", type=_count, default=3000, metavar="N", help="blocks of each run")
    command.add_argument("--jobs", type=_count, default=os.cpu_count() or 1, metavar="N", help="processes at once")
    command.add_argument("--cache", type=Path, metavar="DIR", help="folder for what runs of the same code gave")


def _score(options: argparse.Namespace) -> None:
    write = _report_writer() if options.report else None
    jobs = runs.jobs_of(options.seeds, options.regimes, options.blocks)
    performed = runs.perform_all(jobs, options.jobs, options.cache)
    rows = score.score(performed)
    score.show(rows, options.json)
    if write is not None:
        write(options.report, performed, rows)


def _report_writer() -> Callable[[Path, Sequence[Run], Sequence[dict[str, Any]]], None]:
    """Raises ConfigError without Matplotlib, before the runs."""
    try:
        from evaluation.report import write  # noqa: PLC0415 - Matplotlib is an extra
    except ModuleNotFoundError as error:
        raise ConfigError(f"the report needs Matplotlib ({error}): pip install 'utxoiq[charts]'") from error
    return write


def _examples(options: argparse.Namespace) -> None:
    from evaluation import examples  # noqa: PLC0415 - Matplotlib is an extra

    examples.run(options.output)


def _calibrate(options: argparse.Namespace) -> None:
    jobs = runs.jobs_of(options.seeds, options.regimes, options.blocks, calibrated=False, in_turn=options.in_turn)
    calibrate.run(runs.perform_all(jobs, options.jobs, options.cache), options.output)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[int]:
    ends = [[int(end) for end in name.split("-")] for name in _names(text)]
    numbers = [number for first, *last in ends for number in range(first, (last or [first])[-1] + 1)]
    if not numbers:
        raise ValueError(text)
    return numbers


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError(text)
    return count


if __name__ == "__main__":
    sys.exit(main())
