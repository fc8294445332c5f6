"""ssh-audit, which looks at what is offered and knows what each of it is worth."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import trio

import trio_ssh
from tests.interop.peers import PATIENCE, LetsAnyoneIn, Ssh, free_port

pytestmark = pytest.mark.interop

AUDIT: Final = Path(sys.executable).with_name("ssh-audit")

#: What OpenSSH 9.2's client gets, as measured here: lines of each severity.
OPENSSH_CLIENT: Final = {"fail": 13, "warn": 25}


def notes(report: dict[str, Any], severity: str) -> Iterator[tuple[str, str]]:
    """Each complaint with the algorithm that it is about."""
    for kind in ("kex", "key", "enc", "mac"):
        for entry in report[kind]:
            for note in entry["notes"].get(severity, []):
                yield entry["algorithm"], note


async def audited(ssh: Ssh, nursery: trio.Nursery, host_keys: list[trio_ssh.PKey], **options: Any) -> dict[str, Any]:
    await ssh.serve(nursery, LetsAnyoneIn, host_keys=host_keys, **options)
    with trio.fail_after(4 * PATIENCE):
        done = await trio.run_process(
            [AUDIT, "-j", "--skip-rate-test", "-p", str(ssh.port), "127.0.0.1"],
            check=False,
            capture_stdout=True,
            capture_stderr=True,
        )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


async def test_a_server_as_it_is_gets_no_complaint_but_that_old_clients_are_not_safe_from_quantum_computers(
    ssh: Ssh, nursery: trio.Nursery
) -> None:
    report = await audited(ssh, nursery, [ssh.host_keys.load("ed25519"), trio_ssh.RSAKey.generate(3072)])
    assert list(notes(report, "fail")) == []
    assert list(notes(report, "warn")) == [
        ("curve25519-sha256", "does not provide protection against post-quantum attacks"),
        ("curve25519-sha256@libssh.org", "does not provide protection against post-quantum attacks"),
    ]


async def test_a_short_rsa_key_is_what_a_server_s_owner_hears_of(ssh: Ssh, nursery: trio.Nursery) -> None:
    report = await audited(ssh, nursery, [ssh.host_keys.load("rsa")])
    assert list(notes(report, "fail")) == []
    assert [name for name, note in notes(report, "warn") if "modulus" in note] == ["rsa-sha2-512", "rsa-sha2-256"]


async def test_group_exchange_gives_no_group_that_is_too_small(ssh: Ssh, nursery: trio.Nursery) -> None:
    """ssh-audit asks for ever smaller groups; what it is given decides about its verdict."""
    for moduli in (None, "/etc/ssh/moduli"):
        report = await audited(
            ssh,
            nursery,
            [ssh.host_keys.load("ed25519")],
            kex=["diffie-hellman-group-exchange-sha256"],
            moduli=moduli,
        )
        [kex] = [entry for entry in report["kex"] if "group-exchange" in entry["algorithm"]]
        assert kex["keysize"] >= 2048
        assert list(notes(report, "fail")) == []


async def test_a_client_as_it_is_gets_fewer_complaints_than_openssh_s() -> None:
    port = free_port()
    process = await trio.lowlevel.open_process(
        [AUDIT, "-j", "-c", "-4", "-p", str(port), "-t", str(int(PATIENCE))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    with trio.fail_after(4 * PATIENCE):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(0.01)  # nothing tells us when it listens
                continue
            break
        async with trio_ssh.Transport(stream) as transport:
            with pytest.raises(trio_ssh.SSHException):  # it has heard enough
                await transport.start_client(check_host_key=lambda key: None)
        text = b"".join([chunk async for chunk in process.stdout])
        await process.wait()
    report = json.loads(text)
    counts = {severity: len(list(notes(report, severity))) for severity in OPENSSH_CLIENT}
    assert all(counts[severity] < OPENSSH_CLIENT[severity] for severity in counts)
    assert counts["fail"] <= 9
    assert counts["warn"] <= 15
