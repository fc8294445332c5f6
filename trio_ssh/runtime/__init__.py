"""The trio shell: tasks, waiting, cancellation.  It turns events into wake-ups, and holds no protocol rule.

``block``                  a nursery behind an object's ``async with``
``arguments``              what callers give, looked at where it is given
``interrupts``             what Ctrl-C may not cut in two
``waiting``                one-shot replies, and misuse detected instead of locked away
``link``                   what a channel tells of its connection
``busy_poll``              whether to look at a socket again and again before it is slept for
``descriptor``             a socket's reads and writes without a detour
``lead``                   who reads: the reader's task, or whoever waits for what it would read
``lane``                   one direction of one channel's data, from the reader task to its user
``server_keys``            the host keys that a server's connection is given
``coalescing``             how much is worth waking up for in a large transfer
``engine``                 the tasks that move bytes between a stream and the core
``hints``                  what is said to whoever looks for a name of another library's
``file_objects``           file objects of the user's, read and written without holding up anything
``files``                  file-like reading and writing over a channel
``session_requests``       what is asked of a session's channel
``channel``                the public `Channel`
``pump``                   two streams, joined
``handler``                what a peer may ask of us, as an interface
``handshake``              answering what a handshake asks, in its caller's task
``requests``               what the peer asks, carried out
``asked_ports``            ports that were asked for as paramiko does it
``security_options``       which algorithms are enabled
``explain``                what was agreed on, and why
``moduli``                 a server's groups, read in a thread
``gss``                    contexts of GSS-API, in threads
``gss_keying``             key exchanges by GSS-API
``client_authentication``  logging in, one method at a time
``transport``              the public `Transport`: one connection
``remote_listener``        what a server listens at for us
"""
