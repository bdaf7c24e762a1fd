"""The command `racro`. Parses, settles the machine, calls a flow, prints; exit 0 done, 2 bad input, 1 failure."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from flows import engine_pair, sweep_plan
from flows.cli import answering, evaluate_options
from flows.station import local, servers
from racro.config import loading
from racro.errors import BadInput
from racro.schema import Mode
from racro.storage import layout

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
embedded = typer.Typer(no_args_is_help=True, help="The embedded world and its two tiny models.")
app.add_typer(embedded, name="embedded")

RecipeFile = Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file; shipped ones are in racro/recipes.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override a key.")]
Root = Annotated[str, typer.Option("--root", metavar="URI", help="Folder or URI for runs and artifacts.")]
Silence = Annotated[
    int,
    typer.Option(
        min=servers.SHORTEST_SILENCE,
        metavar="SECONDS",
        help="Without a sign of life for so long, a server is started again and a flow run has crashed.",
    ),
]


@app.callback()
def _racro() -> None:
    """Caption-reward optimisation: train the captioner, swap the reasoner."""


@app.command()
def train(
    recipe: RecipeFile,
    overrides: Overrides = None,
    run: Annotated[str | None, typer.Option("--run", metavar="NAME", help="Name of the run.")] = None,
    root: Root = "runs",
) -> None:
    """Train a captioner. What is under ROOT already is not computed again."""
    loaded = loading.load(recipe, overrides or [])
    if run is not None:
        layout.run(root, run)  # a name that cannot be a folder is refused before anything starts
    home = _settle()
    with local.prefect_server(home):
        from flows.cli import terminal
        from flows.training import recipe_digest
        from flows.training import train as flow

        _hide_tracebacks_of_bad_input()
        name = run or f"{Path(recipe).stem}-{recipe_digest(loaded)[:8]}"
        with terminal.progress_bars():
            summary = flow(loaded, run=name, root=root)
        terminal.show_summary(summary, layout.report(root, name))


@app.command()
def sweep(
    recipe: RecipeFile,
    axis: Annotated[
        list[str] | None, typer.Option("--axis", metavar="PATH=V1,V2", help="Key with values, or a range 1e-5..1e-3.")
    ] = None,
    random: Annotated[int | None, typer.Option(min=1, metavar="N", help="Draw N points, not all combinations.")] = None,
    optuna: Annotated[int | None, typer.Option(min=1, metavar="N", help="Let Optuna propose N points.")] = None,
    parallel: Annotated[int, typer.Option(min=1, metavar="P", help="Children at once.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, metavar="S", help="Trainings per point.")] = 1,
    stop: Annotated[bool, typer.Option("--stop/--no-stop", help="Stop hopeless children early.")] = True,
    overrides: Overrides = None,
    run: Annotated[str | None, typer.Option("--run", metavar="NAME", help="Name of the sweep.")] = None,
    root: Root = "runs",
) -> None:
    """Train a recipe in many variants and rank them. Failed ones are tried again by the same command."""
    loaded = loading.load(recipe, overrides or [])
    plan = sweep_plan.planned(axis or (), random, optuna, seeds, parallel, stop)
    sweep_plan.check(loaded, plan)
    name = run or f"{Path(recipe).stem}-{sweep_plan.sweep_name(loaded, plan)}"
    layout.run(root, name)
    home = _settle()
    with local.prefect_server(home):
        from flows.cli import terminal
        from flows.sweep import sweep as flow

        _hide_tracebacks_of_bad_input()
        with terminal.progress_bars():
            summary = flow(loaded, plan, run=name, root=root)
        terminal.show_sweep(summary, layout.report(root, name))
    raise typer.Exit(any(child.status == "failed" for child in summary.children))


@app.command()
def evaluate(
    recipe: RecipeFile,
    policy: Annotated[
        str, typer.Option(metavar="champion|initial|URI", help="Whose captions: the best in MLflow, or a folder.")
    ] = "champion",
    benchmark: Annotated[
        list[str] | None, typer.Option("--benchmark", metavar="NAME[=SOURCE]", help="Not the held-out problems.")
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option("--mode", metavar="caption|direct|joint|text", help="(default: joint; held-out: caption)"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Questions of each benchmark, at most.")] = None,
    reasoner: Annotated[
        list[str] | None,
        typer.Option("--reasoner", metavar="MODEL|YAML", help="Several share the captions. (default: the recipe's)"),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, metavar="K", help="Answers to a question: pass@k, majority.")] = 1,
    overrides: Overrides = None,
    run: Annotated[str | None, typer.Option("--run", metavar="NAME", help="Name of the run.")] = None,
    root: Root = "runs",
) -> None:
    """Evaluate a policy on benchmarks, or on the recipe's held-out problems."""
    loaded = loading.load(recipe, overrides or [])
    benchmarks, modes = evaluate_options.benchmarks(benchmark or ()), evaluate_options.modes(mode or ())
    reasoners = evaluate_options.reasoners(reasoner or (), loaded)
    if run is not None:
        layout.run(root, run)  # a name that cannot be a folder is refused before anything starts
    home = _settle()
    with local.prefect_server(home):
        from flows.cli import terminal
        from flows.evaluation import evaluate as flow

        _hide_tracebacks_of_bad_input()
        with terminal.progress_bars():
            summary = flow(loaded, policy, benchmarks, modes, limit, reasoners, samples, run, root)
        terminal.show_evaluation(summary, layout.report(root, summary.run))


@app.command()
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


@app.command(help=answering.HELP)
def answer(
    many: Annotated[
        str | None, typer.Argument(metavar="[-]", help="`-` reads many questions from standard input.")
    ] = None,
    image: Annotated[list[str] | None, typer.Option("--image", metavar="FILE", help="An image, or several.")] = None,
    question: Annotated[str | None, typer.Option("--question", metavar="TEXT", help="What to answer.")] = None,
    captioner: Annotated[
        str | None, typer.Option(metavar="MODEL", help="`embedded`, a folder or a hub id. (default: embedded)")
    ] = None,
    reasoner: Annotated[str | None, typer.Option(metavar="MODEL", help="The same. (default: embedded)")] = None,
    engine: Annotated[
        engine_pair.EngineName | None, typer.Option(help="What runs models. (default: the recipe's, or transformers)")
    ] = None,
    captioner_url: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Endpoint that runs the captioner, http://host:8000/v1.")
    ] = None,
    reasoner_url: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="The same for the reasoner. The key is in OPENAI_API_KEY.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="RECIPE", help="Models and settings of a recipe, command line first.")
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="NAME", help="Recipe and trained captioner of a finished run.")
    ] = None,
    root: Root = "runs",
    policy: Annotated[
        str | None, typer.Option(metavar="champion|URI", help="A trained captioner: the best in MLflow, or a folder.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest caption, and longest answer.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    trace: Annotated[bool, typer.Option("--trace", help="Record the steps in MLflow.")] = False,
) -> None:
    """Answer a question about images; without anything, the embedded pair answers an embedded example."""
    models = engine_pair.Models(
        captioner, reasoner, engine, captioner_url or (), reasoner_url or (), recipe, run, root, policy, max_tokens
    )
    raise typer.Exit(answering.run(models, many, image or (), question, as_json, trace))


@app.command()
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


@app.command()
def doctor(root: Root = "runs", as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say what this machine can run, and what to do about what is broken; exits with 1 if something is."""
    from flows.cli import doctor as page

    raise typer.Exit(page.run(root, as_json))


@app.command()
def ui(
    prefect_port: Annotated[int, typer.Option(help="Port of the Prefect UI.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow UI.")] = 5000,
) -> None:
    """Open the Prefect and MLflow UIs on what was recorded here; Ctrl-C ends them."""
    home = _settle()
    if running := servers.running(home):
        print(f"Prefect  {running.options.prefect_url}\nMLflow   {running.options.mlflow_url}\nUntil `racro down`.")
        return
    with local.prefect_server(home, prefect_port) as api, local.mlflow_ui(mlflow_port) as mlflow_url:
        print(f"Prefect  {api.removesuffix('/api')}\nMLflow   {mlflow_url}\nCtrl-C ends both.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


@app.command()
def up(
    postgres: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Keep both servers' records there: postgresql://USER:PASSWORD@HOST:PORT/NAME."
        ),
    ] = None,
    artifacts: Annotated[
        str | None, typer.Option(metavar="URI", help="Put runs and MLflow's files below it. (default: runs, .racro)")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; there are no passwords.")] = "127.0.0.1",
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect's UI and API.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's UI and API.")] = 5000,
    workers: Annotated[int, typer.Option(min=0, help="Runs that are executed at once on this machine.")] = 1,
    gpus: Annotated[
        str | None,
        typer.Option(metavar="0,1", envvar="CUDA_VISIBLE_DEVICES", help="Dealt out to the workers, none to two."),
    ] = None,
    silence: Silence = 90,
) -> None:
    """Start Prefect, MLflow and workers, and register the deployments; `racro down` stops them."""
    from flows.station import starting

    starting.up(_settle(), postgres, artifacts, host, prefect_port, mlflow_port, workers, gpus or None, silence)


@app.command()
def register(root: Root = "runs", silence: Silence = 90) -> None:
    """Register pool, queues, deployments and automations at PREFECT_API_URL, as `racro up` does at its own server."""
    from flows.station import starting

    _settle()
    starting.register(root, silence)


@app.command()
def prune(
    root: Root = "runs",
    last: Annotated[int, typer.Option(min=1, metavar="N", help="Keep the last N checkpoints of each training.")] = 2,
    every: Annotated[int, typer.Option(min=0, metavar="M", help="Keep each M-th as well; 0: none.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove checkpoints, except champions, the last of each training and what a run under way may need."""
    home = _settle()
    with local.prefect_server(home):
        from flows.cli import terminal
        from flows.retention import prune as flow

        _hide_tracebacks_of_bad_input()
        terminal.show_pruned(flow(root, last, every, dry_run), dry_run)


@app.command()
def down() -> None:
    """Stop what `racro up` started. Runs that are under way are taken up again by the next `racro up`."""
    from flows.station import starting

    starting.down(_settle())


@embedded.command()
def rebuild(
    out: Annotated[Path, typer.Option(help="Folder for the two models; the package's own when not given.")] = Path(),
) -> None:
    """Make the tokenizer and the two tiny models from nothing. Takes about fifteen minutes on two cores."""
    home = _settle()
    with local.prefect_server(home):
        from flows.cli import terminal
        from flows.rebuilding import rebuild as flow
        from racro.models.folders import EMBEDDED

        with terminal.progress_bars():
            flow(EMBEDDED if out == Path() else out)


def _settle() -> Path:
    """Environment for Prefect, MLflow and Hugging Face before they are imported."""
    if not sys.stdout.isatty():
        os.environ.setdefault("PREFECT_LOGGING_COLORS", "false")
    else:  # bars instead of log lines; the lines are in the Prefect UI
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")
    return local.settle()


def _hide_tracebacks_of_bad_input() -> None:
    """`main` says in one line what the user has to mend; where it was found is in the Prefect UI."""

    def wanted(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], BadInput))

    for handler in logging.getLogger().handlers:  # Prefect's console is a handler of the root logger
        handler.addFilter(wanted)


def main() -> None:
    """Entry point of the `racro` command."""
    try:
        app()
    except BadInput as error:
        print(f"racro: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("racro: interrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        words = f"{error}; make room: the same command goes on where it stopped" if full else error
        print(f"racro: failed: {type(error).__name__}: {words}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:  # the last resort: one line for people, the traceback is in the Prefect logs
        print(f"racro: failed: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
