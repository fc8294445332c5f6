"""What a transfer of a gibibyte costs in memory: counted in a process of its own, on each side."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio

pytestmark = pytest.mark.interop

#: Both ends in one process, over loopback: what either holds counts.
_PROGRAM = """
import sys
import trio, trio_ssh

KEY = trio_ssh.Ed25519Key.generate()
WAY, FOLDER, PLACE = sys.argv[1:]

class Server(trio_ssh.ServerInterface):
    subsystems = {"sftp": lambda: trio_ssh.LocalSFTPServer(FOLDER)}

    def check_auth_none(self, username):
        return trio_ssh.AUTH_SUCCESSFUL

def held(what):
    # And not ru_maxrss, which a process inherits from the one that started it.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(what))

async def main():
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(
            lambda task_status: trio_ssh.serve_tcp(
                Server, 0, host="127.0.0.1", host_keys=[KEY], task_status=task_status
            )
        )
        port = listener.socket.getsockname()[1]
        hosts = trio_ssh.HostKeys()
        hosts.add(f"[127.0.0.1]:{port}", None, KEY.public_key)
        async with trio_ssh.connect(
            "127.0.0.1", port, "alice", config=None, allow_agent=False, look_for_keys=False, known_hosts=hosts
        ) as client, await client.open_sftp() as sftp:
            await sftp.listdir("/")
            idle = held("VmRSS")
            if WAY == "get":
                await sftp.get("/large", PLACE + "/got", sparse=False)
            else:
                await sftp.put(FOLDER + "/large", "/put", sparse=False)
            print((held("VmHWM") - idle) // 1024)
        nursery.cancel_scope.cancel()

trio.run(main)
"""


@pytest.mark.parametrize("way", ["get", "put"])
async def test_a_gibibyte_is_held_by_no_one(way: str, tmp_path: Path) -> None:
    served, place = tmp_path / "served", tmp_path / "place"
    served.mkdir()
    place.mkdir()
    with (served / "large").open("wb") as file:
        file.truncate(2**30)
    with trio.fail_after(120):
        done = await trio.run_process(
            [sys.executable, "-c", _PROGRAM, way, str(served), str(place)], capture_stdout=True
        )
    copy = place / "got" if way == "get" else served / "put"
    assert copy.stat().st_size == 2**30
    copy.unlink()
    assert int(done.stdout) < 64, "MiB above idle, client and server together"
