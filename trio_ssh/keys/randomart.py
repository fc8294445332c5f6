"""The picture of a key that `ssh-keygen -lv` draws, for those who tell pictures apart better than letters.

Source: OpenSSH's sshkey.c; D. Loss et al., "The drunken bishop: An analysis of the OpenSSH fingerprint
visualization algorithm", 2009.
"""

from __future__ import annotations

from typing import Final

_WIDTH: Final = 17
_HEIGHT: Final = 9

#: What a field looks like by the number of visits; the last two are where the walk began and where it ended.
_MARKS: Final = " .o+=*BOX@%&#/^SE"
_MOST_VISITS: Final = len(_MARKS) - 3

_SHORT_NAMES: Final = {
    "ssh-ed25519": "ED25519",
    "ssh-ed448": "ED448",
    "ecdsa-sha2-nistp256": "ECDSA",
    "ecdsa-sha2-nistp384": "ECDSA",
    "ecdsa-sha2-nistp521": "ECDSA",
    "ssh-rsa": "RSA",
    "ssh-dss": "DSA",
    "sk-ssh-ed25519@openssh.com": "ED25519-SK",
    "sk-ecdsa-sha2-nistp256@openssh.com": "ECDSA-SK",
    "ssh-mldsa44-ed25519@openssh.com": "MLDSA44-ED25519",
}

_CERTIFICATE: Final = "-cert-v01@openssh.com"


def short_name(key_type: str) -> str:
    """Return what `ssh-keygen -l` calls a type of key, such as ``"ED25519"``; an unknown one in capitals."""
    if key_type.endswith(_CERTIFICATE):
        plain = key_type.removesuffix(_CERTIFICATE)
        return short_name(plain if plain in _SHORT_NAMES else f"{plain}@openssh.com") + "-CERT"
    return _SHORT_NAMES.get(key_type, key_type.upper())


def draw(digest: bytes, key_type: str, bits: int, hash_name: str) -> str:
    """Return the picture, eleven lines without the last one's end.

    Args:
        digest: the fingerprint as bytes; each steers four steps of the walk.
        key_type: stands in the upper edge, as `short_name` has it.
        bits: stands beside it, if both fit.
        hash_name: stands in the lower edge.
    """
    visits = [[0] * _WIDTH for _ in range(_HEIGHT)]
    x, y = _WIDTH // 2, _HEIGHT // 2
    for byte in digest:
        for shift in (0, 2, 4, 6):
            x = min(max(x + (1 if byte >> shift & 1 else -1), 0), _WIDTH - 1)
            y = min(max(y + (1 if byte >> shift & 2 else -1), 0), _HEIGHT - 1)
            visits[y][x] = min(visits[y][x] + 1, _MOST_VISITS)
    visits[_HEIGHT // 2][_WIDTH // 2] = len(_MARKS) - 2
    visits[y][x] = len(_MARKS) - 1
    name = short_name(key_type)
    title = f"[{name} {bits}]"
    # ssh-keygen measures with room for one character more than it then writes.
    if len(title) > _WIDTH:
        title = f"[{name}]"
    rows = ["|" + "".join(_MARKS[count] for count in row) + "|" for row in visits]
    return "\n".join((_edge(title), *rows, _edge(f"[{hash_name.upper()}]")))


def _edge(text: str) -> str:
    text = text[: _WIDTH - 1]
    return "+" + text.rjust(len(text) + (_WIDTH - len(text)) // 2, "-").ljust(_WIDTH, "-") + "+"
