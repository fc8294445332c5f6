"""The commands and their options."""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Callable, Sequence

from trio_ssh.cli import copy, demo, serve


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


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError("between 0 and 65535")
    return value


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _add_serve(add: Callable[..., argparse.ArgumentParser]) -> None:
    text = "serve a directory by SFTP until Ctrl-C"
    command = add("serve", help=text, description=_sentence(text) + ", to whoever has a key or the password.")
    command.add_argument("folder", metavar="DIR", help="what is served, and nothing outside of it")
    command.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    command.add_argument(
        "--port", type=_port, default=0, metavar="N", help="where to listen; 0, the default, is any free one"
    )
    command.add_argument("--authorized-keys", metavar="FILE", help="who has one of its keys may log in")
    command.add_argument("--password-file", metavar="FILE", help="who knows its first line may log in")
    command.add_argument("--host-key", metavar="FILE", help="a private key; otherwise one is made for this run")
    command.add_argument("--read-only", action="store_true", help="refuse whatever would change something")


def _add_copy(add: Callable[..., argparse.ArgumentParser]) -> None:
    text = "copy a file or a tree by SFTP"
    command = add("copy", help=text, description=_sentence(text) + ": from a host, to one, or from one to another.")
    place = "[user@]host:path, or a path on this machine"
    command.add_argument("source", metavar="SRC", help=place)
    command.add_argument("target", metavar="DST", help=place + "; into it if it is a directory")
    command.add_argument("-r", "--recurse", action="store_true", help="copy directories, with all that is in them")
    command.add_argument("-p", "--preserve", action="store_true", help="keep permissions and times")
    command.add_argument("-P", "--port", type=_port, metavar="N", help="where the hosts listen")
    command.add_argument("-i", "--key", metavar="FILE", help="a private key to log in by")
    text = "go on with what an earlier copy left; a tree's DST is then the copy itself, unless it ends in /"
    command.add_argument("--resume", action="store_true", help=text)
    command.add_argument("-q", "--quiet", action="store_true", help="don't show how far it is")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trio_ssh",
        description="SSH clients and servers as structured concurrency, in pure Python on trio.",
    )
    parser.add_argument("--version", action="version", version=f"trio_ssh {version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    text = "start a server on 127.0.0.1, use it with a client, and print what happened"
    command = commands.add_parser("demo", help=text, description=_sentence(text) + ".")
    command.add_argument(
        "--seconds",
        type=_seconds,
        default=1.0,
        metavar="S",
        help="how long to measure each direction (default: %(default)g)",
    )
    _add_serve(commands.add_parser)
    _add_copy(commands.add_parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status.

    Args:
        arguments: None for those of the process.
    """
    options = _parser().parse_args(arguments)
    if options.command == "serve":
        return serve.run(
            serve.Settings(
                folder=options.folder,
                host=options.host,
                port=options.port,
                authorized_keys=options.authorized_keys,
                password_file=options.password_file,
                host_key=options.host_key,
                read_only=options.read_only,
            )
        )
    if options.command == "copy":
        return copy.run(
            copy.Settings(
                source=options.source,
                target=options.target,
                recurse=options.recurse,
                preserve=options.preserve,
                port=options.port,
                key=options.key,
                resume=options.resume,
                quiet=options.quiet,
            )
        )
    return demo.run(version(), seconds=options.seconds)
