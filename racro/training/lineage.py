"""What a trained policy was made from: enough to make it again under its root, without asking a model.

Beside each policy lies `lineage.json`. Between two states of the trainer that were kept, policies are replayed from
their scored rollouts. Written by the stage update, read by `tasks.running.trainer`. Torch-free.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from racro import config as recipes
from racro.errors import BadInput
from racro.schema import Policy, ProblemTable, ScoredTable
from racro.storage import artifacts, layout

ROOT = "{root}"
"""Stands in the file for the root, which may be moved or copied."""


class NoLineage(BadInput):
    """A policy that cannot be made again."""


class Lineage(BaseModel):
    """The inputs of an update."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Policy
    """The one before."""
    scored: ScoredTable
    problems: ProblemTable
    initial: Policy
    captioner: recipes.Captioner
    temperature: float
    config: recipes.UpdateSettings
    seed: int
    objective: recipes.Objective = "caption"
    """What the policy was asked for."""
    writer: Policy | None = None
    """The policy that wrote the captions, if it is an earlier one than `policy` (`rollout.lag`)."""

    def write(self, folder: str, root: str) -> None:
        """Put it beside a policy. Handles below the root are named relative to it."""
        content = self.model_dump_json(indent=1).replace(f'"{root}/', f'"{ROOT}/')
        artifacts.write_file(f"{folder}/{layout.LINEAGE}", content.encode())

    @classmethod
    def read(cls, policy: Policy) -> Lineage:
        """Of a trained policy. Raises NoLineage."""
        root = policy.uri.rpartition(f"/{layout.ARTIFACTS}/")[0]
        try:
            text = artifacts.read_file(f"{policy.uri}/{layout.LINEAGE}").decode()
        except FileNotFoundError as error:
            raise NoLineage(
                f"{policy.uri}: the model's files are not there, and no {layout.LINEAGE} that says how to make it "
                "again; delete what is left of the folder, and the command of its run makes it again"
            ) from error
        return cls.model_validate_json(text.replace(ROOT, root))
