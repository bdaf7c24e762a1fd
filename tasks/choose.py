"""Which policy is meant: the best so far, the one a training starts with, or one by its folder.

Called by the flows that use a policy without training one.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from prefect import task
from prefect.cache_policies import NO_CACHE

from racro.config import Recipe
from racro.errors import BadInput
from racro.schema import CHAMPION, FrozenModel, Policy, ProblemTable
from racro.storage.artifacts import read_record
from tasks.answer import champion
from tasks.prepare import adopt_captioner
from tasks.recording import track

INITIAL = "initial"


class NoPolicy(BadInput):
    """No policy is where one was said to be."""


class Judge(NamedTuple):
    """By what the policies of a recipe are compared."""

    reasoner: FrozenModel
    heldout: ProblemTable


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
            version = MlflowClient().get_model_version_by_alias(track.registered_name(*judge), CHAMPION)
        except MlflowException:
            return champion({})
        return Policy(uri=version.tags["racro.policy_uri"], rows=0, digest=version.tags["racro.policy"])
    folder = which if "://" in which else os.path.abspath(which)
    record = read_record(folder)
    if record is None or record.handle_type != Policy.__name__:
        raise NoPolicy(
            f"policy: {which}: no policy is there; give `{CHAMPION}`, `{INITIAL}` or a folder with record.json"
        )
    return Policy(uri=folder, **record.handle)
