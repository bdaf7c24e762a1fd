"""What a question asks about, and which parts of an answer speak about something else in it.

"The sphere is red." says nothing about the cube's colour; of "3 cubes and 2 spheres" one count is asked for. Works with
words alone, and keeps what it does not understand. Called by `racro.grading.prose` and `racro.grading.restating`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from racro.grading import english, numerals
from racro.grading.plain import clean
from racro.grading.units import unit
from racro.grading.words import words

_FILLING = (
    "a an the is are was were be been being am do does did has have had of in on at to it its this that these those "
    "there here he she they his her their him them i me we you my your our s re so thus therefore hence then and by "
    "with as for from during which who what whom whose when where how why will would should could can must think "
    "believe see say know seems seem appears appear looks look shown shows depicts depicted displays displayed given "
    "based image picture figure photo graph chart diagram "
    "answer correct final clearly definitely indeed also just only simply called named one as thing"
)
FILLERS = frozenset(_FILLING.split())
"""Words that mean nothing by themselves."""
_ATTRIBUTE = "color colour shape size material texture name kind type sort value letter label word title brand"
_ATTRIBUTES = frozenset(_ATTRIBUTE.split())
_ENDINGS = re.compile(r"(?:ing|ed|es|s)$")
_PLURAL = re.compile(r"(?<=\w{3})(?<!s)s$")
_ASKS = re.compile(r"\b(?:which|what|who|whose|where|when|how)\b")
_SENTENCE = re.compile(r"(?<=[.?!;])\s|\n")
BESIDE = re.compile(
    r"\b(?:to|next|on|in|at|with|from|by|behind|near|between|above|below|under|over|beside|than|that|which|who|among"
    r"|inside|outside|if|when|where|as|for|after|before|do|does|did|not)\b"
)
_SUBJECT = re.compile(r"([^.,:;]{1,80}?)['’]?\s(?:is|are|was|were)\s")
_CLAUSES = re.compile(
    r"(?:,? (?:and|while|whereas|but)|[.,;]) (?=(?:(?:the|an?)\s[^,.;]{1,40}?"
    r"|(?!(?:it|this|that|which|there|here|he|she|they|we|you|who|what|these|those|one|both|all|none|so)\b)"
    r"[a-z]{2,20}(?:['’]s [a-z]{2,20})?)"
    r"\s(?:is|are|was|were)\b)",
    re.IGNORECASE,
)
_GRADED = re.compile(r"\w{3,}(?:er|est)")
POLAR = re.compile(r"(?:^|[.?!,;\n]\s?)(?:is|are|was|were|does|do|did|has|have) ([^.?!;\n]{1,80})\?")
_COUNTED = rf"\b(?:\d+|{english.ENGLISH}) (?:[a-z]+ ){{0,2}}?([a-z]+)"
_COUNTS = re.compile(rf"{_COUNTED}(?:(?:,|,? and|,? or| \+) {_COUNTED})+", re.IGNORECASE)
_SCALES = ("hundred", "thousand", "million", "billion", "trillion", "dozen", "percent")
_COUNT = re.compile(_COUNTED, re.IGNORECASE)
_NUMBER = re.compile(rf"^(?:\d+|{english.ENGLISH}) ", re.IGNORECASE)


def stem(word: str) -> str:
    """A word without its ending: "roll" of "rolls" and "rolling"."""
    return _ENDINGS.sub("", word) if len(word) > 4 else _PLURAL.sub("", word)


class _Asked(NamedTuple):
    """Stems of a question's words."""

    about: frozenset[str]
    """Those of what is asked, up to where that is: "color", "cube" of "What color is the cube on the table?"."""
    beside: frozenset[str]
    """All others."""


@lru_cache(1024)
def _asked(question: str) -> _Asked:
    asking = [part for part in _SENTENCE.split(question.lower().partition("\nchoices")[0]) if _ASKS.search(part)]
    if not asking:
        return _Asked(frozenset(), frozenset())
    clause = asking[-1][next(_ASKS.finditer(asking[-1])).end() :]
    about = stems(BESIDE.split(clause, maxsplit=1)[0])
    return _Asked(about, stems(question) - about)


def stems(text: str) -> frozenset[str]:
    return frozenset(stem(word) for word in words(text).split() if word not in FILLERS)


def relevant(sentence: str, question: str) -> str:
    """A sentence without the clauses that are about something else in the question; empty where all of them are."""
    if not question:
        return sentence
    parts = _CLAUSES.split(sentence)
    kept = [part for part in parts if not _about_another(part, question)] if _asked(question).beside else parts
    if len(kept) > 1 and (topic := _topic(question)):
        subjects, known = [subject(part) for part in kept], stems(question)
        best = max((subject & topic for subject in subjects), key=len)  # "Anna is left, Ben is right."
        pairs = zip(kept, subjects, strict=True)
        kept = [part for part, who in pairs if not (who - known and who & topic < best)]
        graded = {word for word in topic if _GRADED.fullmatch(word)}
        if graded and any(graded & stems(part) for part in kept):  # "The circle is smaller, the square is larger."
            kept = [part for part in kept if graded & stems(part)]
    return sentence if len(kept) == len(parts) else ", ".join(kept)


def subject(clause: str) -> frozenset[str]:
    """The stems of what a clause is about; empty where it does not say so."""
    found = _SUBJECT.match(clause.lower().lstrip(" *"))
    return stems(BESIDE.split(found[1], maxsplit=1)[0]) if found else frozenset()


@lru_cache(1024)
def _topic(question: str) -> frozenset[str]:
    """The stems of what a question asks something of: "cube" of "What color is the cube?", "ben" of "Is Ben left?"."""
    about = _asked(question).about - _ATTRIBUTES
    asked = None if about else POLAR.search(question.lower().partition("\nchoices")[0])
    return stems(BESIDE.split(asked[1], maxsplit=1)[0]) if asked else about


def _about_another(clause: str, question: str) -> bool:
    """Does a clause say something new about a thing that the question only mentions?"""
    found = _SUBJECT.match(clause.lower().lstrip(" *"))
    if found is None:
        return False
    asked, who = _asked(question), subject(clause)
    told = stems(clause[found.end() :])
    new = not told & (asked.about | asked.beside)
    return new and bool(who & asked.beside) and not who & (asked.about - _ATTRIBUTES)


def one_count(sentence: str, question: str) -> str:
    """A sentence where of counts of several things only the number of the asked one is left, or none.

    "3 cubes and 2 spheres" is "3 cubes and spheres" where the question is for cubes, "cubes and spheres" where it is
    for objects.
    """

    def chosen(counts: re.Match[str]) -> str:
        found = list(_COUNT.finditer(counts[0]))
        letters = all(len(one[1]) == 1 and one[1].isupper() for one in found)  # "3 M and 2 K"
        scaled = any(one[1].lower() in _SCALES for one in found)
        if not letters and (scaled or all(unit(one[1]) for one in found)):
            return counts[0]  # "2 hours and 30 minutes"
        asked = [one for one in found if stem(one[1].lower()) in _asked(question).about]
        kept = asked[0] if len(asked) == 1 else None
        if kept and counts[0] == sentence.strip(" ."):
            return kept[0]
        return _joined(counts[0], (one for one in found if one is not kept))

    if _says_none(sentence, question):
        return "0"
    if not numerals.counts(sentence) or ((whole := numerals.spelled(sentence.strip(" ."))) and not whole[1]):
        return sentence
    sentence = _COUNTS.sub(chosen, sentence)
    if compared := _MORE.search(question.lower()):  # "2 more"
        sentence = re.sub(rf"(?<=\d) {compared[1]}\b", "", sentence)
    return _joined(sentence, (one for one in _COUNT_OF.finditer(sentence) if _of_another(one[1], question)))


_STOP = (
    r"(?!(?:is|are|was|were|be|do|does|did|has|have|had|can|could|will|would|should|must|there|left|that|which|who|than"
    r"|of|in|on|at|to|by|for|from|with|and|or|if|when|while|behind|near|next|above|below|under)\b)"
)
_WORDS = rf"((?: {_STOP}[a-z]+){{1,4}})"
_COUNT_OF = re.compile(rf"\b(?:\d+|{english.ENGLISH})(?: more)?{_WORDS}", re.IGNORECASE)
_MORE = re.compile(r"\bhow (?:many|much) (more|fewer|less)\b")
_HOW_MANY = re.compile(rf"\bhow many(?: more| fewer)?{_WORDS}\b(?! (?:and|or)\b)")
_LISTED = re.compile(rf"\b([a-z]+),? (?:and|or|than) (?={_STOP})(?:[a-z]+ ){{0,2}}?([a-z]+)\b")
_EXCLUSIVE = tuple(
    frozenset(map(stem, kind.split()))
    for kind in (
        "cubes spheres cylinders cones pyramids",
        "red blue green yellow orange purple brown black white gray grey pink cyan",
    )
)


_NONE = re.compile(
    r"(?:so|thus|therefore|hence)?,? ?(?:none|nothing|(?:(?:there (?:is|are|was|were)|i (?:can )?(?:see|count)) )?no"
    r"(?P<counted>(?: [a-z]+){1,4}?)(?: (?:left|there|visible|shown|in (?:the|this) (?:image|picture|figure|photo)))?)",
    re.IGNORECASE,
)


def _says_none(text: str, question: str) -> bool:
    """Does a text say that there is none of what "how many" asks for: "There are no cubes."?"""
    asked = _how_many(question)
    said = asked and _NONE.fullmatch(clean(text))
    if not asked or not said:
        return False
    return not said["counted"] or stems(said["counted"]) <= stems(asked)


@lru_cache(1024)
def _how_many(question: str) -> str:
    """What a question wants the number of: "red cubes"."""
    asked = _HOW_MANY.search(" ".join(question.lower().partition("\nchoices")[0].split()))
    return asked[1] if asked else ""


def _of_another(counted: str, question: str) -> bool:
    """Are "spheres" or "blue cubes" surely not what a question wants the number of?

    Only where nothing is both (two solids, two colours), or where the question names both: "cubes and spheres".
    """
    asked = _how_many(question)
    if not asked or unit(counted.split()[-1]):
        return False
    ours, theirs = (list(map(stem, part.lower().split())) for part in (asked, counted))
    if any(kind & {*ours} and kind & {*theirs} and not kind & {*ours} & {*theirs} for kind in _EXCLUSIVE):
        return True
    named = ({stem(one), stem(other)} for one, other in _LISTED.findall(question.lower()))
    return ours[-1] != theirs[-1] and {ours[-1], theirs[-1]} in named


def _joined(text: str, dropped: Iterable[re.Match[str]]) -> str:
    """A text without the numbers of some counts."""
    for count in sorted(dropped, key=lambda count: -count.start()):
        text = text[: count.start()] + _NUMBER.sub("", count[0]) + text[count.end() :]
    return text
