"""One module per library, each a program: `python -m tests.benchmarks.adapters.with_x client|server ...`.

`roles` reads the command line and knows no library; an adapter knows its library and nothing of the others.
"""
