"""What is crossed with OpenSSH: every algorithm of ours that this machine's OpenSSH has too, the broken included."""

from __future__ import annotations

import random
import shutil
import subprocess
from typing import Final

from trio_ssh.crypto import defaults

ALL: Final = defaults.PROFILES["legacy"].client


def _known_to_openssh(kind: str) -> frozenset[str]:
    """What ``ssh -Q`` lists.  Nothing where there is no ssh: this is read by those too who don't run these tests."""
    if shutil.which("ssh") is None:
        return frozenset()
    return frozenset(subprocess.run(["ssh", "-Q", kind], capture_output=True, text=True, check=True).stdout.split())


def _common(ours: tuple[str, ...], kind: str) -> list[str]:
    theirs = _known_to_openssh(kind)
    return [name for name in ours if name in theirs]


KEX: Final = _common(ALL.kex, "kex")
#: Without those of tokens, which no host here has.
HOST_KEYS: Final = [name for name in _common(defaults.HOST_KEYS, "HostKeyAlgorithms") if not name.startswith("sk-")]
CIPHERS: Final = _common(ALL.ciphers, "cipher")
MACS: Final = _common(ALL.macs, "mac")

#: Cipher and MAC, which is empty for those ciphers that need none.
PROTECTIONS: Final = [
    (cipher, mac) for cipher in CIPHERS for mac in ([""] if "gcm" in cipher or "poly1305" in cipher else MACS)
]

#: Lines of sshd_config that enable all of them.
SSHD_OPTIONS: Final = (
    f"KexAlgorithms {','.join(KEX)}",
    f"Ciphers {','.join(CIPHERS)}",
    f"MACs {','.join(MACS)}",
)

#: What ssh calls it, and what is on the wire.
COMPRESSIONS: Final = {"no": "none", "yes": "zlib@openssh.com"}

#: Sent there and back: many packets of many lengths, half of it worth compressing.
SAMPLE: Final = random.Random(0).randbytes(150_001) + b"again and again " * 10_000
