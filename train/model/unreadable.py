"""What is raised for files that are damaged, or of another kind."""

from __future__ import annotations

import zipfile
import zlib

# What numpy and zipfile raise for a file that is no archive of arrays, or one with a hole in it.
UNREADABLE = (
    AttributeError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
