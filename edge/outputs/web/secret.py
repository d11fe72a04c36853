"""The access token, which whoever asks from elsewhere has to know."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from edge.errors import EdgelidError
from edge.system.atomic import write_atomically
from edge.system.regular import other_kind

TOKEN_BYTES = 32
# As a value of a cookie or a header, and in a URL, as it is.
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,256}")


def new_token() -> str:
    """One that nobody guesses, made of what needs no quoting in a URL."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_of(path: Path) -> str:
    """Read a token, or write a new one where there is no file yet, for its owner alone.

    Raises
    ------
    EdgelidError
        If it can be neither, or is too short to be worth anything.
    """
    token = read_token(path)
    if token is None:
        token = new_token()
        write_atomically(path, f"{token}\n".encode(), mode=0o600)
    return token


def read_token(path: Path) -> str | None:
    """Read a token; None where there is no file.

    Raises
    ------
    EdgelidError
        If it cannot be read, or is too short to be worth anything.
    """
    try:
        if (kind := other_kind(path.stat())) is not None:
            raise EdgelidError(f"the token of the web page cannot be read: {path}: it is {kind}.")
        token = path.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise EdgelidError(
            f"the token of the web page cannot be read: {path}: {reason}."
        ) from error
    if _TOKEN.fullmatch(token) is None:
        raise EdgelidError(
            f"the web page's token is no good: {path}: it must be at least 16 letters, digits "
            "or -._~, and nothing else; without the file, a good one is made."
        )
    return token
