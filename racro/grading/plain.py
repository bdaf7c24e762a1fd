"""The plain form of an answer: LaTeX and Markdown taken off, typographic variants made one. Called by all of grading.

Not a parser: what it leaves is text still. Every rewrite is linear in the length of the text.
"""

from __future__ import annotations

import re

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_RAISED = re.compile(r"[⁰¹²³⁴-⁹⁻]+")
_REWRITES = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"[−–﹣－]", "-"),
        (r"≈|≃|\\(?:approx|simeq)(?![a-zA-Z])", "="),
        (r"\s?\{\s?,\s?\}|,\\!\s?", ","),
        (r"\\[,!]", ""),
        (r"\\([%$&#_])", r"\1"),
        (r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf)|mbox|operatorname)\s?\{([^{}]*)\}", r" \1 "),
        (r"\\[dtc]?frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}", r"(\1)/(\2)"),
        (r"\\[dtc]?frac\s?(\d)\s?(\d)(?!\d)", r"(\1)/(\2)"),
        (r"\s?(?:\\times|\\cdot|[×·*]|(?<=\d)\s?[xX](?=\s?10\s?\^))\s?10\s?\^\s?\{?\s?([-+]?\d{1,2})\}?", r"e\1"),
        (r"\*?\^?\s?\{?\\(?:circ|degree)(?![a-zA-Z])\s?\}?|º|˚", "°"),
        (r"(?:\\sqrt|√)\s?\{\s?(\w+)\s?\}", r"√\1"),
        (r"\\[()\[\];: ]|\\(?:left|right|displaystyle|quad|qquad)(?![a-zA-Z])|\*\*|[`~$]", " "),
        (r"\s+", " "),
    )
)


def clean(text: str) -> str:
    """LaTeX and Markdown taken off, typographic variants made plain, outer punctuation dropped."""
    text = _RAISED.sub(lambda raised: "^" + raised[0].translate(_SUPERSCRIPTS), text)
    for pattern, new in _REWRITES:
        text = pattern.sub(new, text)
    return text.strip().rstrip(".,;: ")


_WRAPPED = re.compile(
    r"\\(?:text(?:bf|it|rm)?|math(?:bf|rm|it))\s?\{([^{}]*)\}|\*\*(.+)\*\*|\\\((.+)\\\)|\\\[(.+)\\\]", re.DOTALL
)


def undressed(text: str) -> str:
    """The LaTeX of an answer as it is, but for what stands around all of it."""
    while True:
        bare = text.strip(" $\n\t").rstrip(".,;: ")
        match = _WRAPPED.fullmatch(bare)
        if match is not None:
            bare = next(filter(None, match.groups()), "")
        if bare == text:
            return bare
        text = bare
