"""Trainings and evaluations from Python: the command `racro` in a process of its own, and its result as an object.

A process, because a training starts servers and engines, handles signals and fills GPUs, and a notebook or a program
should have none of that left when it ends. The library does not know the command's module: it asks the installed
package which one is behind its script `racro`.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from threading import Thread
from typing import IO, Any

import yaml

from racro.config import PythonReward, Reasoner, Recipe, loading
from racro.errors import BadInput
from racro.processes.child import python
from racro.schema import CHAMPION, Mode
from racro.summary import EvaluationSummary, Summary

BAD_INPUT, INTERRUPTED = 2, 130
"""Exit statuses of the command."""
WORDS = "racro: "
"""What its messages begin with."""


class CommandFailed(RuntimeError):
    """A command that ended without a result; the message is its last line."""


def train(
    recipe: Recipe | str | os.PathLike[str],
    changes: Mapping[str, Any] | None = None,
    *,
    run: str | None = None,
    root: str | os.PathLike[str] = "runs",
    quiet: bool = False,
) -> Summary:
    """Train a captioner, as `racro train` does. What is under the root already is not computed again.

    Args:
        recipe: A recipe, the name of a shipped one, or the path of a YAML file.
        changes: Keys to set, by their paths: `{"iterations": 2, "rewards.0.weight": 0.5}`.
        run: Name of the run, a folder under the root. None: made of the recipe.
        root: Folder or URI (s3://...) for runs and artifacts.
        quiet: Print nothing while it runs; otherwise the log goes to standard error.

    Returns:
        Accuracy of the captioner before (`base`) and after (`final`), each with standard error and n; the trained
        policy's folder; seconds by stage. The same is in `ROOT/RUN/summary.json`, beside `report.html`.

    Raises:
        BadInput: A recipe, model or file that cannot be used; one line with the remedy.
        CommandFailed: The training failed; one line.
        KeyboardInterrupt: It was interrupted. The same call goes on where it stopped.
    """
    loaded = loading.load_recipe(recipe, changes)
    text = _run(["train"], loaded, _options(run=run or _name(recipe, loaded), root=root), quiet)
    return Summary.model_validate_json(text)


def evaluate(
    recipe: Recipe | str | os.PathLike[str],
    changes: Mapping[str, Any] | None = None,
    *,
    policy: str = CHAMPION,
    benchmarks: Mapping[str, str | None] | None = None,
    modes: Sequence[Mode] = (),
    limit: int | None = None,
    reasoners: Sequence[Reasoner | str] = (),
    samples: int = 1,
    run: str | None = None,
    root: str | os.PathLike[str] = "runs",
    quiet: bool = False,
) -> EvaluationSummary:
    """Evaluate a captioner on benchmarks, or on the recipe's held-out problems, as `racro evaluate` does.

    Args:
        recipe: A recipe, the name of a shipped one, or the path of a YAML file.
        changes: Keys to set, by their paths.
        policy: The name of a run; `champion`, the best so far; `initial`, the recipe's captioner; a folder or URI.
        benchmarks: Name and source (folder, file or hub id; None: the authors'). Empty: the held-out problems.
        modes: `caption`, `direct`, `joint` and so on. Empty: as in the paper.
        limit: Questions of each benchmark, at most.
        reasoners: Models or sections of a recipe; each answers from the same captions. Empty: the recipe's.
        samples: Answers to each question; several give pass@k and the majority's accuracy.
        run: Name of the run. None: made of what is asked.
        root: Folder or URI for runs and artifacts.
        quiet: Print nothing while it runs.

    Returns:
        `entries`, the table captioner x reasoner x benchmark x mode, each metric with standard error and n. The answers
        are parquet files in the folder `results`, one row (`racro.schema.Result`) per answer.

    Raises:
        BadInput, CommandFailed, KeyboardInterrupt: As `train`.
    """
    options = _options(policy=policy, limit=limit, samples=samples, run=run, root=root)
    options += [f"--mode={mode}" for mode in modes]
    options += [
        f"--benchmark={name}={source}" if source else f"--benchmark={name}"
        for name, source in (benchmarks or {}).items()
    ]
    for reasoner in reasoners:
        section = reasoner if isinstance(reasoner, str) else yaml.safe_dump(reasoner.model_dump(mode="json"))
        options += ["--reasoner", section]
    text = _run(["evaluate"], loading.load_recipe(recipe, changes), options, quiet)
    return EvaluationSummary.model_validate_json(text)


def _options(**given: Any) -> list[str]:
    return [f"--{name}={value}" for name, value in given.items() if value is not None]


def _name(recipe: Recipe | str | os.PathLike[str], loaded: Recipe) -> str:
    """As the command line names runs."""
    from racro.identity import recipe_digest

    stem = "racro" if isinstance(recipe, Recipe) else Path(recipe).stem
    return f"{stem}-{recipe_digest(loaded)[:8]}"


def _run(command: list[str], recipe: Recipe, options: Sequence[str], quiet: bool) -> str:
    """What the command prints. Raises as `train` says."""
    with tempfile.TemporaryDirectory(prefix="racro-recipe-") as folder:
        file = Path(folder) / "recipe.yaml"
        file.write_text(loading.dump(recipe), encoding="utf-8")
        process = subprocess.Popen(
            [*python(_module()), *command, str(file), "--json", *options],
            env=os.environ | _importable(recipe),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None and process.stderr is not None
        said: list[str] = []
        listener = Thread(target=_listen, args=(process.stderr, said, quiet), daemon=True)
        listener.start()
        try:
            printed = process.stdout.read()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
        finally:
            process.stdout.close()
        code = process.wait()
        listener.join()
    if code == 0:
        return printed
    said.insert(0, f"exit status {code}")
    last = next((line for line in reversed(said) if line.startswith(WORDS)), said[-1])
    message = last.removeprefix(WORDS).replace(str(file), "recipe")
    if code == BAD_INPUT:
        raise BadInput(message)
    if code == INTERRUPTED:
        raise KeyboardInterrupt(message)
    raise CommandFailed(message)


def _listen(stream: IO[str], said: list[str], quiet: bool) -> None:
    with stream:
        for line in stream:
            said.append(line.rstrip("\n"))
            if not quiet:
                print(line, end="", file=sys.stderr, flush=True)


def _module() -> str:
    """The module behind the script `racro`. Raises BadInput."""
    found = next(iter(entry_points(group="console_scripts", name="racro")), None)
    if found is None:
        raise BadInput("racro: the package is not installed, so there is no command to run; pip install it")
    return found.module


def _importable(recipe: Recipe) -> dict[str, str]:
    """PYTHONPATH with which the command finds the recipe's own reward functions where this process finds them.

    Our own packages come first: a user's folder may hold packages with the same names.
    """
    rewards = [reward for phase in recipe.phases for reward in phase.rewards if isinstance(reward, PythonReward)]
    folders = dict.fromkeys(filter(None, (_folder(reward.function) for reward in rewards)))
    if not folders:
        return {}
    ours = str(Path(__file__).parents[1])
    return {"PYTHONPATH": os.pathsep.join(filter(None, [ours, *folders, os.environ.get("PYTHONPATH")]))}


def _folder(function: str) -> str | None:
    """The folder from which a function's module is imported; None if it is installed, or not found here either."""
    package = function.partition(":")[0].partition(".")[0]
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    places = [*(spec.submodule_search_locations or ()), spec.origin] if spec else []
    if not places or places[0] is None or "site-packages" in places[0] or package == "racro":
        return None
    return str(Path(places[0]).resolve().parent)
