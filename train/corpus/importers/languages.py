"""The codes and names by which corpora call languages, as one code for each language."""

from __future__ import annotations

from functools import lru_cache

import langcodes

# What is heard, where the code says how it is written, or where corpora use two codes for the same
# speech: Common Voice's zh-HK is Cantonese; FLEURS' nb is VoxLingua107's no.
SPOKEN = {("zh", "HK"): "yue", ("zh", "MO"): "yue", ("nb", None): "no", ("nb", "NO"): "no"}

YOUNG = ("tok",)  # of ISO 639-3, and in Common Voice, but not yet in the tables of langcodes
NO_LANGUAGE = ("und", "mul", "zxx", "mis")
PRIVATE_USE = ("qaa", "qtz")  # from, to: registered, and of no fixed meaning


@lru_cache(maxsize=4096)
def from_code(code: str) -> str | None:
    """The language of a code.

    Parameters
    ----------
    code
        ISO 639-1 or 639-3, also retired ones (``iw``), or a locale (``sv-SE``, ``cmn_hans_cn``).

    Returns
    -------
    str or None
        ISO 639-1, or ISO 639-3 where there is no other; None if no language has that code. A
        language that is the usual one of a macrolanguage takes its ISO 639-1 code (``cmn`` is
        ``zh``, but ``yue`` stays).
    """
    if code in YOUNG:
        return code
    try:
        tag = langcodes.Language.get(code)
        wider = langcodes.Language.get(langcodes.standardize_tag(code, macro=True)).language
    except ValueError:
        return None
    language = tag.language
    if language is None or not langcodes.Language.make(language).is_valid():
        return None
    if language in NO_LANGUAGE or PRIVATE_USE[0] <= language <= PRIVATE_USE[1]:
        return None
    if len(language) == 3 and wider is not None and len(wider) == 2:
        language = wider
    return SPOKEN.get((language, tag.territory), language)


@lru_cache(maxsize=4096)
def from_name(name: str) -> str | None:
    """The language of a name such as ``German``, as `from_code` gives it; None if it is none."""
    if not name.isprintable():  # langcodes' tables end their keys with a zero, and fail on others
        return None
    try:
        return from_code(str(langcodes.find(name)))
    except LookupError:
        return None


@lru_cache(maxsize=4096)
def is_likely(code: str) -> bool:
    """Whether the code of a folder is meant as one, rather than a word such as ``dev`` or ``tmp``.

    There are 8,000 codes of three letters, so most such words are one. A code of ISO 639-1, one
    with a region, and one of a language whose speakers CLDR counts is taken at its word.
    """
    if len(code) != 3 or code in YOUNG:
        return True
    language = from_code(code)
    if language is None or len(language) == 2:
        return True
    return bool(langcodes.Language.make(language).speaking_population())


def name_of(code: str) -> str:
    """English name of a language."""
    return langcodes.Language.get(code).display_name()
