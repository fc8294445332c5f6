"""The small command line behind ``python -m trio_ssh``.

``demo``   a server and a client that talk over TCP on this machine, and what came of it
``serve``  a directory by SFTP, until Ctrl-C
``copy``   files and trees from a host, to one, or from one to another
``main``   the commands and their options
"""
