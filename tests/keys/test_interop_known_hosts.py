"""known_hosts as ssh-keygen and ssh read it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.keys.samples import content, load
from trio_ssh.keys.known_hosts import HostKeys, HostKeyStatus

pytestmark = pytest.mark.interop

KEY = load("ed25519.openssh").public_key
A, B, C = (load(name).public_key.to_openssh() for name in ("ed25519.openssh", "ed25519.pkcs8", "ecdsa256.openssh"))
KNOWN, UNKNOWN, CHANGED, REVOKED = HostKeyStatus

LINES = [
    f"plain.example {A}",
    f"Mixed.Example,other.example {B} comment",
    f"*.wild.example,!not.wild.example {A}",
    f"10.1.?.* {C}",
    f"[ported.example]:2222 {A}",
    f"[*.wild.example]:2222 {B}",
    f"@revoked *.revoked.example {A}",
    f"@cert-authority *.wild.example {C}",
    f"{HostKeys.hash_host('hashed.example')} {B}",
    f"{HostKeys.hash_host('[hashed.example]:2222')} {A}",
    f"!only.negated {A}",
    f"2001:db8::1 {A}",
    "plain.example nonsense",
    "# comment",
    "",
    f"a,,b {A}",
    f"|1|bad|hash {A}",
]
NAMES = [
    "plain.example",
    "PLAIN.example",
    "mixed.example",
    "other.example",
    "x.wild.example",
    "not.wild.example",
    "wild.example",
    "10.1.2.3",
    "10.1.22.3",
    "[ported.example]:2222",
    "ported.example",
    "[x.wild.example]:2222",
    "x.revoked.example",
    "hashed.example",
    "[hashed.example]:2222",
    "only.negated",
    "other.negated",
    "2001:db8::1",
    "a",
    "b",
    "c",
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "known_hosts"
    file.write_text("".join(f"{line}\n" for line in LINES))
    return file


def loaded(path: Path) -> HostKeys:
    keys = HostKeys()
    keys.load(path)
    return keys


def lines_found(hostname: str, path: Path) -> list[int]:
    done = subprocess.run(
        ["ssh-keygen", "-F", hostname, "-f", path], capture_output=True, check=False, encoding="utf-8"
    )
    return [int(number) for number in re.findall(r"^# Host .* found: line (\d+)", done.stdout, re.MULTILINE)]


@pytest.mark.parametrize("hostname", NAMES)
def test_a_look_up_finds_the_lines_that_ssh_keygen_finds(hostname: str, path: Path) -> None:
    found = [int(entry.source.rpartition(":")[2]) for entry in loaded(path).lookup(hostname)]
    assert found == lines_found(hostname, path)


def test_a_file_that_ssh_keygen_hashed_answers_as_before(path: Path) -> None:
    # It hashes no file in which it finds a fault.
    path.write_text("".join(f"{line}\n" for line in LINES if "nonsense" not in line and "bad" not in line))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], capture_output=True, check=True)
    hashed = loaded(path)
    for hostname in ("plain.example", "mixed.example", "other.example", "[ported.example]:2222", "2001:db8::1"):
        [entry] = hashed.lookup(hostname)
        assert "|1|" in path.read_text().splitlines()[int(entry.source.rpartition(":")[2]) - 1]


def test_ssh_keygen_finds_what_we_added(path: Path) -> None:
    keys = loaded(path)
    keys.add("new.example", None, KEY)
    keys.add(HostKeys.hash_host("[secret.example]:2222"), None, KEY)
    keys.save(path)
    assert path.read_text().splitlines()[: len(LINES)] == LINES
    assert lines_found("new.example", path) == [len(LINES) + 1]
    assert lines_found("[secret.example]:2222", path) == [len(LINES) + 2]


@pytest.mark.parametrize("hostname", NAMES)
def test_removing_a_host_leaves_the_lines_that_ssh_keygen_leaves(hostname: str, path: Path) -> None:
    # It changes no file in which it finds a fault.
    path.write_text("".join(f"{line}\n" for line in LINES if "nonsense" not in line and "bad" not in line))
    ours = path.with_name("ours")
    ours.write_text(path.read_text())
    keys = loaded(ours)
    keys.remove(hostname)
    keys.save(ours)
    subprocess.run(["ssh-keygen", "-q", "-R", hostname, "-f", path], capture_output=True, check=True)
    assert ours.read_text() == path.read_text()


def test_ssh_keygen_finds_what_we_hid_and_hides_the_same_lines(path: Path) -> None:
    # An empty name in a list ends it for ssh-keygen, which loses those behind.
    path.write_text("".join(f"{line}\n" for line in LINES if not re.search(r"nonsense|bad|,,", line)))
    ours = path.with_name("ours")
    ours.write_text(path.read_text())
    keys = loaded(ours)
    keys.hash_names()
    keys.save(ours)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], capture_output=True, check=True)
    salted = re.compile(r"(?m)^\|1\|\S+")
    assert salted.sub("|1|", ours.read_text()) == salted.sub("|1|", path.read_text())
    for hostname in NAMES:
        assert lines_found(hostname, ours) == lines_found(hostname, path)


# -- what ssh itself makes of a key


def verdict(folder: Path, port: int) -> HostKeyStatus:
    """What ssh thinks of a server that has our key, on a pipe instead of a port."""
    (folder / "host_key").write_bytes(content("ed25519.openssh"))
    (folder / "host_key").chmod(0o600)
    (folder / "sshd_config").write_text(f"HostKey {folder}/host_key\nAuthenticationMethods publickey\n")
    if os.getuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)  # sshd, as root, will not start without it
    options = {
        "ProxyCommand": f"/usr/sbin/sshd -i -f {folder}/sshd_config",
        "UserKnownHostsFile": f"{folder}/known_hosts",
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlgorithms": "ssh-ed25519",
        "BatchMode": "yes",
        "IdentityFile": "/dev/null",
        "IdentityAgent": "none",
    }
    arguments = [f"-o{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        ["ssh", "-F", "none", *arguments, "-p", str(port), "host.example", "true"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    for words, status in (
        ("is marked as revoked", REVOKED),
        ("HOST IDENTIFICATION HAS CHANGED", CHANGED),
        ("host key is known for", UNKNOWN),
        ("Permission denied", KNOWN),
    ):
        if words in done.stderr:
            return status
    raise AssertionError(done.stderr)


@pytest.mark.parametrize(
    ("lines", "port"),
    [
        ([f"host.example {A}"], 22),
        ([f"other.example {A}"], 22),
        ([f"host.example {B}"], 22),
        ([f"host.example {C}"], 22),
        ([f"host.example {B}", f"host.example {A}"], 22),
        ([f"host.example {C}", f"host.example {A}"], 22),
        ([f"@cert-authority host.example {A}"], 22),
        ([f"@revoked host.example {A}"], 22),
        ([f"host.example {A}", f"@revoked * {A}"], 22),
        ([f"@revoked host.example {A}", f"host.example {B}"], 22),
        ([f"@revoked host.example {B}", f"host.example {A}"], 22),
        ([f"[host.example]:2222 {A}"], 2222),
        ([f"host.example {A}"], 2222),
        ([f"host.example {B}"], 2222),
        ([f"host.example {A}", f"[host.example]:2222 {B}"], 2222),
        ([f"*,!host.example {A}"], 22),
        (["host.example nonsense", f"host.example {A}"], 22),
        ([f"host.example {A[:-4]}"], 22),
    ],
)
def test_a_key_is_what_ssh_takes_it_for(lines: list[str], port: int, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("".join(f"{line}\n" for line in lines))
    name = "host.example" if port == 22 else f"[host.example]:{port}"
    assert loaded(path).check(name, KEY) is verdict(tmp_path, port)
