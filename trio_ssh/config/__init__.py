"""The user's configuration, ssh_config(5): read, asked, and applied.

``words``       lines and the words in them
``values``      what words mean: numbers, times, forwardings, jump hosts, algorithms
``keywords``    every keyword: its attribute, its values, and which of several count
``options``     what a configuration says of one host
``tokens``      ``%h``, ``${HOME}`` and ``~``: what is filled in, and what must not be
``match``       what ``Match`` lines ask
``parser``      files, read into lines
``canonical``   short names, made whole by DNS
``evaluation``  what lines come to for one host
``ssh_config``  `SSHConfig`
``applied``     what a configuration makes of a connection
``trust``       whether a host is the right one, as far as a configuration decides it
``forwards``    what a configuration forwards
"""

from __future__ import annotations

from trio_ssh.config.options import SSHOptions
from trio_ssh.config.ssh_config import ConfigSource, SSHConfig

__all__ = ["ConfigSource", "SSHConfig", "SSHOptions"]
