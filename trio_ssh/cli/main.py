"""The commands and their options."""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Sequence

from trio_ssh.cli import demo


def version() -> str:
    """Return the installed version, or say that there is none: a source tree doesn't know its own."""
    try:
        return importlib.metadata.version("trio_ssh")
    except importlib.metadata.PackageNotFoundError:
        return "(a source tree, not installed)"


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 60:
        raise argparse.ArgumentTypeError("between 0 and 60 seconds")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trio_ssh",
        description="SSH clients and servers as structured concurrency, in pure Python on trio.",
    )
    parser.add_argument("--version", action="version", version=f"trio_ssh {version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    text = "start a server on 127.0.0.1, use it with a client, and print what happened"
    command = commands.add_parser("demo", help=text, description=text.capitalize() + ".")
    command.add_argument(
        "--seconds",
        type=_seconds,
        default=1.0,
        metavar="S",
        help="how long to measure each direction (default: %(default)g)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status.

    Args:
        arguments: None for those of the process.
    """
    options = _parser().parse_args(arguments)
    return demo.run(version(), seconds=options.seconds)
