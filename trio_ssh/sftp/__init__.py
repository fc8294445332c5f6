"""SFTP: a sealed codec for both roles, and the files, transfers and servers that are built on it.

``protocol``       numbers, and the bounds on what a peer may make us hold
``attributes``     a file's attributes
``messages``       the packets, declared
``session``        both ends of a session, sealed
``link``           the client's end on a channel: who waits, who is woken, and how much is under way
``pipeline``       many READs or WRITEs of one file under way at once
``pure_path``      remote paths as text alone
``listing``        the names in a directory, as they come
``operations``     requests about paths: what files, trees, transfers and `SFTPClient` are built on
``modes``          how a file is opened, as Python's `open` has it
``read_ahead``     reading one open file in order, ahead of its user
``write_behind``   writing to one open file behind its user's back
``scatter``        reading pieces of an open file from here and there
``file``           the public `SFTPFile`
``walking``        whole trees: walking, patterns, removing
``path``           the public `SFTPPath`
``extensions``     what some servers can do besides
``round``          one round trip: requests that leave in one piece
``in_memory``      what of a local file can be read or written without waiting
``local``          files of this machine as transfers read and write them, in threads
``remote_writer``  a file on the server while a transfer writes it
``feed``           an upload of what is in memory, without a task
``blocks``         where an upload's bytes stand that a thread reads, until they are sealed
``transfer``       single files, from the server and to it
``file_objects``   from the server to file objects, and from file objects to it
``small_files``    many small files at once, and no task for any of them
``local_tree``     a tree of directories on this machine, in threads
``tree``           trees from the server, and what all transfers of trees have in common
``tree_put``       trees to the server
``copying``        copies on a server, and from one to another
``transfers``      get, put and copy as `SFTPClient` has them
``progress``       how far a transfer is, on a terminal
``client``         the public `SFTPClient`
``status``         which status an exception becomes
``interface``      what a server decides and does: `SFTPServerInterface`, `SFTPHandle`
``longname``       the line that ``ls -l`` would show
``order``          which of a session's requests may run at the same time
``dispatch``       from a request to its reply, by way of an interface
``budget``         what all sessions of a process share
``beneath``        opening files beneath a directory and never outside of it
``local_file``     an open file of this machine as a handle, and system calls on descriptors
``server``         `SFTPServer`: an interface on a channel, each request in a task
``directory``      a directory of this machine as an interface whose methods never wait
``filesystem``     `LocalSFTPServer`: such a directory, served by threads
"""

from __future__ import annotations
