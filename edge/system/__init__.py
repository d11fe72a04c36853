"""What is asked of the operating system: whole files, stderr of C libraries, the machine's state.

May import from `edge` only `errors`; every other room may import from here.
"""
