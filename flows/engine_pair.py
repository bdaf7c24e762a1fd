"""What the command line says about captioner and reasoner -> the pair that answers.

From names, endpoints, a recipe, a run or a policy. Called by `flows.cli.answering` and `flows.answering_batch`.
"""

from __future__ import annotations

import contextlib
import http.client
import sys
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import yaml

from racro import config
from racro.config import loading
from racro.errors import BadInput
from racro.models import devices
from racro.schema import INITIAL, Mode
from racro.storage import layout

if TYPE_CHECKING:
    from racro.answering.pipeline import Racro
    from racro.engines.protocol import Role

EngineName = Literal["transformers", "vllm", "server"]
ENGINES: dict[EngineName, Callable[[], config.EngineChoice]] = {
    "transformers": config.Transformers,
    "vllm": config.Vllm,
    "server": config.Server,
}
ANSWER_DEADLINE = 5.0
"""Seconds for an endpoint to say anything."""


class BadOption(BadInput):
    """Options that contradict each other, or one that is missing."""


MODE_SETTINGS = config.ModeSettings()


@dataclass(frozen=True)
class Models:
    """What the command line says about the models, and how they answer."""

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
    mode: Mode = "joint"
    settings: config.ModeSettings = MODE_SETTINGS
    examples: str | None = None
    """File of solved examples, for mode shots."""


def check(models: Models) -> None:
    """Raises BadOption for what contradicts or misses something."""
    if models.recipe and models.run:
        raise BadOption("--recipe and --run: a run has its recipe; give one of the two")
    if models.captioner and (models.policy or models.run):
        raise BadOption("--captioner: --policy and --run name the captioner's weights already; give one of them")
    if (models.mode == "shots") is (models.examples is None):
        raise BadOption("--examples: mode shots needs a file of solved examples, and no other mode reads one")
    for role in ("captioner", "reasoner"):
        named = getattr(models, role) or models.recipe or models.run
        if getattr(models, f"{role}_urls") and not named:
            raise BadOption(f"--{role}: missing; name the model as the endpoint of --{role}-url does")
    if models.captioner_urls and (models.policy or models.run):
        raise BadOption("--captioner-url: an endpoint has its own weights; leave out --policy and --run")


def reach(option: str, urls: Sequence[str]) -> None:
    """Does one of the endpoints answer, whatever it says? Engines are patient with them, people who wait are not."""
    troubles = []
    for url in urls:
        try:
            urllib.request.urlopen(f"{url.rstrip('/')}/models", timeout=ANSWER_DEADLINE).close()
            return
        except (OSError, ValueError, http.client.HTTPException) as error:
            if getattr(error, "code", 500) < 500:
                return
            troubles.append(f"{url}: {getattr(error, 'reason', error)}")
    if troubles:
        raise BadOption(f"{option}: no answer ({'; '.join(troubles)}); start the server, or correct the address")


def warn(models: Models, recipe: config.Recipe | None) -> None:
    """The embedded models answer any question about any image; people may take them for more than they are."""
    if roles := embedded(models, recipe):
        print(
            f"racro: the embedded {' and '.join(roles)} know{'s' * (len(roles) == 1)} only this project's own "
            "pictures of coloured bars; about anything else the answer means nothing (--captioner, --reasoner)",
            file=sys.stderr,
        )


def embedded(models: Models, recipe: config.Recipe | None) -> list[str]:
    """The roles whose model is the embedded one."""
    used = {"captioner": models.captioner, "reasoner": models.reasoner}
    if recipe is not None:
        used = {role: model or _loaded(getattr(recipe, role)) for role, model in used.items()}
    elif models.policy:
        used["captioner"] = models.policy  # trained from a model that only its folder knows
    return [role for role, model in used.items() if model in (None, "embedded") and not getattr(models, f"{role}_urls")]


def _loaded(section: config.Captioner | config.Reasoner) -> str:
    """The model that is loaded for a section of a recipe; empty for a script."""
    return "" if section.engine.type == "scripted" else section.model


def open_racro(models: Models, recipe: config.Recipe | None) -> Racro:
    """The pair that answers, not loaded yet. Raises BadInput (BadOption, ModelNotFound, NoPolicy)."""
    from racro.answering.pipeline import TEMPERATURE, TOP_P, Racro
    from racro.answering.shots import read_shots

    runtime = recipe.runtime if recipe else config.Runtime()
    captioner = _section("captioner", _policy(models, recipe) or models.captioner, models, recipe)
    reasoner = _section("reasoner", models.reasoner, models, recipe)
    for role, urls in (("captioner", models.captioner_urls), (runtime.role_of(reasoner), models.reasoner_urls)):
        if urls:
            runtime = runtime.placed(role, runtime.place(role).model_copy(update={"urls": tuple(urls)}))
    seed = recipe.seed if recipe else 0
    limit = max(recipe.rollout.max_tokens, recipe.reasoner.max_tokens) if recipe else None
    return Racro(
        captioner,
        reasoner,
        runtime=runtime,
        max_tokens=models.max_tokens or limit,
        temperature=recipe.evaluation.temperature if recipe else TEMPERATURE,
        top_p=recipe.evaluation.top_p if recipe else TOP_P,
        seed=seed,
        mode=models.mode,
        settings=models.settings,
        shots=read_shots(models.examples, models.settings.shots, seed) if models.examples else (),
    )


def given_recipe(models: Models) -> config.Recipe | None:
    """The recipe that was named, or that of the run. Raises BadOption, BadRecipe, NoDevice."""
    recipe = _recipe_of_run(models) if models.run else loading.load(models.recipe) if models.recipe else None
    if recipe is not None and not (models.captioner_urls and models.reasoner_urls):
        try:
            devices.require_engines(recipe)
        except devices.NoDevice as error:
            if models.run is None:
                raise
            raise BadOption(
                f"--run {models.run}: {error}; or give a recipe for this machine: --recipe FILE --policy {models.run}"
            ) from error
    return recipe


def _recipe_of_run(models: Models) -> config.Recipe:
    assert models.run is not None
    uri = layout.recipe(models.root, models.run)
    content = yaml.safe_load(_of_run(models, uri))
    if isinstance(content, dict):  # what answering has no use for, and other versions name otherwise
        content.pop("reward", None)
        if isinstance(content.get("runtime"), dict):
            content["runtime"].pop("timeouts", None)
    return loading.parse(content, uri)


def _of_run(models: Models, uri: str) -> str:
    """The text of a file of the run."""
    from racro.storage.artifacts import read_file

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
    from racro.answering.engine_pair import named

    section: Any = getattr(recipe, role) if recipe else None
    if getattr(models, f"{role}_urls"):
        known = model or section.model
        kind = config.Captioner if role == "captioner" else config.Reasoner
        return kind(model=known, engine=config.Server())
    engine = ENGINES[models.engine]() if models.engine else section.engine if section else None
    if section is None or model is not None:
        return named(role, model or "embedded", engine)
    return section.model_copy(update={"engine": engine})


_held = contextlib.ExitStack()
"""Downloads that an answer may need until the process ends."""


def _policy(models: Models, recipe: config.Recipe | None) -> str | None:
    """The local folder of a captioner that was trained, if one was asked for. Raises NoPolicy, BadOption."""
    which = models.policy or models.run
    if which is None or models.policy == INITIAL:
        return None
    from tasks.choose import policy
    from tasks.running import trainer
    from tasks.running.engines import make_room

    if models.policy is None:
        _of_run(models, layout.summary(models.root, which))  # says what is missing of a run that has not finished
    chosen = policy(which, recipe, layout.absolute(models.root))
    runtime = recipe.runtime if recipe else config.Runtime()
    return str(_held.enter_context(trainer.folder(chosen, runtime, make_room)))
