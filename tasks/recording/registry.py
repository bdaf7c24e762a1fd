"""MLflow's registries: evaluated policies as versions of a model, the best of them as its champion, and prompts.

A registered model holds the policies that one reasoner judged on one set of held-out problems: their accuracies can be
compared. Its name ends in the digest of both, so it is found again whatever it was called when it was made.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from racro.config import Recipe
from racro.identity import digest
from racro.prompts import Message, attempt_messages, caption_messages, plain_text, reasoner_messages
from racro.schema import CHAMPION, FrozenModel, ProblemTable
from tasks.recording import store


class Judge(NamedTuple):
    """By what policies are compared."""

    reasoner: FrozenModel
    heldout: ProblemTable

    @property
    def digest(self) -> str:
        """The end of its registered model's name."""
        return digest([self.reasoner, self.heldout])[:8]


class Move(NamedTuple):
    """A champion that may change."""

    version: ModelVersion
    """The better one."""
    best: ModelVersion | None
    """The champion so far."""

    @property
    def line(self) -> str:
        """In words."""
        tags = self.version.tags
        new = f"iteration {tags['racro.iteration']} with {float(tags['racro.accuracy']):.1%}"
        before = f"after {float(self.best.tags['racro.accuracy']):.1%}" if self.best else "the first one"
        return f"{new} on n = {tags['racro.n']} held-out problems, {before}, in {self.version.name}"


def find(client: MlflowClient, judge: Judge) -> str | None:
    """Name of the registered model of policies that were judged so; None if there is none yet."""
    found = client.search_registered_models(f"name LIKE 'captioner-%{judge.digest}'")
    return min((model.name for model in found), default=None)


def model_for(client: MlflowClient, judge: Judge, reasoner: str) -> str:
    """As `find`; made if there is none. `reasoner`: its name, as the recipe has it."""
    if name := find(client, judge):
        return name
    short = re.sub(r"[^\w.-]+", "-", reasoner.rstrip("/").rpartition("/")[2]).strip("-.") or "reasoner"
    name = f"captioner-for-{short[:60]}-{judge.digest}"
    text = (
        f"Captioners whose captions the frozen reasoner `{reasoner}` answered, on the same {judge.heldout.rows:,} "
        "held-out problems: the accuracies of the versions can be compared. The alias `champion` is the best one of "
        "finished runs. Weights are where the tag `racro.policy_uri` says; `racro export champion --out FOLDER` writes "
        "them with a model card."
    )
    with contextlib.suppress(MlflowException):  # another run made it in between
        client.create_registered_model(name, {"racro.reasoner": reasoner}, text)
    return name


def logged_model(client: MlflowClient, experiment_id: str, run_id: str, iteration: int, tags: dict[str, str]) -> str:
    """Id of the logged model of a run's policy; made if there is none."""
    name = f"captioner-iteration-{iteration}"
    known = client.search_logged_models([experiment_id], f"name = '{name}' AND source_run_id = '{run_id}'")
    if known:
        return str(known[0].model_id)
    model = client.create_logged_model(experiment_id, name, source_run_id=run_id, tags=tags, model_type="captioner")
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def register(client: MlflowClient, name: str, run_id: str, model_id: str, tags: dict[str, str], text: str) -> None:
    """A policy as a version of a registered model, once. text: what it is."""
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get("racro.policy") == tags["racro.policy"] and version.run_id == run_id:
            return
    client.create_model_version(name, f"models:/{model_id}", run_id, tags=tags, model_id=model_id, description=text)


def moves(client: MlflowClient, run_id: str) -> Iterator[Move]:
    """The champions that would change if this run's policies counted; of equal ones, the first stays."""
    best: dict[str, ModelVersion] = {}
    versions = client.search_model_versions(f"run_id = '{run_id}'")
    for version in sorted(versions, key=lambda version: int(version.version)):
        if version.name not in best or _accuracy(version) > _accuracy(best[version.name]):
            best[version.name] = version
    for name, version in best.items():
        before = champion(client, name)
        if before is None or _accuracy(version) > _accuracy(before):
            yield Move(version, before)


def champion(client: MlflowClient, name: str) -> ModelVersion | None:
    """Of a registered model; None if it has none. Raises MlflowException where the server does not say."""
    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in store.HEALING:  # not "none", after which a worse one would become champion
            raise
        return None


def crowned(client: MlflowClient) -> list[RegisteredModel]:
    """All registered models that have a champion. MLflow gives a hundred at a time."""
    found: list[RegisteredModel] = []
    page: str | None = None
    while page != "":
        models = client.search_registered_models("name LIKE 'captioner-%'", page_token=page)
        found += [model for model in models if CHAMPION in model.aliases]
        page = models.token or ""
    return found


def crown(client: MlflowClient, move: Move) -> None:
    """Make the better version champion."""
    client.set_registered_model_alias(move.version.name, CHAMPION, move.version.version)


def _accuracy(version: ModelVersion) -> float:
    return float(version.tags.get("racro.accuracy", "-1"))


# --- prompts ----------------------------------------------------------------------------------------------------------


def link_prompts(client: MlflowClient, run_id: str, recipe: Recipe) -> None:
    """The prompts that a recipe uses, as versions in the prompt registry that belong to the run."""
    for name, messages in prompts(recipe).items():
        template = [{"role": one["role"], "content": plain_text(one)} for one in messages]
        alias = f"text-{digest(template)[:8]}"
        try:
            version = client.get_prompt_version_by_alias(name, alias)
        except MlflowException:
            version = client.register_prompt(name, template, f"As racro's code has it, digest {alias[5:]}.")
            client.set_prompt_alias(name, alias, version.version)
        client.link_prompt_version_to_run(run_id, version)


def prompts(recipe: Recipe) -> dict[str, list[Message]]:
    """Name -> messages, with variables as MLflow writes them."""
    question, caption = "{{question}}", "{{caption}}"
    found: dict[str, list[Message]] = {}
    for phase in recipe.phases:
        if phase.objective == "caption":
            found["racro-caption"] = caption_messages(question, 1)
        else:
            found["racro-attempt"] = attempt_messages(question, 1)
    return found | {"racro-answer-from-caption": reasoner_messages(question, caption)}
