"""Where the answer stands in an output: the last \\boxed{}, "the answer is", a line that is nothing else.

Not the comparison. What is found is returned as it was written. Linear in at most LONGEST characters. Prose without any
of these is read by `racro.grading.prose`.
"""

from __future__ import annotations

import re

from racro.grading.plain import clean

STATEMENTS = 20
"""Statements of an answer that are looked at, the last ones."""
LONGEST = 20_000
"""Characters at the end of an output in which the answer is looked for."""


_SPECIAL = re.compile(r"(?:</s>|<\|[a-z_]{1,20}\|>(?:user|assistant)?)\s*$")


def final_part(response: str) -> str:
    """What follows the reasoner's thinking, and of that the end."""
    text = response[response.rfind("</think>") + len("</think>") :] if "</think>" in response else response
    text = text.partition("<think>")[0]  # what comes after is thinking that never ended
    return _SPECIAL.sub("", text[-LONGEST:])


_BRACES = re.compile(r"\\f?box(?:ed)?\s{0,9}\{|\\.|[{}]", re.DOTALL)


def boxed(text: str) -> str | None:
    """Content of the last closed \\boxed{}, the inner of nested ones; None when there is none or all are empty."""
    return next((content for content, _, _ in _boxes(text)[:1]), None)


def all_boxed(text: str) -> str | None:
    """As `boxed`, with the boxes before it that only "and", "or" or a comma stand between: "1, 2"."""
    found = _boxes(text)
    row = found[:1]
    for box in found[1:]:
        if not _BETWEEN.fullmatch(text, box[2], row[-1][1]):
            break
        row.append(box)
    return ", ".join(content for content, _, _ in row[::-1]) or None


_BETWEEN = re.compile(r"(?:\\?[\s$,;()]|\\q?quad|\\text\s?\{\s*(?:and|or)\s*\}|\b(?:and|or)\b){0,20}")
_Box = tuple[str, int, int]
"""Content, and where the box begins and ends."""


def _boxes(text: str) -> list[_Box]:
    """The closed boxes that are not empty and hold no other, the last first."""
    found: list[_Box] = []
    opened: list[tuple[int, int] | None] = []  # where a box begins and where its content does; None for other braces
    for token in _BRACES.finditer(text):
        if token[0] == "{":
            opened.append(None)
        elif token[0] == "}" and opened:
            start = opened.pop()
            if start is None or not text[start[1] : token.start()].strip():
                continue
            if not found or found[-1][1] < start[0]:
                found.append((text[start[1] : token.start()].strip(), start[0], token.end()))
        elif len(token[0]) > 2:
            opened.append((token.start(), token.end()))
    return found[::-1]


_STATED = re.compile(
    r"\b(?:answer|solution|result|(?:correct|right|best) (?:option|choice|letter))"
    r"(?: (?:to (?:the|this|your) question|choice|option|letter))?[>\]*]{0,3}"
    r"\s?(?:is|are|would be|should be|must be|:|=)[ \t:=*<]{0,9}(?=([^\n]{1,100}))"
    r"|\b([A-Z])\)? is (?:the )?(?:correct|right)(?: (?:answer|option|choice|one)\b|[.,]|$)"
    r"|答案(?:是|为|：|:)\s?([^\n。]{1,100})",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"\.(?=[\"'”*)]{0,3}(?:\s|$))|;(?=\s)|。")
_BARE = re.compile(r"[-+]?\d[\d,./]{0,40}\s?[%°]?|\([A-Za-z]\)|[A-Z]")


def stated(text: str) -> list[str]:
    """What is said to be the answer, the last statement first."""
    last = list(_STATED.finditer(text))[-STATEMENTS:]
    found = (_SENTENCE.split(match[match.lastindex or 0])[0].strip(" *`\t\"'“”<>") for match in last)
    return [statement for statement in found if statement][::-1]


def bare(text: str) -> list[str]:
    """The last line and the first, where they are a number or a letter and nothing else."""
    text = text.strip()
    lines = (clean(line) for line in (text.rpartition("\n")[2][-200:], text.partition("\n")[0][:200]))
    return [line for line in lines if _BARE.fullmatch(line)]


def extract(response: str) -> str | None:
    """The answer as written, whatever its kind; None where none is marked as one."""
    text = final_part(response)
    return boxed(text) or next(iter((*stated(text), *bare(text)[:1])), None)
