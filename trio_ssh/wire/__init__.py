"""Bytes to values and back: RFC 4251 section 5 and the messages built of it.

Imports the standard library and attrs alone.

``numbers``     the IANA registries as enums
``text``        what a peer wrote, made safe to show
``values``      value classes whose methods are written when first used
``fields``      the data types, and how a message is declared
``message``     the public `Message`: build and read fields by hand
``transport``   RFC 4253: the messages numbered 1 to 29, and ping
``exchange``    RFC 5656 and RFC 8731: the messages of a key exchange
``userauth``    RFC 4252 and RFC 4256: the messages of authentication
``connection``  RFC 4254: channels, their requests, and global requests
"""
