"""Fixtures: sshd, ssh, a user to log in as, and the demand that nothing is left behind."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.peers import Account, KeyFolder, Ssh, Sshd, children


@pytest.fixture(autouse=True)
def nothing_is_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No process, and no line in the log that tells of a failure of ours; a test that provokes one clears it."""
    caplog.set_level(logging.INFO)
    before = set(children(os.getpid()))
    yield
    assert set(children(os.getpid())) <= before
    failures = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert failures == []


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder that other users may enter; pytest's own is closed to them."""
    path = Path(tempfile.mkdtemp(prefix="trio_ssh-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def account() -> Iterator[Account]:
    """Whom sshd lets in."""
    if os.getuid() != 0:
        yield Account.of_mine()
        return
    account = Account.create()
    try:
        yield account
    finally:
        account.remove()


@pytest.fixture
def as_root(account: Account) -> None:
    """What sshd can do as root only: give terminals away, signal commands, check passwords.  The CI is root."""
    if account.password is None:
        pytest.skip("sshd can do this as root only")


@pytest.fixture
def password(account: Account, as_root: None) -> str:
    """The password of that user, which only root could set."""
    assert account.password is not None
    return account.password


@pytest.fixture(scope="session")
def host_keys(folder: Path) -> KeyFolder:
    """The servers' keys, ours and OpenSSH's."""
    return KeyFolder.create(folder / "host_keys")


@pytest.fixture(scope="session")
def user_keys(folder: Path) -> KeyFolder:
    """The users' keys."""
    return KeyFolder.create(folder / "user_keys")


@pytest.fixture(scope="session")
def sshd(folder: Path, account: Account, host_keys: KeyFolder, user_keys: KeyFolder) -> Iterator[Sshd]:
    """OpenSSH's server, for all tests that want nothing special of it."""
    with Sshd(folder, account, host_keys, user_keys) as server:
        yield server


@pytest.fixture
def own_sshd(
    request: pytest.FixtureRequest, folder: Path, account: Account, host_keys: KeyFolder, user_keys: KeyFolder
) -> Iterator[Sshd]:
    """OpenSSH's server for one test alone; ``indirect`` parameters are lines of its sshd_config."""
    with Sshd(folder, account, host_keys, user_keys, getattr(request, "param", ())) as server:
        yield server


@pytest.fixture
def ssh(tmp_path: Path, host_keys: KeyFolder, user_keys: KeyFolder) -> Ssh:
    """OpenSSH's client; ``await ssh.serve(nursery)`` starts a server of ours for it."""
    return Ssh(tmp_path, host_keys, user_keys)
