"""Where the answer stands in an output: the last \\boxed{}, "the answer is", a line that is nothing else.

Not the comparison. What is found is returned as it was written. Linear in at most LONGEST characters. Prose without any
of these is read by `racro.grading.prose`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from racro.grading import east_asian
from racro.grading.normalise import normalised
from racro.grading.plain import clean

STATEMENTS = 20
"""Statements of an answer that are looked at, the last ones."""
LONGEST = 20_000
"""Characters at the end of an output in which the answer is looked for."""


_THOUGHT = re.compile(r"</(?i:(?:seed:)?think|thinking|thoughts?|reasoning)>")
_THOUGHTS = ("[/THINK]", "◁/think▷", "<|end_of_thought|>", "<|channel|>final<|message|>")
_THINKING = re.compile(r"<(?i:(?:seed:)?think|thinking|thought)>|<\|begin_of_thought\|>")
_BRACKETED = re.compile(r"<?\[(?:(?i:EOS|EOT|PAD|end of text|\|endofturn\|)|END|/INST|UNUSED_TOKEN_\d+)\]>?")
_BOX_TOKEN = re.compile(r"<\|(begin|end)_of_(?:box|solution|answer)\|>")
_END_TOKEN = re.compile(
    r"<(?:(?i:\|?(?:(?:seed:|turn)?_?(?:end|eo[a-z])|im_end|return|stop|user|assistant_end|pad|unk)[\w▁ ]{0,30}\|?"
    r"|(?:reserved|extra_id)_\d+|turn\|)|/s|\|(?:im_start|start_header_id)\|>user)>"
)
_TOKEN = re.compile(
    r"<(?:\|[\w▁]{1,40}\|>(?:assistant\b)?|(?:s|bos|start_of_turn|\|turn)>(?:model\b)?|/?(?:b|strong|em|p|br)\s?/?>)"
)
_INSIDE = re.compile(r"\s*(?:[}\])$*]|</)")


def final_part(response: str) -> str:
    """What follows the reasoner's thinking, and of that the end; with plain characters and without special tokens."""
    end = at = 0
    while (at := response.find("</", at)) >= 0:  # which is found much faster than a pattern
        end = thought.end() if (thought := _THOUGHT.match(response, at)) else end
        at += 2
    for mark in _THOUGHTS:
        if mark[0] in response and mark in response:  # one character is found much faster
            end = max(end, response.rfind(mark) + len(mark))
    text = response[end:]
    if "<" in text and (thinking := _THINKING.search(text)):  # what comes after is thinking that never ended
        text = text[: thinking.start()]
    return _without_tokens(normalised(text[-LONGEST:]))


def _without_tokens(text: str) -> str:
    """Up to the first token that ends an output: what follows is another turn. Other special tokens are left out."""
    if "[" in text:
        text = _BRACKETED.sub("</s>", text).replace("[ANSWER]", "<answer>").replace("[/ANSWER]", "</answer>")
    if "<" not in text:
        return text
    text = _BOX_TOKEN.sub(lambda token: "<answer>" if token[1] == "begin" else "</answer>", text)
    at = 0
    while end := _END_TOKEN.search(text, at):
        if text[: end.start()].strip() and not _INSIDE.match(text, end.end()):
            text = text[: end.start()]
            break
        text, at = text[: end.start()] + text[end.end() :], end.start()
    return _TOKEN.sub(" ", text)


_TAG = re.compile(
    r"<(?<!<<)(/?)(?i:(?:final[_ ]?)?(?:answer|ans|solution|conclusion|response|result|output))"
    r"(?:\s\w{1,20}=[^<>]{0,60})?\s?>(?!>)"
)


class Tagged(NamedTuple):
    """What stands in answer tags, and where that ends."""

    content: str
    end: int
    closed: bool


def tagged(text: str) -> Tagged | None:
    """The last content of answer tags that is not blank; the first or the last tag may be missing."""
    found, start, opened = None, 0, False
    for tag in _TAG.finditer(text):
        closing = bool(tag[1])
        if closing and text[start : tag.start()].strip():
            found = Tagged(text[start : tag.start()].strip(), tag.end(), True)
        start = tag.end()
        opened = not closing
    if start and opened and text[start:].strip():
        return Tagged(text[start:].strip(), len(text), False)
    return found


_BRACES = re.compile(r"\\f?box(?:ed)?\s{0,9}\{|\\.|\{|\}", re.DOTALL)


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
    if "box" not in text:
        return []
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
    r"\b(?=[abcrs])(?:answer|ans|solution|result|(?:correct|right|best) (?:option|choice|letter))"
    r"(?: (?:to (?:the|this|your) question|choice|option|letter))?(?:, (?:then|therefore|thus|hence|so),)?"
    r"[>\]*\"']{0,3}"
    r"(?:\s?(?:is|are|(?:would|should|must|will|can only|has to|have to|seems to|appears to|to) be|:|=)|['’]s\s"
    r"|\s?(?:→|->|⇒)|\s-(?=\s)|(?<=\bans)\.)[ \t:=*<]{0,9}(?=([^\n]{1,100}))"
    r"|\b([A-Z])(?=[) ])(?<![-–/].)(?:\)? (?:is|would be|must be|has to be) "
    r"(?:(?:the )?(?:correct|right)(?: (?:answer|option|choice|one)\b|[.,]|$)"
    r"|(?:the|my) (?:final |best )?(?:answer|choice|pick)\b)| it is(?:[.!]|$))",
    re.IGNORECASE,
)
"""Looks at one character before it tries the words: it begins at each word of a long text."""
_QUOTES = " *`\t\"'“”<>"
_MEASURE = re.compile(r"^[^\"'‘“”a-z]*\d\s?['\"]+$")
"""Ends with a mark for feet, inches or minutes."""
_HEADING = re.compile(
    r"\b(?:final )?answer\b[*\s]{0,4}(?:is|:)?[*:#\s]{0,6}\n\s*"
    r"(?:\$\$\s*([^$]{1,200}?)\s*\$\$|\\\[\s*(.{1,200}?)\s*\\\]|([^\n]{1,60})(?:\n\s*\n|\s*\Z))",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"\.(?=[\"'”*)]{0,3}(?:\s|$))|;(?=\s)|。")
_SEMICOLON = re.compile(r";(?=\s|$)")
_BARE = re.compile(r"[-+]?\d[\d,./]{0,40}\s?[%°]?|\([A-Za-z]\)|[A-Z]")


def stated(text: str, is_list: Callable[[str], bool] | None = None) -> list[str]:
    """What is said to be the answer, the last statement first.

    A semicolon ends a statement, unless `is_list` says that what is before it and behind it is a list of answers.
    """
    last = list(_STATED.finditer(text))
    if not text.isascii():
        last += [said for form in east_asian.STATED for said in form.finditer(text)]
    if "\n" in text and "answer" in text.lower():
        last += _HEADING.finditer(text)
    last = sorted(last, key=lambda match: match.start())[-STATEMENTS:]
    found = (_statement(match[match.lastindex or 0], is_list) for match in last)
    return [statement for statement in found if statement][::-1]


def _statement(text: str, is_list: Callable[[str], bool] | None) -> str:
    ends = [mark.start() for mark in _SEMICOLON.finditer(text)] if is_list else []
    for begin, end in [*pairwise([*ends, len(text)])][::-1]:  # the longest list first
        listed = text[: begin + 1] + _unquoted(_SENTENCE.split(text[begin + 1 : end])[0])
        if is_list and is_list(listed):
            return listed
    return _unquoted(_SENTENCE.split(text)[0])


def _unquoted(text: str) -> str:
    if _MEASURE.search(text):
        return text.lstrip(_QUOTES)
    text = text.strip(_QUOTES)
    return text.rstrip("}" + _QUOTES) if text.endswith("}") and "{" not in text else text  # of JSON


def bare(text: str) -> list[str]:
    """The last line and the first, where they are a number or a letter and nothing else."""
    text = text.strip()
    lines = (clean(line.lstrip("# ")) for line in (text.rpartition("\n")[2][-200:], text.partition("\n")[0][:200]))
    return [line for line in lines if _BARE.fullmatch(line)]


def extract(response: str) -> str | None:
    """The answer as written, whatever its kind; None where none is marked as one."""
    text = final_part(response)
    return boxed(text) or next(iter((*stated(text), *bare(text)[:1])), None)
