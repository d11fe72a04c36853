"""Names of languages, for people, and the languages that people mean."""

from __future__ import annotations

import functools
from collections.abc import Sequence

UNKNOWN = "unknown"  # the answer where no class is sure enough

# ISO 639-1 codes of the languages that public spoken-language corpora are commonly made of; the
# English name, the codes of ISO 639-2 and 639-3, and what its speakers call it.
_LANGUAGES = {
    "ar": "Arabic ara العربية", "be": "Belarusian bel беларуская", "bg": "Bulgarian bul български",
    "bn": "Bengali ben বাংলা bangla", "ca": "Catalan cat català",
    "cs": "Czech ces cze čeština česky", "cy": "Welsh cym wel cymraeg", "da": "Danish dan dansk",
    "de": "German deu ger deutsch", "el": "Greek ell gre ελληνικά", "en": "English eng",
    "es": "Spanish spa español castellano castilian", "et": "Estonian est eesti",
    "eu": "Basque eus baq euskara", "fa": "Persian fas per فارسی farsi",
    "fi": "Finnish fin suomi", "fr": "French fra fre français", "ga": "Irish gle gaeilge",
    "gl": "Galician glg galego", "he": "Hebrew heb עברית", "hi": "Hindi hin हिन्दी",
    "hr": "Croatian hrv hrvatski", "hu": "Hungarian hun magyar", "id": "Indonesian ind",
    "is": "Icelandic isl ice íslenska", "it": "Italian ita italiano", "ja": "Japanese jpn 日本語",
    "ka": "Georgian kat geo ქართული", "kk": "Kazakh kaz қазақша", "ko": "Korean kor 한국어",
    "lt": "Lithuanian lit lietuvių", "lv": "Latvian lav latviešu",
    "mk": "Macedonian mkd mac македонски", "ml": "Malayalam mal മലയാളം",
    "mr": "Marathi mar मराठी", "ms": "Malay msa may melayu",
    "nl": "Dutch nld dut nederlands flemish", "no": "Norwegian nor nb nn norsk",
    "pa": "Punjabi pan ਪੰਜਾਬੀ", "pl": "Polish pol polski", "pt": "Portuguese por português",
    "ro": "Romanian ron rum română", "ru": "Russian rus русский",
    "sk": "Slovak slk slo slovenčina", "sl": "Slovenian slv slovenščina slovene",
    "sq": "Albanian sqi alb shqip", "sr": "Serbian srp српски srpski",
    "sv": "Swedish swe svenska", "sw": "Swahili swa kiswahili", "ta": "Tamil tam தமிழ்",
    "te": "Telugu tel తెలుగు", "th": "Thai tha ไทย", "tr": "Turkish tur türkçe",
    "uk": "Ukrainian ukr українська", "ur": "Urdu urd اردو", "vi": "Vietnamese vie",
    "zh": "Chinese zho chi cmn 中文 mandarin",
}  # fmt: skip
_NAMES = {
    **{code: words.split()[0] for code, words in _LANGUAGES.items()},
    "other": "other language",
    "nonspeech": "no speech",
    UNKNOWN: "not sure",
}
# What the speakers of the nine languages of the model that comes along call them.
_IN_THE_NINE = {
    "de": "allemand tedesco alemán alemão duits немецкий 德语 德語 德文",
    "en": "englisch anglais inglese inglés inglês engels английский 英语 英語 英文",
    "es": "spanisch espagnol spagnolo espanhol spaans испанский 西班牙语 西班牙語 西班牙文",
    "fr": "französisch francese francés francês frans французский 法语 法語 法文",
    "it": "italienisch italien italiaans итальянский 意大利语 意大利語 意大利文",
    "nl": "niederländisch holländisch néerlandais hollandais olandese neerlandés holandés "
          "neerlandês holandês нидерландский голландский 荷兰语 荷蘭語 荷兰文",
    "pt": "portugiesisch portugais portoghese portugués portugees португальский 葡萄牙语 葡萄牙語 "
          "葡萄牙文",
    "ru": "russisch russe russo ruso 俄语 俄語 俄文",
    "zh": "chinesisch mandarin chinois cinese chino chinês chinees китайский 汉语 漢語 普通话 "
          "普通話 国语 國語 华语 華語",
}  # fmt: skip


def _folded(word: str) -> str:
    """A word without what people leave out: case, and accents."""
    from unicodedata import combining, normalize  # of no use where no language is named

    return "".join(letter for letter in normalize("NFKD", word.casefold()) if not combining(letter))


@functools.cache
def _codes() -> dict[str, str]:
    """Codes of languages by their names, folded."""
    return {
        _folded(word): code
        for table in (_LANGUAGES, _IN_THE_NINE)
        for code, words in table.items()
        for word in (code, *words.split())
    }


def language_name(label: str) -> str:
    """English name of a class, or the label itself where there is none."""
    return _NAMES.get(label, label)


def is_language(name: str) -> bool:
    """Whether somebody calls a language so, in any way that `code_of` knows."""
    return code_of(name) in _LANGUAGES


def meant(languages: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    """The classes that someone means, who may write ``DE``, ``German``, ``deutsch`` or ``de-AT``.

    Parameters
    ----------
    languages : sequence of str
    labels : sequence of str
        Classes of the model; what is none of them stays as it is.

    Returns
    -------
    tuple of str
        Each once.
    """
    unknown = [language for language in languages if language not in labels]
    by_code = {code_of(label): label for label in reversed(labels)} if unknown else {}
    return tuple(
        dict.fromkeys(
            language if language in labels else by_code.get(code_of(language), language)
            for language in languages
        )
    )


def code_of(name: str) -> str:
    """Code of the language with this name or code, with or without a region; or what was given."""
    word = _folded(name.strip())
    if word in _codes():
        return _codes()[word]
    first = word.replace("_", "-").partition("-")[0]
    return _codes().get(first, word) if len(first) in (2, 3) else name.strip().casefold()
