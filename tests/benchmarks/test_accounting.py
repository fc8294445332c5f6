from __future__ import annotations

import os
import subprocess
import sys
import time

from tests.benchmarks import accounting
from tests.benchmarks.adapters import roles

SPIN = "import time\nwhile time.process_time() < 0.1: pass\n"


def test_a_family_is_a_process_and_all_below_it() -> None:
    with subprocess.Popen(["sh", "-c", "cat; exit"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write(b"x")
        shell.stdin.flush()
        shell.stdout.read(1)  # so `cat` has been started
        assert accounting.family(shell.pid)[0] == shell.pid
        assert len(accounting.family(shell.pid)) == 2
        assert shell.pid in accounting.family(os.getpid())
        shell.stdin.close()


def test_cpu_time_of_children_is_counted_while_they_live_and_after() -> None:
    before = accounting.cpu_seconds(accounting.family(os.getpid()))
    subprocess.run([sys.executable, "-S", "-c", SPIN], check=True)
    assert accounting.cpu_seconds(accounting.family(os.getpid())) - before > 0.05


def test_cpu_time_of_another_process_is_read_from_its_clock() -> None:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", f"{SPIN}print(flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert accounting.cpu_seconds([child.pid]) >= 0.05
        child.communicate(b"\n")


def test_a_process_that_has_ended_costs_and_holds_nothing() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert accounting.cpu_seconds([child.pid]) == 0.0
    assert accounting.peak_bytes([child.pid]) == accounting.footprint_bytes([child.pid]) == 0


def test_the_peak_starts_from_where_it_was_reset() -> None:
    mine = [os.getpid()]
    accounting.reset_peak(mine)
    before = accounting.resident_bytes(mine)
    block = bytearray(b"x") * (32 * 1024 * 1024)
    del block
    assert accounting.peak_bytes(mine) - before > 16 * 1024 * 1024
    assert accounting.footprint_bytes(mine) > 0


def test_a_window_measures_both_sides() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as server:
        with roles.Window(roles.Side("client", os.getpid()), roles.Side("server", server.pid)) as window:
            deadline = time.process_time() + 0.01
            while time.process_time() < deadline:
                pass
        assert server.stdin is not None
        server.stdin.close()
    assert window.sample["client_cpu_seconds"] >= 0.01
    assert window.sample["server_cpu_seconds"] < window.sample["client_cpu_seconds"]
    assert {"wall_seconds", "client_peak_bytes", "server_growth_bytes"} <= set(window.sample)
