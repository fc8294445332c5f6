"""Where each side waits for the other's next word, ours reads in its caller's task and polls: OpenSSH must not mind."""

from __future__ import annotations

import pytest
import trio

from tests.interop.peers import Ssh, Sshd
from tests.runtime.helpers import poll_always
from trio_ssh.runtime.descriptor import Descriptor

pytestmark = pytest.mark.interop

WORDS = 300


@pytest.fixture(autouse=True)
def polls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether something came in each poll that there was; there are many."""
    poll_always(monkeypatch)
    results: list[bool] = []
    poll = Descriptor._poll

    async def note(descriptor: Descriptor) -> bool:
        has_come = await poll(descriptor)
        results.append(has_come)
        return has_come

    monkeypatch.setattr(Descriptor, "_poll", note)
    return results


async def test_sshd_repeats_word_by_word(sshd: Sshd, polls: list[bool]) -> None:
    async with sshd.connect() as client, await client.open_process("cat") as process:
        for number in range(WORDS):
            await process.stdin.send_all(b"%d" % number)
            assert await process.stdout.receive_some() == b"%d" % number
        await process.stdin.aclose()
        assert await process.wait() == 0
    assert any(polls)


async def test_sshd_runs_one_command_after_another(sshd: Sshd, polls: list[bool]) -> None:
    async with sshd.connect() as client:
        for number in range(30):
            done = await client.run_process(f"echo {number}", capture_stdout=True)
            assert (done.stdout, done.returncode) == (b"%d\n" % number, 0)
    assert polls


async def test_sftp_server_is_asked_one_thing_after_another(sshd: Sshd, polls: list[bool]) -> None:
    async with sshd.connect() as client, await client.open_sftp() as sftp:
        for _ in range(WORDS):
            assert (await sftp.stat("/")).is_dir()
    assert polls


async def test_transfers_and_words_in_turns(sshd: Sshd, polls: list[bool]) -> None:
    data = bytes(range(256)) * 16_384  # 4 MiB
    async with sshd.connect() as client, await client.open_process("cat") as process:
        for number in range(5):
            done = await client.run_process("cat", stdin=data, capture_stdout=True)
            assert done.stdout == data
            for _ in range(20):
                await process.stdin.send_all(b"%d" % number)
                assert await process.stdout.receive_some() == b"%d" % number
    assert polls


async def test_ssh_runs_one_command_after_another(ssh: Ssh, nursery: trio.Nursery, polls: list[bool]) -> None:
    await ssh.serve(nursery)
    shared = ["-o", f"ControlPath={ssh.folder}/master"]
    assert (await ssh.run("-M", "-f", "-N", *shared, "server")).returncode == 0
    try:
        for number in range(30):
            done = await ssh.run(*shared, "server", f"echo {number}")
            assert (done.stdout, done.stderr, done.returncode) == (b"%d\n" % number, b"", 0)
    finally:
        with trio.CancelScope(shield=True):
            await ssh.run(*shared, "-O", "exit", "server")
    assert polls


async def test_ssh_repeats_word_by_word(ssh: Ssh, nursery: trio.Nursery, polls: list[bool]) -> None:
    """A shell at both ends: each line goes to and fro before the next."""
    await ssh.serve(nursery)
    script = (
        'coproc "$@" server cat; exec 3<&"${COPROC[0]}" 4>&"${COPROC[1]}"; '
        f"for i in $(seq {WORDS}); do echo $i >&4; read -r -u 3 l; "
        '[ "$l" = "$i" ] || exit 1; done; echo fine'
    )
    done = await ssh.run_command(["/bin/bash", "-c", script, "bash", *ssh.command()])
    assert done.stdout == b"fine\n"
    assert polls
