"""The protocol, sealed: no socket, no clock, no task.  Bytes go in, events and bytes come out, and no verb ever waits.

``limits``          every bound on what a peer may choose
``role``            client or server
``questions``       what only someone outside can answer
``dialog``          a handshake as a generator: send, expect, ask
``identification``  the version exchange
``buffers``         reused memory, lent to connections that have traffic
``inbound``         received bytes to packets
``outbound``        payloads to bytes to send
``negotiation``     choosing algorithms
``exchange``        the key exchange
``phases``          which message may arrive when
``decision``        what a server's check has decided about a login
``auth_client``     authentication, asking
``gssapi``          authentication by GSS-API, both sides
``gss_exchange``    the key exchange in which GSS-API signs
``auth_server``     authentication, deciding
``window``          flow control
``channel``         one channel: its two halves and its two windows
``events``          what the runtime must know
``mux``             all channels of a connection, and its global requests
``options``         what a connection is told at birth
``keying``          what lasts from one key exchange to the next
``connection``      the whole, behind its verbs
"""
