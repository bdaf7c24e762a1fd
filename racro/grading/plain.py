"""The plain form of an answer: LaTeX and Markdown taken off, typographic variants made one. Called by all of grading.

Not a parser: what it leaves is text still. Every rewrite is linear in the length of the text.
"""

from __future__ import annotations

import re
from functools import lru_cache

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_RAISED = re.compile(r"[⁰¹²³⁴-⁹⁻]+")
_REWRITES = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"[−–﹣－]", "-"),
        (r"≈|≃|\\(?:approx|simeq)(?![a-zA-Z])", "="),
        (r"\s?\{\s?,\s?\}|,\\!\s?", ","),
        (r"(?<=[A-Za-z}])\\,(?=\s?[A-Za-z\\])", " "),
        (r"\\[,!]", ""),
        (r"\\([%$&#_])", r"\1"),
        (r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf)|mbox|operatorname)\s?\{([^{}]*)\}", r" \1 "),
        (r"\\[dtc]?frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}", r"(\1)/(\2)"),
        (r"\\[dtc]?frac\s?(\d)\s?(\d)(?!\d)", r"(\1)/(\2)"),
        (r"\s?(?:\\times|\\cdot|[×·*]|(?<=\d)\s?[xX](?=\s?10\s?\^))\s?10\s?\^\s?\{?\s?([-+]?\d{1,2})\}?", r"e\1"),
        (r"\*?\^?\s?\{?\\(?:circ|degree)(?![a-zA-Z])\s?\}?|º|˚", "°"),
        (r"(?:\^\s?)?\{?\s?\\prime\s?\\prime(?![a-zA-Z])\s?\}?", "''"),
        (r"(?:\^\s?)?\{?\s?\\prime(?![a-zA-Z])\s?\}?", "'"),
        (r"(?:\\sqrt|√)\s?\{\s?(\w+)\s?\}", r"√\1"),
        (r"\\[()\[\];: ]|\\(?:left|right|displaystyle|thinspace|quad|qquad)(?![a-zA-Z])|\*\*|[`~]", " "),
        (r"\$(?!\s?[\d.])", " "),  # what stands before a number is a currency
        (r"\s+", " "),
    )
)


_MARKED_UP = re.compile(r"[\\{}$*`~^]|[^\x00-\x7f]")


@lru_cache(4096)
def clean(text: str) -> str:
    """LaTeX and Markdown taken off, typographic variants made plain, outer punctuation dropped."""
    if not _MARKED_UP.search(text):
        return " ".join(text.split()).rstrip(".,;: ")
    text = _RAISED.sub(lambda raised: "^" + raised[0].translate(_SUPERSCRIPTS), undressed(text))
    if "$" in text:
        text = _FORMULA.sub(r" \1 ", text)
    for pattern, new in _REWRITES:
        text = pattern.sub(new, text)
    return text.strip().rstrip(".,;: ")


_FORMULA = re.compile(r"(?<!\\)\$\$?([^$]*[^$\\])\$\$?(?!\s?\d)")
"""Dollars around a formula; one that a number follows is a currency's."""
_ENDING = re.compile(r"(?:\\[,;:! ]|\\q?quad(?![a-zA-Z])|\\thinspace(?![a-zA-Z])|[~\s.,;:]|\\(?=\\*$)|(?<!\\)\{\})+$")
"""Spaces of all kinds and punctuation at the end."""
LONGEST_ENDING = 100
_WRAPPED = re.compile(
    r"\\(?:text(?:bf|it|rm)?|math(?:bf|rm|it))\s?\{(.+)\}|\*\*(.+)\*\*|\\\((.+)\\\)|\\\[(.+)\\\]|\{([^{},]+)\}",
    re.DOTALL,
)


def undressed(text: str) -> str:
    """The LaTeX of an answer as it is, but for what stands around all of it."""
    for _ in range(NESTED):
        text = _stripped(text)
        bare = text[:-LONGEST_ENDING] + _ENDING.sub("", text[-LONGEST_ENDING:]) or text
        match = _WRAPPED.fullmatch(bare)
        inside = "" if match is None else next(filter(None, match.groups()), "")
        if not inside or not balanced(inside):
            return bare
        text = inside
    return text


def _stripped(text: str) -> str:
    """Without spaces and without the dollars of a formula around it; a currency's stays."""
    text = text.strip()
    if text.endswith("$") and not text.endswith("\\$"):
        return text.strip(" $\n\t")
    return text.lstrip("$ \n\t") if text.startswith("$$") else text


_STYLE = re.compile(
    r"\\(?:boldsymbol|bm|underline|emph|textup|textsc|mathtt|bold|pmb|(?:text)?color\s?\{[^{}]*\})\s?\{([^{}]*)\}"
    r"|\\(?:hspace|vspace|phantom|hphantom)\*?\{[^{}]*\}|\\(?:large|Large|LARGE|huge|Huge|small|bf|hfill|smallskip)(?![a-zA-Z])"
)


def unstyled(text: str) -> str:
    """LaTeX without colours, sizes and emphasis."""
    return _STYLE.sub(r"\1", text) if "\\" in text else text


NESTED = 30
"""What is nested deeper is no answer."""


def balanced(text: str) -> bool:
    """Does every brace have its partner? Escaped ones do not count."""
    level = 0
    for brace in re.findall(r"[{}]", re.sub(r"\\.", "", text, flags=re.DOTALL)):
        level += 1 if brace == "{" else -1
        if level < 0:
            return False
    return level == 0


def nested(text: str) -> int:
    """How deep brackets of any kind are nested, whether they match or not."""
    deepest = level = 0
    for bracket in re.findall(r"[()\[\]{}]", text):
        level += 1 if bracket in "([{" else -1
        deepest = max(deepest, level)
    return deepest
