"""The commands `racro evaluate`, `compare`, `answer` and `grade`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flows import engine_pair, interruption
from flows.cli import answering, evaluate_options, running
from flows.cli.options import (
    AnswerMode,
    Captioner,
    CaptionerUrl,
    Captions,
    CaptionTemperature,
    Clues,
    EngineOption,
    Examples,
    Json,
    KindName,
    MaxTokens,
    Overrides,
    Policy,
    ReasonerUrl,
    RecipeName,
    RecipeOption,
    Root,
    Run,
    Shots,
    TrainedRun,
)
from racro.models import devices
from racro.schema import Mode
from racro.storage import layout


def evaluate(
    recipe: RecipeName,
    policy: Annotated[
        str, typer.Option(metavar="RUN|URI|champion|initial", help="Whose captions; champion is the best in MLflow.")
    ] = "champion",
    benchmark: Annotated[
        list[str] | None, typer.Option("--benchmark", metavar="NAME[=SOURCE]", help="Not the held-out problems.")
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            "--mode",
            metavar="caption|direct|joint|text|vote|best|clues|shots|check",
            help="May be repeated. (default: joint; held-out: caption)",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Questions of each benchmark, at most.")] = None,
    reasoner: Annotated[
        list[str] | None,
        typer.Option("--reasoner", metavar="MODEL|YAML", help="Several share the captions. (default: the recipe's)"),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, metavar="K", help="Answers to a question: pass@k, majority.")] = 1,
    captions: Captions = None,
    caption_temperature: CaptionTemperature = None,
    kind: KindName = None,
    clues: Clues = None,
    shots: Shots = None,
    overrides: Overrides = None,
    run: Run = None,
    root: Root = "runs",
    as_json: Json = False,
) -> None:
    """Evaluate a policy on benchmarks, or on the recipe's held-out problems."""
    loaded = running.load(recipe, overrides)
    benchmarks, modes = evaluate_options.benchmarks(benchmark or ()), evaluate_options.modes(mode or ())
    reasoners = evaluate_options.reasoners(reasoner or (), loaded)
    devices.require_engines(loaded, reasoners)
    settings = evaluate_options.mode_settings(
        modes, kind, loaded.judges, captions=captions, caption_temperature=caption_temperature, clues=clues, shots=shots
    )
    running.require_name(run, "evaluation", loaded, root)
    with running.server("flows.evaluation", running.libraries(loaded)):
        from flows.cli import terminal
        from flows.evaluation import evaluate as flow

        with running.flow(bars=not as_json):
            summary = flow(loaded, policy, benchmarks, modes, limit, reasoners, samples, run, root, settings)
        if as_json:
            print(summary.model_dump_json(indent=2))
        else:
            terminal.show_evaluation(summary, layout.report(root, summary.run))


def compare(
    first: Annotated[str, typer.Argument(metavar="RUN_A", help="An evaluation, by the name of its run.")],
    second: Annotated[str, typer.Argument(metavar="RUN_B", help="Another; or the same, with two modes.")],
    mode: Annotated[Mode | None, typer.Option(help="Only this mode of both.")] = None,
    against: Annotated[Mode | None, typer.Option(help="This mode of the second.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every flip.")] = False,
    root: Root = "runs",
) -> None:
    """Compare two evaluations question by question: McNemar's exact test, and which answers flipped."""
    from flows.cli import terminal
    from racro.evaluation import compare as comparing

    rows = [comparing.read_results(root, name) for name in (first, second)]
    found = comparing.compare(*map(evaluate_options.answered_in, rows, (mode, against or mode)))
    if as_json:
        print(json.dumps([comparison.model_dump(mode="json") for comparison in found], indent=1, ensure_ascii=False))
    else:
        terminal.show_comparisons(found, first, second)


def answer(
    many: Annotated[
        str | None, typer.Argument(metavar="[-]", help="`-` reads many questions from standard input.")
    ] = None,
    image: Annotated[list[str] | None, typer.Option("--image", metavar="FILE", help="An image, or several.")] = None,
    question: Annotated[str | None, typer.Option("--question", metavar="TEXT", help="What to answer.")] = None,
    captioner: Captioner = None,
    reasoner: Annotated[str | None, typer.Option(metavar="MODEL", help="The same. (default: embedded)")] = None,
    engine: EngineOption = None,
    captioner_url: CaptionerUrl = None,
    reasoner_url: ReasonerUrl = None,
    recipe: RecipeOption = None,
    run: TrainedRun = None,
    root: Root = "runs",
    policy: Policy = None,
    max_tokens: MaxTokens = None,
    mode: AnswerMode = "joint",
    captions: Captions = None,
    caption_temperature: CaptionTemperature = None,
    kind: KindName = None,
    clues: Clues = None,
    shots: Shots = None,
    examples: Examples = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    trace: Annotated[bool, typer.Option("--trace", help="Record the steps in MLflow.")] = False,
) -> None:
    """Answer a question about images; without anything, the embedded pair answers an embedded example."""
    [chosen] = evaluate_options.modes([mode])
    models = engine_pair.Models(
        captioner,
        reasoner,
        engine,
        captioner_url or (),
        reasoner_url or (),
        recipe,
        run,
        root,
        policy,
        max_tokens,
        chosen,
        evaluate_options.mode_settings(
            [chosen], kind, captions=captions, caption_temperature=caption_temperature, clues=clues, shots=shots
        ),
        examples,
    )
    with interruption.orderly():
        code = answering.run(models, many, image or (), question, as_json, trace)
    raise typer.Exit(code)


def grade(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Predictions, JSON or JSON lines; LogicVista: CSV.")],
    benchmark: Annotated[
        str | None, typer.Option(metavar="NAME", help="The authors' layout: mathvista, logicvista, dynamath, wemath.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a line of JSON for each prediction.")] = None,
) -> None:
    """Grade the answers in a file; without --benchmark it has question, answer and response in each row."""
    from flows.cli import grading

    grading.run(file, benchmark, out)
