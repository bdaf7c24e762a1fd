"""A short text said in a sentence: "The red bar is taller.", "It is red", "red, since ..." for the answer "red".

A sentence gives an answer when all its other words come from the question or mean nothing by themselves; one that
denies, or that names two of the question's alternatives, gives none. Called for golds of kind text.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise, takewhile

from racro.grading.alternatives import alternatives
from racro.grading.asking import BESIDE, FILLERS, POLAR, relevant, stem, stems, subject
from racro.grading.east_asian import IS_SO
from racro.grading.english import ORDINAL
from racro.grading.plain import clean
from racro.grading.ranks import rank
from racro.grading.units import unit
from racro.grading.words import OPINION, same_product, same_text, words
from racro.schema import Gold

LONGEST = 6
"""Words of an answer that is said in a sentence."""
_REASON = re.compile(
    r"[,;(:-]?\s(?:because|since|as (?:it|the|they|he|she|its|this|that|shown|can|we)|due to|given that|so that)\b"
    r"|[,;(]\s?(?:which|who|where|whose|for|it|the|this|because|since|as)\s|\s\(|(?<=[a-z])[.]\s|,?因为|,?由于|。"
    r"|,\s(?=capital\b|[A-Z][\w-]+['’]s (?:capital|(?:\w+est|most \w+|main) \w+)\b)"
)
_OPENING = re.compile(
    r"^(?:so|between|among|of|thus|therefore|hence|then|finally|overall|clearly|indeed|consequently|yes|in|on|from"
    r"|based|looking|according|given|comparing|as)\b[^,]{0,60},\s",
    re.IGNORECASE,
)
_SO = re.compile(r"[,;]\s(?:and )?(?:so|thus|therefore|hence)\s", re.IGNORECASE)
_BUT = re.compile(
    r"[,;(]?\s(?:(?:and|but) )?(?:rather than|instead of|as opposed to|unlike)\b|,\s(?:and )?not\s|\(not\s",
    re.IGNORECASE,
)
_COMPARED = re.compile(r"\s(?:than|compared (?:to|with)|in comparison (?:to|with))\s", re.IGNORECASE)
_DENIED = re.compile(
    r"\b(?:not|neither|nor|no|never|none|isn|aren|wasn|weren|doesn|don|didn|cannot|without|except|but|however|or|either"
    r"|maybe|perhaps|unless)\b|n['’]t\b|不|非",
    re.IGNORECASE,
)
_SUBJECT = re.compile(r"(?:it|this|that|they|he|she|these|those|there)(?:['’]s| is| are| was| were)\b", re.IGNORECASE)
_PEOPLE = frozenset(["person", "people"])


def same_answer(found: str, gold: Gold) -> bool:
    """Is a text the gold answer, or a sentence that gives it?"""
    is_share = _share_of(found, gold)
    if not is_share and same_text(found, gold.answer):
        return True
    if _SPELLED.fullmatch(said_words := words(found)) and said_words.replace(" ", "") == words(gold.answer):
        return True  # "x y"
    if not found.isascii() and (is_so := IS_SO.fullmatch(clean(found))) and gold.answer in is_so.groups():
        return True
    if same_product(found, gold):
        return True
    ours = unit(gold.answer)
    if ours and set(ours) & set(unit(clean(found))):
        return True
    theirs = None if is_share else said(found, gold.question)
    if theirs is None:
        return False
    if theirs != found and same_text(theirs, gold.answer):
        return True
    if f" {words(gold.answer)} " in f" {words(found)} " and theirs == _meaning(gold.answer):
        return True
    return gold.question != "" and theirs == _named(gold.answer, gold.question)


@lru_cache(1024)
def _meaning(answer: str) -> str:
    """The words of a gold answer that mean something: "car" of "in the car"."""
    return " ".join(word for word in words(answer).split() if word not in FILLERS)


_SPELLED = re.compile(r"\S(?: \S)+")
_SHARE = re.compile(
    rf"\b(?:an?|one|1)[ -]{ORDINAL}s?(?! (?!of\b|the\b)[a-z])|^{ORDINAL} of (?:it|them|the|an?|all)\b", re.IGNORECASE
)
_PART = re.compile(r"\b(?:fraction|share|part|proportion|portion|how much)\b", re.IGNORECASE)


def _share_of(found: str, gold: Gold) -> bool:
    """Is a text a part of something, "a third of it", where the answer is a place in a row, "third"?"""
    if rank(words(gold.answer)) is None or _PART.search(gold.question) or _SHARE.search(clean(gold.answer)):
        return False
    return _SHARE.search(clean(found)) is not None


@lru_cache(1024)
def _named(answer: str, question: str) -> str:
    """A gold answer without the words that it shares with the question: "red" of "the red bar"."""
    asked, offered = alternatives(question)
    meant = set[str]().union(*offered)
    spelled = _as_asked(words(answer).split(), meant)
    return " ".join(word for word in spelled if word in meant or stem(word) not in asked)


def _as_asked(spoken: list[str], meant: set[str]) -> list[str]:
    """Words in the form that a question's alternatives have: "peak" for "peaked"."""
    forms = {_root(word): word for word in meant}
    return [word if word in meant else forms.get(_root(word), word) for word in spoken] if forms else spoken


def _root(word: str) -> str:
    """A verb without its ending: "drop" of "dropped", "increas" of "increases"."""
    bare = stem(_IRREGULAR.get(word, word)).rstrip("e")
    return bare[:-1] if bare[-2:-1] == bare[-1:] else bare


_FORMS = {
    **{"grow": "grew grown", "rise": "rose risen", "fall": "fell fallen", "shrink": "shrank shrunk"},
    **{"sink": "sank sunk", "swell": "swelled swollen"},
    **{"win": "won", "lose": "lost", "go": "went gone", "come": "came", "speed": "sped"},
    **{"freeze": "froze frozen", "swim": "swam swum", "fly": "flew flown", "drive": "drove driven", "sit": "sat"},
    **{"stand": "stood", "run": "ran", "lie": "lay lain", "break": "broke broken", "bend": "bent", "hold": "held"},
}
_IRREGULAR = {form: verb for verb, forms in _FORMS.items() for form in forms.split()}


def answers(sentence: str, question: str) -> bool:
    """Does a sentence of an output give an answer to the question?"""
    found = said(sentence, question)
    if found is None:
        return False
    start = sentence.lstrip(" *")
    return bool(_SUBJECT.match(start) or OPINION.match(start)) or bool(
        set(map(stem, words(sentence).split())) & alternatives(question)[0]
    )


@lru_cache(4096)
def said(sentence: str, question: str) -> str | None:
    """What a sentence gives for an answer, in lower case; None where it gives none, or more than one."""
    plain = clean(sentence)
    if plain[:1] in "IMim" and (opinion := OPINION.match(plain)):
        plain = plain[opinion.end() :]
    if _plain(plain):
        head = relevant(plain, question)
    else:
        before, so, after = _SO.sub("\n", plain.rpartition("? ")[2]).rpartition("\n")
        if so and (concluded := said(after, question)):
            return concluded
        plain = relevant(_OPENING.sub("", f"{before}, so {after}" if so else after), question)
        head = _REASON.split(plain, maxsplit=1)[0]
        head = _COMPARED.split(_BUT.split(head, maxsplit=1)[0], maxsplit=1)[0]
        if _DENIED.search(head):
            return None
    asked, offered = alternatives(question)
    meant = set[str]().union(*offered)
    if meant & FILLERS:  # "on or under"
        head = _IN_PICTURE.sub("", head)
    spoken = _as_asked(words(head).split(), meant)
    named = [one for one in offered if one & set(spoken)]
    if len(named) > 1 or (named and _of_the_other(head, question)):
        return None
    if named and _converse(head, question):
        return None
    last = len(spoken) - 1  # "vitamin A"
    fillers = FILLERS | _PEOPLE if "who" in asked else FILLERS
    kept = [
        at
        for at, word in enumerate(spoken)
        if word in meant or ((word not in fillers or (at == last and len(word) == 1)) and stem(word) not in asked)
    ]
    if not kept or len(kept) > LONGEST:
        return None
    if named and any(spoken[at] not in named[0] for at in kept):
        return None
    if any(spoken[at] not in fillers - {"and"} for a, b in pairwise(kept) for at in range(a + 1, b)):
        return None
    return " ".join(spoken[at] for at in kept)


_IN_PICTURE = re.compile(
    r"\b(?:in|on|from) (?:the|this) (?:image|picture|figure|photo|drawing|diagram|scene)\b", re.IGNORECASE
)
_LETTERS = re.compile(r"[A-Za-z0-9 ]*")
_TURNS = (
    "because since as due given so rather instead unlike not than compared comparison neither nor no never none "
    "isn aren wasn weren doesn don didn cannot without except but however or either maybe perhaps unless"
)
_TURNING = frozenset(_TURNS.split())


def _plain(sentence: str) -> bool:
    """Has a sentence neither punctuation nor a word with which it goes on to reasons, comparisons or denials?"""
    return _LETTERS.fullmatch(sentence) is not None and _TURNING.isdisjoint(sentence.lower().split())


def _converse(sentence: str, question: str) -> bool:
    """Is a sentence about the thing that a question asks the place from: "The plate is left of the cup"?"""
    of, who = _asked_of(question), subject(sentence)
    return bool(of and who and not who & of and who & stems(question))


@lru_cache(1024)
def _asked_of(question: str) -> frozenset[str]:
    """The stems of what a question with alternatives is about: "cup" of "Is the cup left or right of the plate?"."""
    polar = POLAR.search(question.lower())
    meant = set[str]().union(*alternatives(question)[1])
    if polar is None:
        return frozenset()
    before = takewhile(lambda word: word not in meant, words(BESIDE.split(polar[1], maxsplit=1)[0]).split())
    return stems(" ".join(before))


_THAN = re.compile(r"\bor (?:\w+er|less \w+|more \w+) than (the [^?.,;]{1,40})")


def _of_the_other(sentence: str, question: str) -> bool:
    """Is a sentence about what the question compares with: "or shorter than the blue bar"?"""
    compared = _THAN.search(question.lower())
    if compared is None:
        return False
    rest = question.lower().replace(compared[1], " ")
    other = {stem(word) for word in words(compared[1]).split()} - {stem(word) for word in words(rest).split()}
    return bool(other & {stem(word) for word in words(sentence).split()})
