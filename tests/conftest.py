"""Settings of the whole suite: a run repeats exactly, on a machine of any speed."""

from __future__ import annotations

import os

import trio
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
