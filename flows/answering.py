"""The command `racro answer`: which models, from the command line; one question or many, from there or from jsonl.

No flow and no server: nothing here is resumed or cached. Called by `flows.cli`.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import urllib.request
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows import local, recipes
from racro import config, layout
from racro.errors import BadInput

if TYPE_CHECKING:
    from racro.answering import Answer, Question, Racro, Watch
    from racro.engines import Completion, Role
    from racro.schema import Policy

HELP = """Answer a question about images: the captioner writes a caption and a tentative answer, the reasoner answers.

Without any option the embedded pair answers an embedded example.

Many: `racro answer - < questions.jsonl`. Each line, {"images": ["a.png"], "question": "..."} with "gold" and "id" if \
you like, gives one line, in order. For a line that cannot be asked that is {"id": ..., "error": ...}; the others are \
answered, and the exit code is 2.
"""

EngineName = Literal["transformers", "vllm", "server"]
ENGINES: dict[EngineName, Callable[[], config.Engine]] = {
    "transformers": config.TransformersEngine,
    "vllm": config.VllmEngine,
    "server": config.ServerEngine,
}
CHAMPION = "champion"
"""What --policy takes for the best of all, besides a place."""

EXAMPLE = 0
"""Number of the held-out problem that is asked when nothing is."""
EXAMPLE_LINE = '{"images": ["a.png"], "question": "..."}'
TEXTS = {"caption": "caption", "tentative": "captioner's own answer", "answer": "reasoner's answer"}
CUT = {
    "length": "the {} was cut off at the limit of tokens; raise --max-tokens",
    "deadline": "the {} was cut off by the deadline; raise runtime.request_deadline in a recipe",
}
PATIENCE = 5.0
"""Seconds for an endpoint to say anything."""
WIDTH = 9
"""Of the labels."""


class BadOption(BadInput):
    """Options that contradict each other, or one that is missing."""


class CutOff(RuntimeError):
    """There is no answer, though nothing is broken."""


@dataclass(frozen=True)
class Models:
    """What the command line says about the models."""

    captioner: str | None = None
    reasoner: str | None = None
    engine: EngineName | None = None
    captioner_urls: Sequence[str] = ()
    reasoner_urls: Sequence[str] = ()
    recipe: str | None = None
    run: str | None = None
    root: str = "runs"
    policy: str | None = None
    max_tokens: int | None = None


def run(
    models: Models, many: str | None, images: Sequence[str], question: str | None, as_json: bool, trace: bool
) -> int:
    """The command; returns its exit code. Raises BadInput, EngineLost, CutOff."""
    _check(models, many, images, question)
    recipe = _recipe(models)
    _reach("--captioner-url", models.captioner_urls)
    _reach("--reasoner-url", models.reasoner_urls)
    home = local.settle()
    with open_racro(models, recipe) as racro:
        if many:
            bad = ask_many(racro, sys.stdin.buffer, trace)
        else:
            from racro.answering import Question

            bad = 0
            ask(racro, example(home) if question is None else Question(images, question), as_json, trace)
    if many or images:
        _warn(models, recipe)
    return 2 if bad else 0


def _check(models: Models, many: str | None, images: Sequence[str], question: str | None) -> None:
    """Raises BadOption for what contradicts or misses something."""
    if many not in (None, "-"):
        raise BadOption(f"{many}: the one argument is `-`, for standard input; name images by --image")
    if many and (images or question is not None):
        raise BadOption("-: questions come from standard input; leave out --image and --question")
    if question is not None and not images:
        raise BadOption("--image: missing; name the image that the question is about")
    if images and question is None:
        raise BadOption("--question: missing; say what you want to know about the image")
    if models.recipe and models.run:
        raise BadOption("--recipe and --run: a run has its recipe; give one of the two")
    if models.captioner and (models.policy or models.run):
        raise BadOption("--captioner: --policy and --run name the captioner's weights already; give one of them")
    for role in ("captioner", "reasoner"):
        named = getattr(models, role) or models.recipe or models.run
        if getattr(models, f"{role}_urls") and not named:
            raise BadOption(f"--{role}: missing; name the model as the endpoint of --{role}-url does")
    if models.captioner_urls and (models.policy or models.run):
        raise BadOption("--captioner-url: an endpoint has its own weights; leave out --policy and --run")


def _reach(option: str, urls: Sequence[str]) -> None:
    """Does one of the endpoints answer, whatever it says? Engines are patient with them, people who wait are not."""
    troubles = []
    for url in urls:
        try:
            urllib.request.urlopen(f"{url.rstrip('/')}/models", timeout=PATIENCE).close()
            return
        except (OSError, ValueError, http.client.HTTPException) as error:
            if getattr(error, "code", 500) < 500:
                return
            troubles.append(f"{url}: {getattr(error, 'reason', error)}")
    if troubles:
        raise BadOption(f"{option}: no answer ({'; '.join(troubles)}); start the server, or correct the address")


def _warn(models: Models, recipe: config.Recipe | None) -> None:
    """Somebody who names no model may take the embedded ones for more than they are."""
    captioner = models.captioner or models.captioner_urls or models.policy or recipe
    reasoner = models.reasoner or models.reasoner_urls or recipe
    if unnamed := [name for name, given in (("--captioner", captioner), ("--reasoner", reasoner)) if not given]:
        print(f"racro: no {' and no '.join(unnamed)}: the embedded model knows only coloured bars", file=sys.stderr)


# --- models -----------------------------------------------------------------------------------------------------------


def open_racro(models: Models, recipe: config.Recipe | None) -> Racro:
    """The pair that answers, not loaded yet. Raises BadOption, ModelNotFound, NoChampion."""
    from racro.answering import TEMPERATURE, TOP_P, Racro

    runtime = recipe.runtime if recipe else config.Runtime()
    captioner = _section("captioner", _policy(models, recipe) or models.captioner, models, recipe)
    reasoner = _section("reasoner", models.reasoner, models, recipe)
    for role, urls in (("captioner", models.captioner_urls), ("reasoner", models.reasoner_urls)):
        if urls:
            place = getattr(runtime, role).model_copy(update={"urls": tuple(urls)})
            runtime = runtime.model_copy(update={role: place})
    limit = max(recipe.rollout.max_tokens, recipe.reasoner.max_tokens) if recipe else None
    return Racro(
        captioner,
        reasoner,
        runtime=runtime,
        max_tokens=models.max_tokens or limit,
        temperature=recipe.evaluation.temperature if recipe else TEMPERATURE,
        top_p=recipe.evaluation.top_p if recipe else TOP_P,
        seed=recipe.seed if recipe else 0,
    )


def _recipe(models: Models) -> config.Recipe | None:
    if models.run is None:
        return recipes.load(models.recipe) if models.recipe else None
    uri = layout.recipe(models.root, models.run)
    return recipes.parse(yaml.safe_load(_of_run(models, uri)), uri)


def _of_run(models: Models, uri: str) -> str:
    """The text of a file of the run."""
    from racro.artifacts import read_file

    try:
        return read_file(uri).decode()
    except (OSError, ValueError, ImportError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise BadOption(
            f"--run {models.run}: {uri} cannot be read ({reason}); give the --root of the run, and let it finish first"
        ) from error


def _section(role: Role, model: str | None, models: Models, recipe: config.Recipe | None) -> Any:
    """A role's section of the recipe with what the command line says instead. `model` None: the recipe's, or embedded.

    Raises BadOption, ModelNotFound.
    """
    from racro.answering import named

    section: Any = getattr(recipe, role) if recipe else None
    if getattr(models, f"{role}_urls"):
        known = model or section.model
        kind = config.Captioner if role == "captioner" else config.Reasoner
        return kind(model=known, engine=config.ServerEngine())
    engine = ENGINES[models.engine]() if models.engine else section.engine if section else None
    if section is None or model is not None:
        return named(role, model or "embedded", engine)
    return section.model_copy(update={"engine": engine})


def _policy(models: Models, recipe: config.Recipe | None) -> str | None:
    """The local folder of a captioner that was trained, if one was asked for."""
    if models.policy is None and models.run is None:
        return None
    given = models.policy or ""
    if given and given != CHAMPION and "://" not in given:
        folder = Path(given)
    else:
        from tasks.engines import local_folder

        folder = local_folder(_trained(models, recipe))
    if not (folder / "config.json").is_file():
        raise BadOption(f"--policy: {folder} is no model folder; give the folder or URI of a policy, or `{CHAMPION}`")
    return str(folder)


def _trained(models: Models, recipe: config.Recipe | None) -> Policy:
    """A policy by its record: the champion, that at a URI, or the one that the run ended with."""
    from racro.artifacts import read_record
    from racro.schema import Policy
    from racro.summary import Summary

    if models.policy == CHAMPION:
        from flows.training import recipe_digest
        from tasks.answer import champion
        from tasks.policies import absolute

        if models.run:
            return champion({"racro.run": models.run, "racro.root": absolute(models.root)})
        return champion({"racro.recipe_digest": recipe_digest(recipe)} if recipe else {})
    if models.policy:
        record = read_record(models.policy)
        if record is None or record.handle_type != Policy.__name__:
            raise BadOption(f"--policy {models.policy}: no policy is there; it is the folder with record.json in it")
        return Policy(uri=models.policy, **record.handle)
    text = _of_run(models, layout.summary(models.root, models.run or ""))
    policy = Summary.model_validate_json(text).policy
    return Policy(uri=policy.uri, rows=0, digest=policy.digest)


# --- one question -----------------------------------------------------------------------------------------------------


def example(home: Path) -> Question:
    """A question of the embedded world; its image is put under `home`, so that people can look at it."""
    from racro.answering import Question
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
            _show(step, completion.text)

    [answer] = _answers(racro, [question], trace, show)
    if isinstance(answer, BadInput):
        raise answer
    if as_json:
        _line({"images": question.images, "question": question.question, **_plain(answer)})
    else:
        _show("reasoning", answer.reasoning)
        _show("answer", answer.final, "bold")
        if answer.verdict:
            _show("verdict", f"{answer.verdict}; the right answer is {question.gold}")
    for text, reason in answer.finish:
        if reason != "stop":
            print(f"racro: {CUT[reason].format(TEXTS[text])}", file=sys.stderr)
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


# --- many -------------------------------------------------------------------------------------------------------------


class Line(BaseModel):
    """A line of the input."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: str | tuple[str, ...]
    question: str
    gold: str | int | float | None = None
    id: str | int | None = None


def ask_many(racro: Racro, lines: Iterable[bytes], trace: bool) -> int:
    """Answer questions as jsonl, one line each, in order; returns how many could not be asked.

    Their line has `error` instead of an answer. Blank lines are left out.
    """
    verdicts: Counter[str] = Counter()
    bad = total = 0
    for content in answer_lines(racro, lines, trace):
        total += 1
        bad += "error" in content
        verdicts.update([content["verdict"]] if "verdict" in content else [])
        _line(content)
    if total == 0:
        raise BadOption("no line on standard input; give lines like " + EXAMPLE_LINE)
    print(f"racro: {total - bad} of {total} questions answered{_accuracy(verdicts)}", file=sys.stderr)
    return bad


def answer_lines(racro: Racro, lines: Iterable[bytes], trace: bool = False) -> Iterator[dict[str, Any]]:
    """What is said to each line of jsonl that is not blank, in order: `id` with an answer's fields, or with `error`."""
    ids: deque[str | int] = deque()

    def questions() -> Iterator[Question | BadInput]:
        for number, line in enumerate(lines, 1):
            if line.strip():
                name, question = _question(line, number)
                ids.append(name)
                yield question

    for answer in _answers(racro, questions(), trace):
        said = {"error": str(answer)} if isinstance(answer, BadInput) else _plain(answer)
        yield {"id": ids.popleft(), **said}


def _question(line: bytes, number: int) -> tuple[str | int, Question | BadInput]:
    """A line's id (its number where it has none) and what it asks, or what is wrong with it."""
    from racro.answering import Question

    name: str | int = number
    try:
        content = json.loads(line)
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}, not an object")
        if isinstance(content.get("id"), str | int):
            name = content["id"]
        read = Line.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        wrong = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].lower()
        return name, BadOption(f"line {number}: {first['loc'][0]}: {wrong}; write it like {EXAMPLE_LINE}")
    except (ValueError, RecursionError) as error:
        return name, BadOption(f"line {number}: not a JSON object ({error}); write it like {EXAMPLE_LINE}")
    gold = None if read.gold is None else str(read.gold)
    return name, Question(read.images, read.question, gold)


def _accuracy(verdicts: Counter[str]) -> str:
    from racro.evaluation import rate

    cases = [verdict == "correct" for verdict, n in verdicts.items() if verdict != "failed" for _ in range(n)]
    right = rate(cases)
    return f"; right: {100 * right.value:.1f} ± {100 * right.stderr:.1f} % of {right.n}" if right else ""


def _answers(
    racro: Racro, questions: Iterable[Question | BadInput], trace: bool, watch: Watch | None = None
) -> Iterator[Answer | BadInput]:
    from racro.answering import unwatched

    watch = watch or unwatched
    if not trace:
        return racro.answer_many(questions, watch)
    from tasks.answer import traced

    return traced(racro, questions, watch)


def _plain(answer: Answer) -> dict[str, Any]:
    return answer.model_dump(mode="json", exclude_none=True)


def _line(content: dict[str, Any]) -> None:
    print(json.dumps(content, ensure_ascii=False), flush=True)
