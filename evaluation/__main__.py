"""`python -m evaluation COMMAND`. Exit codes: 0 done, 2 wrong use, 3 input refused."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from evaluation import fees, words
from utxoiq.errors import UtxoiqError


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
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except UtxoiqError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
