"""SFTP: a sealed codec for both roles, and the files, transfers and servers that are built on it.

``protocol``    numbers, and the bounds on what a peer may make us hold
``attributes``  a file's attributes
``messages``    the packets, declared
``session``     both ends of a session, sealed
``link``        the client's end on a channel: who waits, who is woken, and how much is under way
``pipeline``    many READs or WRITEs of one file under way at once
"""

from __future__ import annotations
