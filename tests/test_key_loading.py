"""Opening a key takes its time, and nobody waits for it but who asked."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ssh
from tests.runtime.helpers import KNOWN_HOST, OpenDoor, serving
from trio_ssh.keys import container, putty

KEY = trio_ssh.Ed25519Key.generate()


def ppk(path: Path) -> None:
    (path.parent / "passphrase").write_text("x\n")
    command = ["puttygen", "-t", "ed25519", "-o", str(path), "-q", "--random-device", "/dev/urandom"]
    more = ["--new-passphrase", str(path.parent / "passphrase"), "--ppk-param", "memory=65536,passes=24"]
    subprocess.run([*command, *more], check=True)


@pytest.mark.parametrize(
    ("module", "name", "make"),
    [
        (container.bcrypt, "kdf", lambda path: path.write_bytes(KEY.to_openssh("x", rounds=96))),
        pytest.param(putty, "_argon2", ppk, marks=pytest.mark.interop),
    ],
)
async def test_the_event_loop_turns_while_a_passphrase_is_tried(
    module: Any, name: str, make: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    make(path)
    path.chmod(0o600)
    turns = 0
    during: list[int] = []
    threads: list[threading.Thread] = []
    derive = getattr(module, name)

    def watched(*arguments: Any, **options: Any) -> Any:
        threads.append(threading.current_thread())
        before = turns
        derived = derive(*arguments, **options)
        during.append(turns - before)
        return derived

    monkeypatch.setattr(module, name, watched)
    async with trio.open_nursery() as nursery:

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        nursery.start_soon(turn)
        async with serving(OpenDoor()) as stream, trio_ssh.SSHClient() as client:
            connect = partial(client.connect, "memory", username="user", known_hosts=KNOWN_HOST, sock=stream)
            await connect(key_filename=path, passphrase="x", config=None, allow_agent=False)
        nursery.cancel_scope.cancel()
    assert len(during) == 1
    assert threads[0] is not threading.main_thread()
    # Whoever held the interpreter would let it turn but a few times, as a thread comes to its turn.
    assert during[0] > 500
