from __future__ import annotations

import importlib

import attrs
import pytest

from tests.benchmarks import plan, workloads
from tests.benchmarks.pairs import Pair, Work, pairs
from tests.benchmarks.plan import LIBRARIES, MIB, PEERS, SSHD, Settings
from tests.benchmarks.workloads import import_time

SETTINGS = Settings(
    rounds=1,
    libraries=LIBRARIES,
    servers=(SSHD, PEERS),
    ciphers=plan.CIPHERS,
    size=512 * MIB,
    count=None,
)


def labels(settings: Settings, work: Work) -> list[str]:
    return [pair.label for pair in pairs(settings, work)]


def test_every_library_meets_sshd_and_itself_and_openssh_meets_sshd_once() -> None:
    assert labels(SETTINGS, Work(role="echo", commands={})) == [
        "openssh -> sshd",
        "trio_ssh -> sshd",
        "asyncssh -> sshd",
        "paramiko -> sshd",
        "trio_ssh <-> trio_ssh",
        "asyncssh <-> asyncssh",
        "paramiko <-> paramiko",
        "bare_trio <-> bare_trio",
    ]


def test_what_is_no_ssh_meets_itself_alone_and_only_where_it_can() -> None:
    bare = attrs.evolve(SETTINGS, libraries=(plan.BARE_TRIO,))
    assert labels(bare, Work(role="exec_sequential", commands={})) == ["bare_trio <-> bare_trio"]
    assert labels(bare, Work(role="handshake", commands={})) == []
    assert labels(bare, Work(role="bulk_up", commands={}, cipher=plan.AES_CTR)) == []


def test_like_peers_alone_still_have_openssh_to_compare_with() -> None:
    peers = attrs.evolve(SETTINGS, servers=(PEERS,), libraries=(plan.OPENSSH, plan.ASYNCSSH))
    assert labels(peers, Work(role="echo", commands={})) == ["openssh -> sshd", "asyncssh <-> asyncssh"]


def test_a_library_without_a_cipher_sits_out() -> None:
    chosen = labels(SETTINGS, Work(role="bulk_up", commands={}, cipher=plan.CHACHA20))
    assert "paramiko -> sshd" not in chosen
    assert "asyncssh-callbacks <-> asyncssh-callbacks" in chosen


def test_a_library_that_can_move_less_says_so() -> None:
    work = Work(role="bulk_up", commands={}, size=512 * MIB)
    assert Pair(plan.PARAMIKO, plan.OPENSSH, work).label == "paramiko -> sshd (256 MiB)"
    assert Pair(plan.PARAMIKO, plan.OPENSSH, work).size == 256 * MIB


@pytest.mark.parametrize("workload", workloads.ALL, ids=lambda workload: workload.name)
def test_the_columns_of_a_table_have_names_of_their_own(workload: plan.Workload) -> None:
    for comparison in workload.comparisons(SETTINGS):
        titles = [column.title for column in comparison.columns]
        assert len(set(titles)) == len(titles)
        assert comparison.contenders


def test_a_bulk_transfer_is_compared_once_per_cipher() -> None:
    bulk_down = next(workload for workload in workloads.ALL if workload.name == "bulk_down")
    titles = [comparison.title for comparison in bulk_down.comparisons(SETTINGS)]
    assert [title.rpartition(" ")[2] for title in titles] == list(plan.CIPHERS)


def test_libraries_have_adapters() -> None:
    for library in LIBRARIES:
        assert importlib.util.find_spec(f"tests.benchmarks.adapters.{library.adapter}") is not None


def test_an_import_report_is_read() -> None:
    written = """\
import time: self [us] | cumulative | imported package
import time:       123 |        123 |   _io
import time:      5000 |      90000 |   trio
import time:      1000 |     100000 | trio_ssh
"""
    assert import_time.parse(written, "trio_ssh") == {
        "import_seconds": 0.1,
        "trio_seconds": 0.09,
        "modules": 3.0,
    }
