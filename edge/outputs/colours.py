"""Which colour a language has: the same on the page, in reports, plots and on a terminal.

The nine of the model that comes along, and ``other``, are as far from one another and from the
greys as was found by trial, on paper and on a dark screen alike, and to people who lack one kind
of cone (simulated as Machado et al., 2009, do; distances in OKLab). Each further colour is the one
farthest from all before it, so that those of more speakers are told apart better.
"""

from __future__ import annotations

import json

from edge.languages import UNKNOWN

GREYS = {"nonspeech": "#a9b1bb", UNKNOWN: "#6b7580"}
_FIRST = {
    "de": "#eeaa00", "en": "#3399bb", "es": "#dd2255", "fr": "#6622ff", "it": "#00bbff",
    "nl": "#ff7777", "pt": "#9922bb", "ru": "#aa3300", "zh": "#9977ff", "other": "#bb8800",
}  # fmt: skip
# By the number of speakers, roughly.
_FURTHER = (
    "hi", "ar", "bn", "ur", "id", "ja", "mr", "te", "tr", "ta", "vi", "ko", "fa", "sw", "th",
    "pa", "ml", "pl", "uk", "ms", "ro", "kk", "hu", "el", "cs", "sv", "be", "he", "bg",
    "sr", "ca", "hr", "da", "fi", "no", "sk", "sq", "ka", "lt", "sl", "lv", "mk", "et",
    "eu", "gl", "cy", "is", "ga",
)  # fmt: skip
_MORE = (
    "#665588", "#ff33bb", "#007755", "#9955dd", "#00bb88", "#ff77ee", "#bb6600", "#cc9933",
    "#aa44aa", "#bb77dd", "#bb4422", "#5566ff", "#889955", "#008855", "#aa66dd", "#cc4477",
    "#8822dd", "#bbbb66", "#88aadd", "#88aa66", "#aa6699", "#33aaff", "#aa2288", "#4488bb",
    "#66cc00", "#dd9999", "#ff0099", "#bb7733", "#cc7777", "#9944bb", "#994433", "#cc00ff",
    "#cc0044", "#cc0099", "#6677cc", "#dd88aa", "#6666cc", "#aa88cc", "#bb99cc", "#dd4488",
    "#bbaa55", "#8888ee", "#dd77aa", "#8844aa", "#dd11cc", "#775599", "#ee99bb", "#994477",
)  # fmt: skip
_FIXED = {**GREYS, **_FIRST, **dict(zip(_FURTHER, _MORE, strict=True))}


def colour_of(label: str) -> str:
    """Colour of a language or what is none, as ``#rrggbb``.

    A region, as in ``pt-BR``, changes nothing. What is not known has one of `_MORE`, by its name.
    """
    if label in _FIXED:
        return _FIXED[label]
    code = label.replace("_", "-").partition("-")[0].lower()
    if code in _FIXED:
        return _FIXED[code]
    number = 0
    for byte in label.encode(errors="replace"):
        number = (number * 31 + byte) % 65_521  # which JavaScript reckons exactly, too
    return _MORE[number % len(_MORE)]


def script() -> str:
    """A module of JavaScript with the same function."""
    return f"""\
// Made by edge.outputs.colours.

const FIXED = {json.dumps(_FIXED)};
const MORE = {json.dumps(_MORE)};

export function colourOf(label) {{
  const code = label.replaceAll("_", "-").split("-")[0].toLowerCase();
  if (Object.hasOwn(FIXED, label) || Object.hasOwn(FIXED, code)) return FIXED[label] ?? FIXED[code];
  let number = 0;
  for (const byte of new TextEncoder().encode(label)) number = (number * 31 + byte) % 65521;
  return MORE[number % MORE.length];
}}
"""
