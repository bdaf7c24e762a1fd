"""Options of a question: read from a cell in any common layout, found in running text, written under a question.

A cell that could be read in two ways is refused. Not the gold answer (`racro.data.golds`).
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Sequence
from typing import Any, NamedTuple

from racro.data.cells import BadGold, Unusable, is_number, quoted, sound
from racro.data.strict_json import parse

LETTERS = "ABCDEFGHIJ"

_MARKER = re.compile(r"(?:^|(?<=[\s;]))\(?([A-J])[.):]\s*")
_LETTERED = re.compile(r"\(?([A-Ja-j])[.):]\)?\s*(\S.*)", re.DOTALL)
_BULLET = re.compile(r"\n\s*[-*•+]\s*$")
"""What opens the line of the next option in Markdown."""
_LABELS = ("label", "letter", "key", "id")
_TEXTS = ("text", "content", "value", "option")


class Options(NamedTuple):
    """Option texts in the order of their letters."""

    texts: tuple[str, ...] = ()
    lettered: bool = False
    """The source itself names them by letters: a letter in the answer then means the letter, never a text."""
    numbers: bool = False
    """They came as numbers: a number in the answer then is the text of one, never an index."""


def read_options(cell: Any) -> Options:
    """Options from a list, a mapping of letters to texts, either of them as JSON or Python text, or lettered text.

    A list may carry the letters in its texts ("A. 3") or in its items ({"label": "A", "text": "3"}). Raises BadGold.
    """
    if cell is None or (isinstance(cell, str | list | tuple | dict) and not cell):
        return Options()
    if isinstance(cell, str):
        if lettered := options_in(cell):
            missed = {marker[1] for marker in _MARKER.finditer(cell)} - set(LETTERS[: len(lettered)])
            if missed:
                raise BadGold("unreadable choices", f"after {LETTERS[len(lettered) - 1]} comes {min(missed)}: {cell!r}")
            return _checked([(letter, text) for letter, text in zip(LETTERS, lettered, strict=False)])
        cell = literal(cell)
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, dict):
        return _of_mapping(cell)
    if not isinstance(cell, list | tuple):
        raise BadGold("unreadable choices", quoted(cell))
    if cell and all(isinstance(item, dict) for item in cell):
        return _checked([(_either(item, _LABELS), _either(item, _TEXTS)) for item in cell])
    texts = [_text(item) for item in cell]
    labels = [_LETTERED.fullmatch(text) for text in texts]
    if texts and all(labels):
        return _checked([(label[1], label[2]) for label in labels if label])
    own = [label is not None and label[1].upper() == letter for label, letter in zip(labels, LETTERS, strict=False)]
    if any(own):
        raise BadGold("options are not lettered A, B, ...", f"some of {texts} are")
    return _checked([(None, text) for text in texts])._replace(numbers=all(map(is_number, cell)))


def literal(text: str) -> Any:
    """The value of JSON or of a Python literal. Raises BadGold, also for what looks like a list but is none."""
    try:
        return parse(text)
    except (ValueError, RecursionError):
        pass  # then perhaps Python
    try:
        tree = ast.parse(text.strip(), mode="eval")
        value = ast.literal_eval(tree)
        strings = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        tokens = tokenize.generate_tokens(io.StringIO(text.strip()).readline)
        if len(strings) != sum(token.type == tokenize.STRING for token in tokens):
            raise ValueError("texts without a comma between them")  # as numpy prints its arrays
        if isinstance(tree.body, ast.Dict) and len(tree.body.keys) != len(value):
            raise ValueError("a key comes twice")
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise BadGold("unreadable choices", repr(text)) from error
    return value


def _of_mapping(cell: dict[Any, Any]) -> Options:
    labels, texts = _either(cell, _LABELS), _either(cell, _TEXTS)
    if isinstance(labels, list) and isinstance(texts, list) and len(labels) == len(texts):
        return _checked(list(zip(labels, texts, strict=True)))
    pairs = sorted(cell.items(), key=lambda pair: str(pair[0]))
    while pairs and pairs[-1][1] is None:  # tables give every row all keys that any row has
        pairs.pop()
    return _checked(pairs)


def _either(item: dict[Any, Any], names: Sequence[str]) -> Any:
    return next((item[name] for name in names if item.get(name) is not None), None)


def _checked(pairs: Sequence[tuple[Any, Any]]) -> Options:
    """Options from letters (all of them, or none) and texts. Raises BadGold."""
    texts = tuple(_text(text) for _, text in pairs)
    if len(texts) > len(LETTERS):
        raise BadGold("more options than letters", f"{len(texts)} options, {len(LETTERS)} letters")
    if len(texts) < 2:
        raise BadGold("fewer than two options", repr(list(texts)))
    labels = [label for label, _ in pairs if label is not None]
    if not labels and not any(isinstance(label, str) for label, _ in pairs):
        # "A", "B", ...: the options stand in the image, and a letter is letter and text at once.
        return Options(texts, tuple(text.strip("().:") for text in texts) == tuple(LETTERS[: len(texts)]))
    if [str(label).strip(" ().:").upper() for label in labels] != list(LETTERS[: len(texts)]):
        raise BadGold("options are not lettered A, B, ...", f"{[label for label, _ in pairs]}")
    return Options(texts, True)


def _text(item: Any) -> str:
    if isinstance(item, str):
        try:
            text = sound(item, "an option").strip()
        except Unusable as error:
            raise BadGold(error.reason, error.detail) from error
        if not text:
            raise BadGold("empty option", repr(item))
        return text
    if is_number(item) or isinstance(item, bool):
        return str(item)
    if item is None or isinstance(item, float):
        raise BadGold("empty option", repr(item))
    raise BadGold("unreadable choices", f"an option is {quoted(item)}")


def options_in(text: str) -> tuple[str, ...]:
    """The texts of options lettered A, B, ... in running text; empty when there are not at least two."""
    found: list[re.Match[str]] = []
    for marker in _MARKER.finditer(text):
        if marker[1] == LETTERS[len(found) : len(found) + 1]:
            found.append(marker)
        elif marker[1] == "A" and len(found) == 1:
            found = [marker]  # the first was a name at the end of a sentence: "... at point A. (A) 3 (B) 4"
    if len(found) < 2:
        return ()
    ends = [*(marker.start() for marker in found[1:]), len(text)]
    return tuple(
        _BULLET.sub("", text[marker.end() : end]).strip(" ;\n\t") for marker, end in zip(found, ends, strict=True)
    )


def options_text(options: Sequence[Any]) -> str:
    """Options, one per line: (A) 12."""
    return "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))


def with_options(question: str, texts: Sequence[str]) -> str:
    """The question with its options under it, unless it lists them itself, by the same letters.

    Raises BadGold when it lists them in another order, or as many others: its letters are then ambiguous.
    """
    wanted = [_plain(text) for text in texts]
    if [text.strip("().:") for text in texts] == list(LETTERS[: len(texts)]):
        return question  # their letters are all that there is to list
    found = [_plain(text) for text in options_in(question)]
    last = len(found) - 1
    same = [
        one == other or (i == last and one.startswith(f"{other} "))  # text may follow the last option
        for i, (one, other) in enumerate(zip(found, wanted, strict=False))
    ]
    if len(found) == len(wanted):
        if all(same):
            return question
        raise BadGold("question lists other options", f"{found} and {wanted}")
    if any(one in wanted for one, is_same in zip(found, same, strict=False) if not is_same):
        raise BadGold("question lists other options", f"{found} and {wanted}")
    return f"{question}\n{options_text(texts)}"


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold().strip(" $.,;")
