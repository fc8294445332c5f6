"""What the tests of SFTP have in common."""

from __future__ import annotations

import pytest

from trio_ssh.sftp import in_memory, local


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file system is memory, and knows no more about it than tmpfs does."""
    monkeypatch.setattr(in_memory, "_NOWAIT", 0)
    for module in (in_memory, local):
        monkeypatch.setattr(module, "is_in_memory", lambda descriptor: True)
