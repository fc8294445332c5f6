"""Settings of the whole suite: a run repeats exactly, on a machine of any speed."""

from __future__ import annotations

import os
import time

import pytest
import trio
import trio.testing
from hypothesis import settings

from trio_ssh.config import SSHConfig

settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")

# A developer's agent is nobody's business here, and would answer for a key that a test does without.
os.environ.pop("SSH_AUTH_SOCK", None)


@classmethod  # type: ignore[misc]
async def _load_nothing(cls: type[SSHConfig]) -> SSHConfig:
    await trio.lowlevel.checkpoint()
    return cls()


# Nor is a developer's configuration, which could send every test to another host.  Tests about it read their own.
load_default = SSHConfig.load_default
SSHConfig.load_default = _load_nothing  # type: ignore[method-assign, assignment]


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    """pytest-trio's, but no time passes while a thread works: trio's jumps then, to whatever deadline there is."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    jump = clock._autojump

    def jump_unless_threads_work() -> None:
        if trio.testing.active_thread_count():
            time.sleep(0.0002)
        else:
            jump()

    clock._autojump = jump_unless_threads_work  # type: ignore[method-assign]
    return clock
