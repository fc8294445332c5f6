"""What is run over the repository: `nox -l` lists the sessions, `nox -s local` runs all that the CI runs."""

from __future__ import annotations

import pathlib
import tomllib

import nox

nox.needs_version = ">=2024.10.9"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["local"]


@nox.session
def local(session: nox.Session) -> None:
    """Run every session that the CI runs, the quick ones first."""
    for name in ("lint", "types", "docs", "tests", "examples", "kerberos"):
        session.notify(name)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the whole suite, or what is named after `--`."""
    session.install(".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def kerberos(session: nox.Session) -> None:
    """Run what needs the extra `gssapi`, and a realm's programs: where they are not there, `tests` leaves it out."""
    session.install(".[test,gssapi]")
    session.run("python", "-m", "pytest", "tests/test_gss.py", "tests/interop/test_gssapi.py", *session.posargs)


@nox.session
def interop(session: nox.Session) -> None:
    """Run only what talks to OpenSSH."""
    session.install(".[test]")
    session.run("python", "-m", "pytest", "-m", "interop", *session.posargs)


@nox.session
def floors(session: nox.Session) -> None:
    """Run the suite on the oldest release of each dependency that pyproject.toml admits."""
    project = tomllib.loads(pathlib.Path("pyproject.toml").read_text("utf-8"))["project"]
    oldest = [requirement.replace(">=", "==") for requirement in project["dependencies"]]
    session.install(".[test]", *oldest)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting, and the use of trio."""
    session.install(".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("flake8", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types with two checkers, and that the public ones are complete."""
    session.install(".[dev]")
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "trio_ssh", "--ignoreexternal")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning or a reference that leads nowhere fails it."""
    session.install(".[docs]")
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "-n", "-b", "html", "docs", "docs/_build/html")


@nox.session
def examples(session: nox.Session) -> None:
    """Run each example as a reader would."""
    session.install(".")
    for example in sorted(pathlib.Path("examples").glob("*.py")):
        session.run("python", str(example))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure against the peers in one interleaved run; options go after `--`."""
    session.install(".[bench]")
    session.run("python", "-m", "tests.benchmarks", *session.posargs)
