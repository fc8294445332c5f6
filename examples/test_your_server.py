"""How to test a server of yours: in memory, without a socket, and without waiting.

    python -m pytest examples/test_your_server.py    with pytest-trio, and ``trio_mode = true`` in its settings
    python examples/test_your_server.py              without either

Under trio's autojump clock time passes only when every task waits for it, and then at once: an hour takes no time.
"""

from __future__ import annotations

import hmac

import trio
import trio.testing

import trio_ssh
from trio_ssh.testing import open_memory_client


class Kitchen(trio_ssh.ServerInterface):
    """The server under test: it cooks, which takes its time."""

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        """Admit whoever knows what to say."""
        is_right = hmac.compare_digest(password.encode(), b"bon appetit")
        return trio_ssh.AUTH_SUCCESSFUL if is_right else trio_ssh.AUTH_FAILED

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        """Cook."""
        if process.command != "soup":
            await process.stderr.write(f"there is no {process.command} today\n")
            return 1
        await trio.sleep(3600)
        await process.stdout.write(f"soup for {process.username}\n")
        return 0


async def test_soup_takes_an_hour(autojump_clock: trio.testing.MockClock) -> None:
    """An hour passes, in no time."""
    async with open_memory_client(Kitchen(), username="alice", password="bon appetit") as client:
        done = await client.run_process("soup", capture_stdout=True)
    assert done.stdout == b"soup for alice\n"
    assert 3600 <= trio.current_time() < 3601


async def test_who_cannot_wait_gets_no_soup(autojump_clock: trio.testing.MockClock) -> None:
    """A timeout of the user's ends the call, and nothing else."""
    async with open_memory_client(Kitchen(), password="bon appetit") as client:
        with trio.move_on_after(60) as patience:
            await client.run_process("soup")
        assert patience.cancelled_caught
        # The connection is none the worse for it.
        done = await client.run_process("soup", capture_stdout=True)
        assert done.returncode == 0


async def test_what_is_not_on_the_menu_fails(autojump_clock: trio.testing.MockClock) -> None:
    """A failure has an exit status and a reason."""
    async with open_memory_client(Kitchen(), password="bon appetit") as client:
        done = await client.run_process("fish", check=False, capture_stderr=True)
    assert (done.returncode, done.stderr) == (1, b"there is no fish today\n")


async def test_a_stranger_stays_outside(autojump_clock: trio.testing.MockClock) -> None:
    """A wrong password is refused."""
    complaint = ""
    try:
        async with open_memory_client(Kitchen(), password="mahlzeit"):
            pass
    except trio_ssh.AuthenticationException as error:
        complaint = str(error)
    assert "password: refused" in complaint


if __name__ == "__main__":
    for test in (
        test_soup_takes_an_hour,
        test_who_cannot_wait_gets_no_soup,
        test_what_is_not_on_the_menu_fails,
        test_a_stranger_stays_outside,
    ):
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(test, clock, clock=clock)
        print(test.__name__, "passed")
