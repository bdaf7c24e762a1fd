r"""Names of figures: "\overline{AB}", "segment BA", "∠ABC", "triangle ABC", "\vec{AB}", "AB ∥ CD".

A segment, a line, an arc and an angle may be named from either end, a triangle from any corner, a vector only from its
beginning. Not lengths and not algebra. Called by `racro.grading.grader` and `racro.grading.prose`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from racro.grading.normalise import normalised
from racro.schema import Gold

LONGEST = 200
_DRESS = re.compile(
    r"\\(?:mathrm|mathbf|mathit|text(?:rm|bf|it)?|operatorname|left|right|displaystyle|quad)(?![a-zA-Z])"
    r"|\\[,;:! ()\[\]]|(?<!\\)[{}$*~]"
)
_MARKS = {
    "segment": r"\\overline|\\bar|(?:line )?segments?|sides?|edges?|chord|diagonal|diameter|hypotenuse|leg|base|radius",
    "directed": r"\\overrightarrow|\\vec|vector|ray",
    "line": r"\\overleftrightarrow|(?:straight )?lines?",
    "angle": r"(?:m(?= ?(?:\\|∠))|(?:the )?measure of )?\s?(?:\\(?:measured)?angle|∠|∡|angle)",
    "triangle": r"\\triangle|△|▵|triangle|\\Delta|Δ",
    "arc": r"\\widehat|\\overset ?\\frown|\\overarc|\\wideparen|⌒|(?:minor )?arc",
    "circle": r"\\odot|⊙|circle",
    "point": r"points?|vertex",
}
_MARK = "|".join(f"(?P<{kind}>(?:{mark})(?![a-z]))" for kind, mark in _MARKS.items())
_VERTEX = r"[A-Z](?:_?\d{1,2})?'{0,2}"
_LETTERS = rf"(?:(?:{_VERTEX}){{1,4}}|[a-z]|\d{{1,2}})(?![A-Za-z\d])"
_FIGURE = re.compile(
    rf"(?:[Tt]he )?(?P<marks>(?:(?i:{'|'.join(_MARKS.values())})(?![a-z])\s?)*)(?P<letters>{_LETTERS})\.?"
)
_IN_PROSE = re.compile(
    rf"(?P<marks>(?:(?i:{'|'.join(_MARKS.values())})(?![a-z])\s?)+)(?P<letters>(?:{_VERTEX}){{1,4}}(?![A-Za-z\d]))"
    rf"|(?<![A-Za-z\\])(?P<bare>[A-Z]{{2,3}}(?![A-Za-z\d]))"
)
_MAY_NAME = re.compile(r"[A-Z]|line|angle|[∠∥⊥]|\\p(?:arallel|erp)")
_KIND = re.compile(rf"(?:{_MARK})", re.IGNORECASE)
_OPERATOR = "+-*/^=<>·×²|"
_PROSE = re.compile(r"\b[a-z]{2,}\b.*\b[a-z]{2,}\b")
_DENIED = re.compile(r"\b(?:not|never|neither|nor|or|either|no|major)\b|n['’]t\b", re.IGNORECASE)
_LOGIC = re.compile(r"\b(?:boolean|logic|gate|complement|truth table|nand|digits?|mean|conjugate)", re.IGNORECASE)
_RELATIONS = {
    "∥": r"\\parallel|∥|//|\|\||(?:is |are )?parallel (?:to|with)",
    "⊥": r"\\perp|⊥|⟂|(?:is |are )?perpendicular to",
    "≅": r"\\cong|≅|≌|(?:is |are )?congruent (?:to|with)",
    "∼": r"\\sim|∼|∽|(?:is |are )?similar to",
}
_RELATION = re.compile("|".join(f"({words})" for words in _RELATIONS.values()))


class Figure(NamedTuple):
    """What is named, by its letters."""

    kind: str
    """Empty where only letters stand."""
    vertices: tuple[str, ...]

    def names(self, kind: str) -> tuple[str, ...]:
        """Its letters in the one order that stands for all that mean the same figure of a kind."""
        if kind == "triangle":
            return tuple(sorted(self.vertices))
        if kind in ("segment", "line", "arc", "angle"):
            return min(self.vertices, self.vertices[::-1])
        return self.vertices


@lru_cache(4096)
def figure(text: str) -> Figure | None:
    """The figure that a text names and nothing else."""
    if len(text) > LONGEST:
        return None
    found = _FIGURE.fullmatch(_bare(text))
    return found and _named(found["marks"], found["letters"])


def _bare(text: str) -> str:
    return " ".join(_DRESS.sub(" ", text.replace(r"\ell", "l").replace(r"^\prime", "'")).split())


def _named(marks: str, letters: str) -> Figure | None:
    kinds = {mark.lastgroup or "" for mark in _KIND.finditer(marks)}
    kind = next(iter(kinds), "")
    vertices = tuple(re.findall(_VERTEX, letters)) or (letters,)
    fits = {
        "segment": len(vertices) == 2,
        "directed": len(vertices) == 2,
        "line": len(vertices) == 2 or letters.islower(),
        "arc": len(vertices) in (2, 3),
        "angle": len(vertices) in (1, 3) and not letters.islower(),
        "triangle": len(vertices) == 3,
    }
    single = len(vertices) == 1 and not letters.isdigit()
    return Figure(kind, vertices) if len(kinds) <= 1 and fits.get(kind, single or not kind) else None


@lru_cache(4096)
def said(sentence: str) -> Figure | None:
    """The one figure that a sentence names; None where it denies it, or where it stands in an operation."""
    if len(sentence) > LONGEST or not _PROSE.search(sentence) or _DENIED.search(sentence):
        return None
    plain, found = _bare(sentence), set[Figure | None]()
    for name in _IN_PROSE.finditer(plain):
        before, after = plain[: name.start()].rstrip()[-1:], plain[name.end() :].lstrip()[:1]
        if (before and before in _OPERATOR) or before.isdigit() or (after and after in _OPERATOR):
            return None
        found.add(_named(name["marks"] or "", name["letters"] or name["bare"]))
    return found.pop() if len(found) == 1 else None


def is_figure(gold: Gold) -> bool:
    """Is a gold answer the name of a figure, with a word or a sign that says of which kind?"""
    ours = figure(gold.answer)
    return ours is not None and ours.kind != "" and not _is_logic(ours, gold)


def _is_logic(ours: Figure | None, gold: Gold) -> bool:
    return ours is not None and ours.kind == "segment" and "\\" in gold.answer and bool(_LOGIC.search(gold.question))


def same_figure(found: str, gold: Gold) -> bool | None:
    """Do two texts name the same figure, or the same relation of two? None where they are no names."""
    if not _MAY_NAME.search(gold.answer):
        return None
    if (ours := _relation(gold.answer)) is not None:
        theirs = _relation(found)
        return None if theirs is None else ours == theirs
    us = figure(gold.answer)
    them = figure(found) or (said(found) if us else None)
    if us is None or them is None or not (us.kind or them.kind) or _is_logic(us, gold):
        return None
    if us.kind and them.kind:
        return us.kind == them.kind and us.names(us.kind) == them.names(us.kind)
    return us.names(us.kind) == them.names(us.kind) or None


def _relation(text: str) -> tuple[str, frozenset[object]] | None:
    """A relation and what it relates: two lines in any order, or two triangles corner by corner."""
    plain = normalised(_bare(text)) if len(text) <= LONGEST else ""
    signs = list(_RELATION.finditer(plain))
    if len(signs) != 1:
        return None
    sides = [figure(side.strip(" .")) for side in (plain[: signs[0].start()], plain[signs[0].end() :])]
    if None in sides:
        return None
    sign = list(_RELATIONS)[(signs[0].lastindex or 1) - 1]
    one, other = (side for side in sides if side)
    if len(one.vertices) != len(other.vertices):
        return None
    if sign in "≅∼" and len(one.vertices) > 2:
        return sign, frozenset(map(frozenset, zip(one.vertices, other.vertices, strict=True)))
    return sign, frozenset([min(one.vertices, one.vertices[::-1]), min(other.vertices, other.vertices[::-1])])
