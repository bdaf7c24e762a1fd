"""The sentences of an output that may hold its answer: the last ones and the first two, without tables and politeness.

What they say is read in `racro.grading.prose`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from racro.grading.quantities import CONCLUDING

SENTENCES = 6
"""Sentences at the end of an output that are read, before the two at its beginning."""
LONGEST = 600
"""Characters of a sentence that are read, at its end."""

_END = re.compile(r"[.!?。\n](?:(?<=\n)\n*|(?<=。)[\s*]*|(?<![。\n])(?<!^[A-Z]\.)[\s*]+)")
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
LISTED = re.compile(r"^[ \t]*\(?([A-Z])[).][^\n]*$", re.MULTILINE)
"""A line that begins with the letter of an option."""
_TABLE = re.compile(r"^[^\n|]*\|[^\n]*$", re.MULTILINE)
_POLITE = re.compile(
    r"\b(?:hope (?:this|that|it)|let me know|anything else|other questions|help you|feel free|note that)\b",
    re.IGNORECASE,
)
REFUSAL = re.compile(
    r"\b(?:can(?:not|'t|’t)|unable|impossible|not possible|not provided?|does(?: not|n't|n’t) provide|no information"
    r"|not enough|more (?:information|context)|none of the|mistake|not (?:one of|among|an option|available|listed)"
    r"|no (?:option|correct|answer)|insufficient|error in the (?:problem|question|options|image))\b|题目|错误",
    re.IGNORECASE,
)
"""Words that refuse an answer."""


def sentences(text: str) -> list[str]:
    """The sentences that may hold an answer, the likeliest first; those before which it is refused are left out."""
    text = _CODE.sub("\n", text)
    if "|" in text:
        text = _TABLE.sub("\n", text)
    if copies_options(text):
        text = LISTED.sub("", text)
    parts = list(_parts(text))
    last = list(islice(_meant(parts[::-1]), SENTENCES))
    refused = next((at for at, part in enumerate(last) if REFUSAL.search(part)), None)
    read = last[:refused] if refused is not None else [*last, *islice(_meant(parts), 2)]
    return sorted(read, key=lambda sentence: not CONCLUDING.match(sentence))


def _parts(text: str) -> Iterator[str]:
    """The sentences of a text, of any kind."""
    start = 0
    for end in _END.finditer(text):
        yield text[start : end.start() + 1]
        start = end.end()
    yield text[start:]


def _meant(parts: Sequence[str]) -> Iterator[str]:
    """The ends of those that are neither blank nor mere politeness."""
    stripped = (part.strip() for part in parts)
    return (_corrected(part[-LONGEST:]) for part in stripped if part and not _POLITE.search(part))


def _corrected(sentence: str) -> str:
    """A sentence without what it denies only to say what is: "It is B" for "Not A but B"."""
    if " but " not in sentence:
        return sentence
    return _CORRECTED.sub(lambda denied: "" if denied.start() else "It is ", sentence)


_CORRECTED = re.compile(r"\bnot (?!only\b|just\b|merely\b)[^.;:!?]{1,60}?,? but (?:rather )?", re.IGNORECASE)


def copies_options(text: str) -> bool:
    """Do two lines begin with the letters of options?"""
    return "\n" in text and len({line[1] for line in map(LISTED.match, text.split("\n")) if line}) > 1
