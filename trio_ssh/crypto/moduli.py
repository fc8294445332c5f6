"""Groups for Diffie-Hellman group exchange, from a file as OpenSSH keeps them: moduli(5).

A line is a time, a type, tests, tries, a size, a generator and a modulus.  Only safe primes that passed a test
of primality are taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from trio_ssh.crypto.agreement_dh import MAXIMUM_BITS, MINIMUM_BITS, Group, choose_group
from trio_ssh.errors import ConfigParseError
from trio_ssh.wire.text import printable

#: Where systems keep it.
USUAL_PATHS: Final = (Path("/etc/ssh/moduli"), Path("/etc/moduli"), Path("/usr/local/etc/moduli"))

#: OpenSSH's has half a MiB.
_FILE_BYTES: Final = 16 << 20

_SAFE_PRIME: Final = 2
#: Tests: bit 0 says that the modulus is composite, the others that it passed something.
_COMPOSITE: Final = 1


@attrs.frozen
class Moduli:
    """The groups that a server has for ``diffie-hellman-group-exchange-*``.

    Without any it chooses among those of RFC 3526, as OpenSSH does without its file.

    Attributes:
        groups: as they stand in the file; those that may not be used are left out.
    """

    groups: tuple[Group, ...] = attrs.field(default=(), repr=False)

    @classmethod
    def from_text(cls, text: str, source: str = "moduli") -> Moduli:
        """Read what stands in such a file.

        Args:
            text: all of it.
            source: how to call it in error messages.

        Raises:
            ConfigParseError: a line is none of such a file's.
        """
        groups: list[Group] = []
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                group = _read_line(line, f"{source}:{number}")
                if group is not None:
                    groups.append(group)
        return cls(tuple(groups))

    @classmethod
    def from_path(cls, path: str | Path) -> Moduli:
        """Read such a file.

        Raises:
            OSError: it can't be read.
            ConfigParseError: it is none of those files.
        """
        shown = printable(str(path), 4096)
        with open(path, "rb") as file:
            data = file.read(_FILE_BYTES + 1)
        if len(data) > _FILE_BYTES:
            raise ConfigParseError(f"{shown}: the file has more than {_FILE_BYTES >> 20} MiB. Is it a moduli file?")
        return cls.from_text(data.decode("ascii", "replace"), shown)

    @classmethod
    def of_system(cls) -> Moduli:
        """Read the file where systems keep it; without one, there are no groups.

        Raises:
            ConfigParseError: it is none of those files.
        """
        for path in USUAL_PATHS:
            try:
                return cls.from_path(path)
            except OSError:
                continue
        return NO_MODULI

    def choose(self, minimum: int, preferred: int, maximum: int, random_bytes: bytes) -> Group:
        """Return a group as of `choose_group`."""
        return choose_group(self.groups, minimum, preferred, maximum, random_bytes)


NO_MODULI: Final = Moduli()


def _read_line(line: str, place: str) -> Group | None:
    """Return the group of a line, or None if it may not be used.

    Raises:
        ConfigParseError: there is no group in it.
    """
    fields = line.split()
    if len(fields) != 7:
        raise ConfigParseError(
            f"{place}: {len(fields)} fields instead of 7: time, type, tests, tries, size, generator, modulus. "
            "Make such files with `ssh-keygen -M generate` and `-M screen`."
        )
    # Told before a number is made of it.
    if len(fields[6]) > 2 * MAXIMUM_BITS // 8:
        return None
    try:
        kind, tests, tries, size = map(int, fields[1:5])
        generator, prime = int(fields[5], 16), int(fields[6], 16)
    except ValueError:
        raise ConfigParseError(f"{place}: a field is no number. Restore the file from a copy.") from None
    # OpenSSH counts a size from 0: the highest bit's place.
    if prime.bit_length() != size + 1:
        raise ConfigParseError(
            f"{place}: the modulus has {prime.bit_length()} bits, and the line says {size + 1}. "
            "Restore the file from a copy."
        )
    is_screened = tries > 0 and tests & _COMPOSITE == 0 and tests != 0
    if kind != _SAFE_PRIME or not is_screened or not MINIMUM_BITS <= prime.bit_length() <= MAXIMUM_BITS:
        return None
    if prime % 2 == 0 or not 1 < generator < prime - 1:
        return None
    return Group(prime, generator)
