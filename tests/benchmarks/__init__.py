"""Measures trio_ssh beside asyncssh, paramiko and OpenSSH: `python -m tests.benchmarks --help`.

Every figure comes from a client and a server on 127.0.0.1, each in a process of its own, started anew for it.
Contenders take turns (A B C A B C), so that all of them share a slow minute of the machine.  What counts is
the ratio of two contenders inside one round.
"""
