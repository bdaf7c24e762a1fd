"""The command `racro answer`: which models, from the command line; one question or many, from there or from jsonl.

No flow and no server: nothing here is resumed or cached. Called by `flows.cli.main`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.answering_lines import answers, ask_many, plain, print_line
from flows.engine_pair import BadOption, Models, check, given_recipe, open_racro, reach, warn
from flows.saying import say
from flows.station import local
from racro.errors import BadInput

if TYPE_CHECKING:
    from racro.answering.cases import Question
    from racro.answering.pipeline import Racro
    from racro.engines.protocol import Completion

HELP = """Answer a question about images: the captioner writes a caption and attempts an answer, the reasoner answers.

Without any option the embedded pair answers an embedded example.

Many: `racro answer - < questions.jsonl`. Each line, {"images": ["a.png"], "question": "..."} with "gold" and "id" if \
you like, gives one line, in order. For a line that cannot be asked that is {"id": ..., "error": ...}; the others are \
answered, and the exit code is 2.
"""

EXAMPLE = 0
"""Number of the held-out problem that is asked when nothing is."""
TEXTS = {"caption": "caption", "attempt": "captioner's own answer", "answer": "reasoner's answer"}
LABELS = {"clues": "clues", "check": "again"}
"""Of the captioner's second text, in modes where it is no answer."""
CUT = {
    "length": "the {} was cut off at the limit of tokens; raise --max-tokens",
    "deadline": "the {} was cut off by the deadline; raise runtime.request_deadline in a recipe",
}
WIDTH = 9
"""Of the labels."""


class CutOff(RuntimeError):
    """There is no answer, though nothing is broken."""


def run(
    models: Models, many: str | None, images: Sequence[str], question: str | None, as_json: bool, trace: bool
) -> int:
    """The command; returns its exit code. Raises BadInput, EngineLost, CutOff."""
    _check(many, images, question)
    check(models)
    recipe = given_recipe(models)
    reach("--captioner-url", models.captioner_urls)
    reach("--reasoner-url", models.reasoner_urls)
    say("loading the models")
    home = local.settle()
    with open_racro(models, recipe) as racro:
        if many:
            bad = ask_many(racro, sys.stdin.buffer, trace)
        else:
            from racro.answering.cases import Question

            bad = 0
            ask(racro, example(home) if question is None else Question(images, question), as_json, trace)
    if many or images:
        warn(models, recipe)
    return 2 if bad else 0


def _check(many: str | None, images: Sequence[str], question: str | None) -> None:
    """Raises BadOption for what contradicts or misses something."""
    if many not in (None, "-"):
        raise BadOption(f"{many}: the one argument is `-`, for standard input; name images by --image")
    if many and (images or question is not None):
        raise BadOption("-: questions come from standard input; leave out --image and --question")
    if question is not None and not images:
        raise BadOption("--image: missing; name the image that the question is about")
    if images and question is None:
        raise BadOption("--question: missing; say what you want to know about the image")


def example(home: Path) -> Question:
    """A question of the embedded world; its image is put under `home`, so that people can look at it."""
    from racro.answering.cases import Question
    from racro.embedded import world

    problem = world.problem("heldout", 0, EXAMPLE)
    file = Path(os.path.relpath(home / "example.png"))
    problem.images()[0].save(file)
    return Question([str(file)], problem.question, problem.answer)


def ask(racro: Racro, question: Question, as_json: bool, trace: bool) -> None:
    """Answer one question; print each part when it is there, or with `as_json` all of it at the end.

    Raises BadInput, EngineLost, and CutOff when the reasoner came to no answer.
    """

    def show(number: int, step: str, completion: Completion) -> None:
        if not as_json and step == "caption":  # not before: it could be asked
            for image in cast(Sequence[str], question.images):
                _show("image", image)
            _show("question", question.question)
        if not as_json and step != "answer":
            _show(LABELS.get(racro.mode, step) if step == "attempt" else step, completion.text)

    [answer] = answers(racro, [question], trace, show)
    if isinstance(answer, BadInput):
        raise answer
    if as_json:
        print_line({"images": question.images, "question": question.question, **plain(answer)})
    else:
        _show("reasoning", answer.reasoning)
        _show("answer", answer.final, "bold")
        if answer.verdict:
            _show("verdict", f"{answer.verdict}; the right answer is {question.gold}")
    for text, reason in answer.finish:
        if reason not in (None, "stop"):
            named = "second caption" if (text, racro.mode) == ("attempt", "check") else TEXTS[text]
            print(f"racro: {CUT[reason].format(named)}", file=sys.stderr)
    if not answer.final:
        raise CutOff("the reasoner gave no answer before it was cut off")


def _show(label: str, text: str, style: str = "") -> None:
    """One part of the page. Elsewhere than on a terminal lines stay as long as they are."""
    console = Console(highlight=False)
    if console.is_terminal:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=WIDTH, style="dim")
        grid.add_column()
        grid.add_row(label, Text(text.strip(), style))
        console.print(grid)
    else:
        lines = text.strip().splitlines() or [""]
        for head, line in zip_longest([label], lines, fillvalue=""):
            print(f"{head:<{WIDTH}} {line}".rstrip(), flush=True)
