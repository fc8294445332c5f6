"""``python -m trio_ssh``: see `trio_ssh.cli`."""

from __future__ import annotations

import sys

from trio_ssh.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
