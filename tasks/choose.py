"""Which policy is meant: that of a run, the best so far, the one a training starts with, or one by its place or digest.

The one place that decides it. Called by the flows that use a policy without training one, and by `racro answer`.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import NoReturn

from mlflow import MlflowClient
from prefect import task
from prefect.cache_policies import NO_CACHE

from racro.config import Recipe
from racro.errors import BadInput
from racro.identity import judging_digest, recipe_digest
from racro.models.folders import ModelNotFound, model_digest, require_model
from racro.schema import CHAMPION, INITIAL, Policy
from racro.storage import artifacts, layout, retention, runs
from tasks.prepare import adopt_captioner
from tasks.recording import registry, store, track
from tasks.recording.registry import Judge
from tasks.recording.undisturbed import undisturbed

KINDS = f"the name of a run, `{CHAMPION}`, `{INITIAL}`, a folder or URI, or the first 8 digits of a digest, or more"
DIGEST = re.compile(r"[0-9a-f]{8,64}")


class NoPolicy(BadInput):
    """No policy, or more than one, is what was said."""


@task(cache_policy=NO_CACHE, persist_result=False)
@undisturbed
def choose(which: str, recipe: Recipe, root: str, judge: Judge | None) -> Policy:
    """See `policy`."""
    return policy(which, recipe, root, judge)


def require_champion(recipe: Recipe) -> None:
    """Refuse where there is none at all: to know that costs nothing, to know which one takes the held-out problems.

    Raises NoPolicy.
    """
    if not registry.crowned(store.client()):
        raise _no_champion(recipe)


def policy(which: str, recipe: Recipe | None, root: str, judge: Judge | None = None) -> Policy:
    """The policy that `which` names, in this order:

    `champion` (see there) and `initial`, the recipe's captioner; a folder or URI, which has a slash, of a policy or of
    a run; a run under `root`; the beginning of the digest of a checkpoint under `root`; a folder by its bare name.
    Raises NoPolicy.
    """
    if which == CHAMPION:
        return champion(recipe, judge)
    if which == INITIAL:
        recipe = recipe or Recipe()
        return adopt_captioner.fn(recipe.captioner, recipe.runtime)
    if "/" in which or os.sep in which:
        place, _, name = layout.absolute(which).rpartition("/")
        found = _in(which) or _of_run(name, place)
    else:
        found = _of_run(which, root) or _by_digest(which, root) or _in(which)
    return found or _no_policy(which)


def champion(recipe: Recipe | None, judge: Judge | None = None) -> Policy:
    """The best policy of finished runs, by the alias in MLflow's registry.

    Each registered model has a champion, of those policies that the same reasoner judged on the same problems. `judge`
    says which; without it, it is the one that judged last for a recipe that judges as `recipe` does. Without a recipe
    there must be one champion only. Raises NoPolicy, NoStore.
    """
    client = store.client()
    with store.answering():
        if judge is not None:
            names = [name for name in [registry.find(client, judge)] if name]
        else:
            names = [model.name for model in registry.crowned(client)]
            if recipe is not None:
                last = _last_judged(client, recipe)
                names = [name for name in [last] if name in names]
        crowned = [version for name in names if (version := registry.champion(client, name))]
    if not crowned:
        raise _no_champion(recipe)
    if len(crowned) > 1:
        known = ", ".join(f"{v.name} ({float(v.tags['racro.accuracy']):.1%})" for v in crowned)
        raise NoPolicy(f"policy {CHAMPION}: there are several, {known}; say whose by --recipe")
    tags = crowned[0].tags
    return _as_trained(Policy(uri=tags["racro.policy_uri"], rows=0, digest=tags["racro.policy"]))


def _no_champion(recipe: Recipe | None) -> NoPolicy:
    where = store.plain(os.environ.get("MLFLOW_TRACKING_URI", ""))
    whose = " for this recipe's reasoner and held-out problems" if recipe else ""
    return NoPolicy(f"policy {CHAMPION}: {where} holds none{whose}; let a training finish first, or give {KINDS}")


def _as_trained(policy: Policy) -> Policy:
    """The champion with the step that its training gave it, so that both share the cache of evaluations.

    Raises NoPolicy where it was deleted.
    """
    record = artifacts.known_record(policy.uri)
    if record is None and _in(policy.uri) is None:
        _gone(CHAMPION, policy.uri)
    if record is None or record.handle_type != Policy.__name__:
        return policy
    trained = Policy(uri=policy.uri, **record.handle)
    return trained if trained.files == policy.digest else policy


def _last_judged(client: MlflowClient, recipe: Recipe) -> str | None:
    """The registered model in which a run with such a judge was registered last; the data may have changed since."""
    experiment = client.get_experiment_by_name(store.EXPERIMENT)
    if experiment is None:
        return None
    tags = {track.JUDGING: judging_digest(recipe), "racro.recipe_digest": recipe_digest(recipe)}
    versions = [
        version
        for tag, value in tags.items()
        for run in client.search_runs([experiment.experiment_id], f"tags.`{tag}` = '{value}'")
        for version in client.search_model_versions(f"run_id = '{run.info.run_id}'")
    ]
    newest = max(versions, key=lambda version: version.creation_timestamp, default=None)
    return newest.name if newest else None


def _of_run(name: str, root: str) -> Policy | None:
    """The policy that a run ended with, or that an evaluation was about. None where there is no such run.

    Raises NoPolicy for a run that has not ended, or has none.
    """
    try:
        summary = json.loads(artifacts.read_file(layout.summary(root, name)))
    except FileNotFoundError:
        if runs.holder(root, name) is None:
            return None
        raise NoPolicy(
            f"policy {name}: this run has no policy yet: it is under way, was stopped or failed; its command "
            f"goes on where it was; or give {KINDS}"
        ) from None
    except (layout.BadName, ValueError):
        return None
    if not isinstance(summary, dict):
        return None
    made = summary.get("policy")
    if made is None:
        raise NoPolicy(f"policy {name}: this run has no policy of its own; name a training, or a sweep's child")
    _, known, below = made["uri"].rpartition(f"/{layout.ARTIFACTS}/")  # the root may have been moved since
    here = f"{root}/{layout.ARTIFACTS}/{below}"
    place = here if known and artifacts.known_record(here) else made["uri"]
    return _in(place) or _gone(name, place)


def _by_digest(beginning: str, root: str) -> Policy | None:
    """A checkpoint under the root. None where none begins so."""
    if not DIGEST.fullmatch(beginning):
        return None
    found = {one.policy: one.folder for one in retention.find(root) if one.policy.startswith(beginning)}
    if len(found) > 1:
        raise NoPolicy(f"policy {beginning}: {len(found)} checkpoints under {root} begin so; give more digits")
    return next((_in(folder) or _gone(beginning, folder) for folder in found.values()), None)


def _gone(which: str, uri: str) -> NoReturn:
    raise NoPolicy(
        f"policy {which}: its files are not there any more ({uri}); the command of its run makes them again, or "
        f"give {KINDS}"
    )


def _no_policy(which: str) -> NoReturn:
    raise NoPolicy(f"policy {which}: no policy is there; give {KINDS}")


def _in(uri: str) -> Policy | None:
    """The policy in a folder: one that was trained here, by its record, or any model folder."""
    folder = layout.absolute(uri)
    record = artifacts.known_record(folder)
    if record is not None and record.handle_type == Policy.__name__:
        return Policy(uri=artifacts.files_of(folder, record), **record.handle)
    if record is None and "://" not in folder and Path(folder).is_dir():
        try:
            require_model(Path(folder), "captioner")
            return Policy(uri=folder, rows=0, digest=model_digest(Path(folder)))
        except ModelNotFound:
            pass
    return None
