"""Settings of the whole suite: a run repeats exactly, on a machine of any speed."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")

# A developer's agent is nobody's business here, and would answer for a key that a test does without.
os.environ.pop("SSH_AUTH_SOCK", None)
