"""Words: short text, and yes or no. The same words in the same order; never anagrams, never parts."""

from __future__ import annotations

import calendar
import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

from racro.grading import english
from racro.grading.east_asian import YES_OR_NO
from racro.grading.nearness import same_number
from racro.grading.numbers import number
from racro.grading.plain import clean
from racro.grading.ranks import ranked
from racro.schema import Gold

YES, NO = (
    frozenset({"yes", "true", "correct", "right", "y", "yeah", "yep"}),
    frozenset({"no", "false", "incorrect", "wrong", "n", "nope"}),
)
_SHORT = {
    short.lower(): full.lower()
    for shorts, names in ((calendar.month_abbr, calendar.month_name), (calendar.day_abbr, calendar.day_name))
    for short, full in zip(shorts, names, strict=True)
    if short
} | {"tues": "tuesday", "weds": "wednesday", "thur": "thursday", "thurs": "thursday", "sept": "september"}
_SHAPED = {
    **{"circular": "circle", "triangular": "triangle", "rectangular": "rectangle", "hexagonal": "hexagon"},
    **{"pentagonal": "pentagon", "octagonal": "octagon", "spherical": "sphere", "cubical": "cube", "conical": "cone"},
    **{"cylindrical": "cylinder", "pyramidal": "pyramid"},
}
_SAME = _SHORT | _SHAPED
"""Words that say the same as another: abbreviations, and of what shape something is."""


def same_text(found: str, answer: str) -> bool:
    """The same words in the same order; case, punctuation and a leading article aside. Or the same number."""
    ours = words(answer)
    if not ours:  # an answer like "<" or "+" is nothing but punctuation
        return clean(found) == clean(answer)
    theirs = words(found)
    if ours == theirs or _SAME.get(ours, ours) == _SAME.get(theirs, theirs):
        return True
    if ours[:1] == theirs[:1] and _joined(ours) == _joined(theirs) != "":
        return True
    if (place := ranked(ours)) is not None and place == ranked(theirs):
        return True
    if (":" in answer or ":" in found) and (ratio := _ratio(answer)) is not None:
        return ratio == _ratio(found, may_be_time=False)
    gold = number(answer)
    value = gold and number(found)
    return bool(gold and value and same_number(value, gold, Gold(answer, "integer")))


def _joined(words: str) -> str:
    """Words without gaps: "lightblue" of "light blue", "us" of "u.s."; nothing where there is more than letters."""
    return (
        words.replace(" ", "").replace("-", "").replace(".", "")
        if re.fullmatch(r"[^\W\d_]+(?:[ .-][^\W\d_]+)*\.?", words)
        else ""
    )


_TIMES = re.compile(r"\s?(?:\*|·|×|\\cdot|\\times)\s?")


def same_product(found: str, gold: Gold) -> bool:
    """Are two texts the same product of letters, "ab" and "b * a"? Without a sign the question has the letters."""
    factors, plain = clean(gold.answer).replace(" ", ""), clean(found)
    if not _FACTORS.fullmatch(factors):
        return False
    theirs = _TIMES.sub("", plain).replace(" ", "")
    if sorted(factors) != sorted(theirs):
        return False
    signed = len(_TIMES.findall(plain)) == len(factors) - 1
    return signed or all(re.search(rf"(?<![A-Za-z]){letter}(?![A-Za-z])", gold.question) for letter in factors)


_FACTORS = re.compile(r"[a-z]{2,4}")
_RATIO = re.compile(r"\d{1,9}(?:\.\d{1,9})?(?:\s?(?::|\bto\b)\s?\d{1,9}(?:\.\d{1,9})?)+")
_TIME = re.compile(r"[01]?\d:[0-5]\d|2[0-4]:[0-5]\d")


def _ratio(text: str, may_be_time: bool = True) -> tuple[Fraction, ...] | None:
    """A ratio by its first term: "3:4", "6 to 8", and "3/4" and "0.75" where it has two. None for a time of day."""
    plain = clean(text)
    if _RATIO.fullmatch(plain) and not (may_be_time and _TIME.fullmatch(plain)):
        first, *others = (Fraction(term) for term in re.split(r"\s?(?::|to)\s?", plain))
        return tuple(other / first for other in others) if first else None
    value = number(text)
    if value is None or not value.value or value.units or value.percent:
        return None
    return (1 / value.value,)


_ACCENTS = re.compile(r"(?<=[a-z])[\u0300-\u036f]+")
_PRIMES = re.compile(r"(?<![\w'\"])([a-z])('{1,3})(?!\w)")
"""A' is another point than A."""
_FIGURES = {"∠": "angle", "△": "triangle", "▵": "triangle", "∥": "parallel", "⊥": "perpendicular"}
_FIGURE = re.compile(rf"[{''.join(_FIGURES)}]")
_ORDINAL = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th)\b")
_PUNCTUATION = re.compile(r"(?<=[^\W\d])-(?=[^\W\d])|[^\w\s./%+<>=°^\u2200-\u2218\u221a-\u22ff-]|\.(?!\d)")
_PLAIN = re.compile(r"(?! )[a-z ]*[0-9]*")
_ARTICLE = re.compile(r"^(?:an?|the|(?:on|to|at) the(?= (?:left|right|top|bottom)$))\s(?=.)")
_INDEX = re.compile(r"(?<=[a-z)])\s?_\s?\{?(\d+)\}?(?:\s(?=[a-z(](?![a-z]{2})))?")


@lru_cache(4096)
def words(text: str) -> str:
    """In lower case, without punctuation that means nothing between words."""
    text = clean(text).casefold()
    if not text.isascii():
        text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
        text = unicodedata.normalize("NFC", _ACCENTS.sub("", text))
    text = text.replace("grey", "gray")
    if _PLAIN.fullmatch(text):  # most texts
        return _ARTICLE.sub("", text)
    if "'" in text:
        text = _PRIMES.sub(lambda letter: letter[1] + "prime" * len(letter[2]), text)
    if not text.isascii():
        text = _FIGURE.sub(lambda sign: f" {_FIGURES[sign[0]]} ", text)
    if "_" in text:
        text = _INDEX.sub(r"\1", text)
    text = _ORDINAL.sub(lambda number: english.ORDINALS.get(int(number[1]), number[0]), text)
    if not text.replace(" ", "").isalnum():
        text = _PUNCTUATION.sub(" ", text)
    return _ARTICLE.sub("", " ".join(text.split()))


_BEFORE_YES = frozenset(["indeed", "so", "thus", "therefore", "hence", "well", "clearly"])
_REFUSED = frozenset(["idea", "clue", "comment", "answer", "information", "info", "data", "context"])
"""After "no" these refuse an answer."""


CORRECTED = re.compile(r".*\bwait\b[,.!…]+\s*(?:actually\b,?\s*)?", re.IGNORECASE | re.DOTALL)
"""What an answer takes back: "No, wait, "."""

OPINION = re.compile(
    r"(?:I(?:['’]d| would)? (?:say|guess|think|believe|pick|choose|go (?:with|for))"
    r"|my (?:guess|pick|choice) (?:is|would be))(?: that)?\s",
    re.IGNORECASE,
)
"""What an answer begins with that is somebody's: "I'd say red"."""


def yes_or_no(text: str) -> bool | None:
    """What a text begins by saying: "Yes", "yes, because ...", "True", "No." None for neither, and for both.

    Of "No, wait, yes" the second.
    """
    if (taken_back := CORRECTED.match(text)) and (second := yes_or_no(text[taken_back.end() :])) is not None:
        return second
    if text[:1] in "IMim" and (opinion := OPINION.match(text)):
        text = text[opinion.end() :]
    said = re.findall(r"[a-z]+", clean(text).lower())
    if len(said) > 1 and said[0] in _BEFORE_YES:
        said = said[1:]
    if said[:1] == ["no"] and said[1:2] and said[1] in _REFUSED:
        return None
    if not said and (chinese := YES_OR_NO.match(clean(text))):
        return chinese[1] is not None
    first = said[0] if said else ""
    if clean(text) in ("T", "F"):
        return clean(text) == "T"
    if (first in YES) == (first in NO) or (first in YES and set(said) & NO) or (first in NO and set(said) & YES):
        return None
    return first in YES
