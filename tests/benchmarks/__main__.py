"""The command line: choose workloads, libraries and sizes; tables go to standard output as they are done."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import plan, report, runner, workloads
from tests.benchmarks.plan import LIBRARIES, MIB, PEERS, SSHD, Settings


def main() -> int:
    """Run what was asked for.

    Returns:
        The exit status: 1 if a contender failed.
    """
    options = _parser().parse_args()
    chosen: list[plan.Workload] = options.workloads or list(workloads.ALL)
    settings = Settings(
        rounds=options.rounds,
        libraries=_installed(options.libraries),
        servers=options.servers,
        ciphers=options.ciphers,
        size=options.size * MIB,
        count=options.count,
    )
    environment = report.environment()
    print("; ".join(f"{name} {value}" for name, value in environment.items()))
    print(report.legend())
    outcomes: list[runner.Outcome] = []
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=_fast_directory()) as directory:
        workspace = runner.make_workspace(Path(directory))
        for workload in chosen:
            for comparison in workload.comparisons(settings):
                outcomes.append(runner.run(comparison, settings.rounds, workspace, _progress))
                print(report.table(outcomes[-1], options.reference), flush=True)
                if options.json is not None:
                    options.json.write_text(
                        json.dumps(report.as_json(environment, outcomes), indent=1) + "\n", encoding="utf-8"
                    )
    return 1 if any(outcome.failures for outcome in outcomes) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measure trio_ssh beside its peers, in turns.",
        epilog="Workloads:\n" + "\n".join(f"  {each.name:16} {each.summary}" for each in workloads.ALL),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [library.name for library in LIBRARIES]
    parser.add_argument(
        "workloads", nargs="*", type=_workload, metavar="workload", help="what to measure; everything if not given"
    )
    parser.add_argument("--rounds", type=_positive, default=5, help="turns of each contender (%(default)s)")
    parser.add_argument("--libraries", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument(
        "--servers",
        nargs="+",
        choices=(SSHD, PEERS),
        default=(SSHD, PEERS),
        help="against sshd, like peers, or both",
    )
    parser.add_argument(
        "--reference",
        nargs="+",
        choices=[*names, "trio"],
        default=(),
        metavar="NAME",
        help="libraries to give ratios to",
    )
    parser.add_argument(
        "--ciphers",
        nargs="+",
        choices=plan.CIPHERS,
        default=(plan.AES_GCM,),
        metavar="NAME",
        help="of bulk transfers: " + ", ".join(plan.CIPHERS),
    )
    parser.add_argument("--size", type=_positive, default=512, metavar="MIB", help="of a bulk transfer (%(default)s)")
    parser.add_argument("--count", type=_positive, help="connections, commands or round trips of the other workloads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write every sample")
    return parser


def _workload(name: str) -> plan.Workload:
    for workload in workloads.ALL:
        if workload.name == name:
            return workload
    raise argparse.ArgumentTypeError(f"there is no workload {name!r}")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _installed(names: list[str]) -> list[plan.Library]:
    chosen = [library for library in LIBRARIES if library.name in names]
    for library in chosen:
        if not library.is_installed:
            print(f"{library.name} is not installed and takes no part", file=sys.stderr)
    return [library for library in chosen if library.is_installed]


def _fast_directory() -> str | None:
    # The sparse file that `ssh` uploads is read from memory there, and control sockets get a short path.
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
