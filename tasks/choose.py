"""Which policy is meant: the best so far, the one a training starts with, or one by its folder.

Called by the flows that use a policy without training one.
"""

from __future__ import annotations

import os

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from prefect import task
from prefect.cache_policies import NO_CACHE

from racro.config import Recipe
from racro.errors import BadInput
from racro.schema import CHAMPION, Policy
from racro.storage.artifacts import known_record, read_record
from tasks.answer import champion
from tasks.prepare import adopt_captioner
from tasks.recording.track import Judge, registered_name

INITIAL = "initial"


class NoPolicy(BadInput):
    """No policy is where one was said to be."""


@task(cache_policy=NO_CACHE, persist_result=False)
def choose(which: str, recipe: Recipe, judge: Judge | None) -> Policy:
    """The policy. Raises NoPolicy, NoChampion.

    The champion is the best of those that `judge` compared; where there are none of them, the best of all, if there is
    one and no more.
    """
    if which == INITIAL:
        return adopt_captioner.fn(recipe.captioner, recipe.runtime)
    if which == CHAMPION:
        try:
            assert judge is not None
            version = MlflowClient().get_model_version_by_alias(registered_name(judge), CHAMPION)
        except MlflowException:
            return _as_trained(champion({}))
        return _as_trained(Policy(uri=version.tags["racro.policy_uri"], rows=0, digest=version.tags["racro.policy"]))
    folder = which if "://" in which else os.path.abspath(which)
    record = read_record(folder)
    if record is None or record.handle_type != Policy.__name__:
        raise NoPolicy(
            f"policy: {which}: no policy is there; give `{CHAMPION}`, `{INITIAL}` or a folder with record.json"
        )
    return Policy(uri=folder, **record.handle)


def _as_trained(policy: Policy) -> Policy:
    """The policy as its training knew it, with its step: then the evaluations of both share a cache."""
    record = known_record(policy.uri)
    known = record is not None and record.handle_type == Policy.__name__ and record.handle["digest"] == policy.digest
    return Policy(uri=policy.uri, **record.handle) if record is not None and known else policy
