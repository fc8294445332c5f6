"""What tests of programs that use trio_ssh are made of; nothing else in the package imports it.

``lockstep``  two sealed cores that exchange bytes by hand
"""
