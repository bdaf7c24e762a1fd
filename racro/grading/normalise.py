"""Characters that look alike made one: full width, hyphens for minus, ½, ², invisible ones. At the grader's door.

Not LaTeX and not Markdown (`racro.grading.plain`). Linear; of a text of ASCII alone only 1'000 changes.
"""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_TABLE = str.maketrans(
    {
        **dict.fromkeys("‐‑‒–−➖˗⁃﹘﹣－", "-"),
        **dict.fromkeys("⁄∕⧸", "/"),
        **dict.fromkeys("º˚", "°"),  # NFKC takes both for a letter
        **dict.fromkeys("⋅∙・･", "·"),
        **dict.fromkeys("\u2028\u2029\u0085\v\f", "\n"),
        **dict.fromkeys("⩽≦⪕", "≤"),
        **dict.fromkeys("⩾≧⪖", "≥"),
        "∗": "*",
        "✕": "×",
        "✖": "×",
        "∶": ":",
        "、": ", ",
        "،": ",",
        "٫": ".",
        "٬": ",",
        "´": "'",
        "′": "'",  # of ″ NFKC makes two
        "¨": '"',
        "【": "[",
        "】": "]",
        "〔": "(",
        "〕": ")",
    }
)
_RAISED = re.compile(r"[⁰¹²³⁴-⁹⁺⁻]+")
_SLANTED = re.compile(r"(?<![⁰¹²³⁴-⁹])(\d)?([⁰¹²³⁴-⁹]{1,4})/([₀-₉]{1,4})")
_SIGN = re.compile(r"(?<![\w)\]}])⁻(?=\d)")
_LOWERED = re.compile(r"[₀-₉]+")
_VULGAR = re.compile(r"(?:(\d)\s?)?([¼-¾⅐-⅞↉])")
_LONG_DASH = re.compile(r"(^|\b(?:is|are|be|was|equals)\s|[:=(,{]\s?)[—―]\s?(?=\d)|(\s)[—―](?=\d)")
"""A long dash that is a minus: right before a digit, or with a space where a value is announced ("x is — 5")."""
_PARTED, _CURLY = (re.compile(rf"{mark}(?<=\d.)(?=\d{{3}}(?!\d))") for mark in "'’")
"""What parts the thousands of a number in Switzerland: 1'000. What begins with one character is found fast."""
_FOREIGN_DIGIT = re.compile(r"(?![0-9])\d")


def normalised(text: str) -> str:
    """One character where several look or mean the same: NFKC, with what NFKC would join or lose written out before."""
    if "'" in text:
        text = _PARTED.sub("", text)
    if text.isascii():
        return text
    if "’" in text:
        text = _CURLY.sub("", text)
    text = _INVISIBLE.sub("", text.replace("\u2064", "+")).translate(_TABLE)
    text = _SLANTED.sub(lambda part: (f"{part[1]} " if part[1] else "") + f"{_flat(part[2])}/{_flat(part[3])}", text)
    text = _RAISED.sub(_power, _SIGN.sub("-", text))
    text = _LOWERED.sub(lambda low: "_" + _flat(low[0]), text)
    text = _VULGAR.sub(lambda part: (f"{part[1]} " if part[1] else "") + _quotient(part[2]), text)
    text = _LONG_DASH.sub(r"\1\2-", unicodedata.normalize("NFKC", text)).translate(_TABLE)
    return _FOREIGN_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)


def _flat(digits: str) -> str:
    return unicodedata.normalize("NFKC", digits)


def _power(raised: re.Match[str]) -> str:
    digits = _flat(raised[0]).replace("−", "-")
    return f"^{digits}" if len(digits) == 1 else f"^{{{digits}}}"


def _quotient(char: str) -> str:
    return unicodedata.normalize("NFKC", char).replace("⁄", "/")
