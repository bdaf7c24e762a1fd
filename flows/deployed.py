"""The flows behind the deployments: forms that begin with a recipe by name, and one line for bad input.

Thin: each finds its recipe and runs the flow of its name (`flows.training` and so on) in the same flow run. Named in
flows/prefect.yaml.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.exceptions import FailedRun
from prefect.runtime import flow_run
from prefect.states import Failed
from pydantic import Field, PositiveInt

from flows import answering_batch, evaluation, preparation, profiling, sweep, training
from flows.invented_names import invented
from racro.config import ModeSettings, Reasoner, Recipe, loading
from racro.errors import BadInput
from racro.schema import CHAMPION, Mode
from racro.sweeps.axes import Sweep
from tasks.recording import events

Overrides = tuple[str, ...]


def run_name() -> str:
    """Name of a flow run: the one typed into Prefect's "Run Name", its parameter `run`, or one made of its recipe."""
    if typed := _typed():
        return typed
    given = flow_run.parameters
    if given.get("run"):
        return str(given["run"])
    try:
        return training.default_name(_recipe(given["recipe"], given.get("overrides") or ()))
    except BadInput:  # the flow says what is wrong
        return "bad-recipe"


def _file_name() -> str:
    """Name of a flow run: the one typed into Prefect's "Run Name", or the file of its answers."""
    return _typed() or str(flow_run.parameters["answers"])


def _typed() -> str:
    """What a person typed into "Run Name"; empty where nobody did."""
    name = str(flow_run.name or "")
    return "" if invented(name) else name


@flow(name="train", flow_run_name=run_name, persist_result=False, on_failure=[events.failed])
def train(
    recipe: str = "embedded",
    run: str | None = None,
    root: str = "runs",
    overrides: Overrides = (),
    approve: bool = False,
) -> Any:
    """Train a captioner by caption-reward optimisation.

    Args:
        recipe: Name of a shipped recipe (embedded, racro-3b, rapid-7b ...), path of a YAML file on the worker, or YAML.
        run: Name of the run, a folder under the root; made of the recipe when empty.
        root: Folder or URI (s3://...) for runs and artifacts.
        overrides: Keys to set, for example update.learning_rate=1e-6.
        approve: Pause the run and ask here before a better policy becomes champion.
    """
    return _in_one_line(lambda: training.train.fn(_recipe(recipe, overrides), run, root, approve))


@flow(name="train", flow_run_name=run_name, persist_result=False, on_failure=[events.failed], validate_parameters=False)
def train_full(recipe: Recipe, run: str | None = None, root: str = "runs", approve: bool = False) -> Any:
    """Train a captioner by a recipe whose keys all stand in the form.

    Args:
        recipe: What to do.
        run: Name of the run, a folder under the root; made of the recipe when empty.
        root: Folder or URI (s3://...) for runs and artifacts.
        approve: Pause the run and ask here before a better policy becomes champion.
    """
    return _in_one_line(lambda: training.train.fn(_recipe(recipe), run, root, approve))


@flow(name="prepare", flow_run_name=run_name, persist_result=False, on_failure=[events.failed])
def prepare(recipe: str = "embedded", run: str | None = None, root: str = "runs", overrides: Overrides = ()) -> Any:
    """Prepare the problems of a recipe, training and held-out, and fetch its models.

    Args:
        recipe: Name of a shipped recipe, path of a YAML file on the worker, or YAML. Its sections `problems`,
            `captioner`, `reasoner` and `evaluation.problems` count here.
        run: Name of the flow run; made of the recipe when empty.
        root: Folder or URI (s3://...) for runs and artifacts.
        overrides: Keys to set, for example problems.count=64.
    """
    return _in_one_line(lambda: preparation.prepare.fn(_recipe(recipe, overrides), run, root))


@flow(name="evaluate", flow_run_name=run_name, persist_result=False, on_failure=[events.failed])
def evaluate(
    recipe: str = "embedded",
    run: str | None = None,
    root: str = "runs",
    overrides: Overrides = (),
    policy: str = CHAMPION,
    benchmarks: dict[str, str | None] | None = None,
    modes: tuple[Mode, ...] = (),
    limit: PositiveInt | None = None,
    reasoners: tuple[Reasoner, ...] = (),
    samples: Annotated[int, Field(ge=1, le=1024)] = 1,
    settings: ModeSettings = evaluation.DEFAULT,
) -> Any:
    """Evaluate a policy on benchmarks, or on a recipe's held-out problems.

    Args:
        recipe: Name of a shipped recipe, path of a YAML file on the worker, or YAML: models, limits and sampling;
            held-out problems; columns of the benchmark `own`.
        run: Name of the run, a folder under the root; made of what is asked when empty.
        root: Folder or URI (s3://...) for runs and artifacts.
        overrides: Keys to set, for example evaluation.problems=64.
        policy: The name of a run; `champion`, the best in MLflow for this recipe's reasoner and held-out problems;
            `initial`, the recipe's captioner; a policy's folder or URI; or its digest.
        benchmarks: Name and source (folder, file or hub id; null: the authors'). Empty: the held-out problems.
        modes: `caption`, `direct`, `joint`, `text`, `vote`, `best`, `clues`, `shots`, `check`. Empty: `joint` on
            benchmarks, as in the paper; `caption` on held-out problems, as in training.
        limit: Questions of each benchmark, at most; families stay whole. Empty: all.
        reasoners: Each answers from the same captions. Empty: the recipe's.
        samples: Answers of the reasoner to each question; several give pass@k and the majority's accuracy.
        settings: How often the modes `vote`, `best`, `clues` and `shots` ask, and which caption is best.
    """
    asked = policy, benchmarks, modes, limit, reasoners, samples, run, root, settings
    return _in_one_line(lambda: evaluation.evaluate.fn(_recipe(recipe, overrides), *asked))


@flow(name="profile", flow_run_name=run_name, persist_result=False, on_failure=[events.failed])
def profile(
    recipe: str = "embedded",
    run: str | None = None,
    root: str = "runs",
    overrides: Overrides = (),
    captions: PositiveInt = 4,
) -> Any:
    """Measure the pass rates of a recipe's captioner on the training problems.

    Args:
        recipe: Name of a shipped recipe, path of a YAML file on the worker, or YAML: problems, models and sampling.
        run: Name of the run, a folder under the root; made of the recipe when empty.
        root: Folder or URI (s3://...) for runs and artifacts.
        overrides: Keys to set, for example problems.count=64.
        captions: Number of captions of each problem.
    """
    return _in_one_line(lambda: profiling.profile.fn(_recipe(recipe, overrides), captions, run, root))


@flow(name="sweep", flow_run_name=run_name, persist_result=False, on_failure=[events.failed])
def sweep_recipe(
    recipe: str, plan: Sweep, run: str | None = None, root: str = "runs", overrides: Overrides = ()
) -> Any:
    """Train a recipe in many variants and rank them.

    Args:
        recipe: What the variants have in common: name of a shipped recipe, path of a YAML file on the worker, or YAML.
        plan: What is varied, and how.
        run: Name of the sweep, with which its children's names begin; a digest when empty.
        root: Folder or URI (s3://...) for runs and artifacts.
        overrides: Keys to set for all of them, for example iterations=2.
    """
    return _in_one_line(lambda: sweep.sweep.fn(_recipe(recipe, overrides), plan, run, root))


@flow(name="answer-batch", flow_run_name=_file_name, persist_result=False, on_failure=[events.failed])
def answer_batch(
    questions: str,
    answers: str,
    recipe: str = "embedded",
    policy: str = CHAMPION,
    root: str = "runs",
    overrides: Overrides = (),
    mode: Mode = "joint",
    settings: ModeSettings = answering_batch.MODE_SETTINGS,
    examples: str | None = None,
) -> Any:
    """Answer a file of questions.

    Args:
        questions: Path or URI of a jsonl file, each line {"images": ["a.png"], "question": "..."}, with `gold` and `id`
            if you like.
        answers: Path or URI of the jsonl file to write; one line for each question, in order.
        recipe: Models, engines and settings: name of a shipped recipe, path of a YAML file on the worker, or YAML.
        policy: The name of a run; `champion`, the best in MLflow for this recipe's reasoner and held-out problems;
            `initial`, the recipe's captioner; a policy's folder or URI; or its digest.
        root: Folder or URI (s3://...) with the runs and policies.
        overrides: Keys to set, for example reasoner.max_tokens=512.
        mode: `joint`, as in the paper, `caption`, `vote`, `best`, `clues`, `shots` or `check`.
        settings: How often the modes `vote`, `best`, `clues` and `shots` ask, and which caption is best.
        examples: Path or URI of a jsonl file of solved examples, each line with `question`, `caption` and `answer`; for
            mode `shots`.
    """
    asked = policy, root, mode, settings, examples
    return _in_one_line(lambda: answering_batch.answer_batch.fn(questions, answers, _recipe(recipe, overrides), *asked))


def _recipe(given: Any, overrides: Overrides | list[str] = ()) -> Recipe:
    """The recipe of a form: a name, a path or YAML, or the content that the full form sends. Raises BadRecipe."""
    if isinstance(given, str):
        return loading.read(given, overrides)
    return given if isinstance(given, Recipe) else loading.parse(given, "recipe")


def _in_one_line(work: Callable[[], Any]) -> Any:
    """What the flow returns; bad input fails the run with its line as the state's message, and without a traceback."""
    try:
        return work()
    except BadInput as error:
        get_run_logger().error("%s", error)
        # Prefect raises the state that it is given, and would log where it did.
        logging.getLogger("prefect.flow_runs").addFilter(_is_news)
        return Failed(message=" ".join(str(error).split()))


def _is_news(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], FailedRun))
