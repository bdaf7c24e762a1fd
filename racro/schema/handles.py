"""Handles: where an artifact lies, how many rows it has, its digest. They travel between stages."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Handle(BaseModel):
    """Where an artifact is and what it holds. Small enough to travel as a task's result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    """Folder of the artifact: its shards or files, and `record.json`, written last."""
    rows: int
    digest: str
    """Digest of the content (never of its place): the identity of everything computed from it."""


class ProblemTable(Handle):
    """Rows: Problem."""

    dropped: int = 0


class QuestionTable(Handle):
    """Rows: Question."""

    dropped: int = 0


class FingerprintTable(Handle):
    """Rows: Fingerprint, of one benchmark."""


class QuestionPart(Handle):
    """Consecutive rows of a table of questions or problems, at its uri; the unit that an evaluation computes.

    The digest covers the rows and their images' content, not where the images lie.
    """

    start: int


class WritingTable(Handle):
    """Rows: ModelOutput, k to a question, in the order of the part's questions."""


class ResultTable(Handle):
    """Rows: Result, k to a question, of one benchmark, mode and reasoner."""


class EntryTable(Handle):
    """Rows: Entry, one of them."""


class RolloutTable(Handle):
    """Rows: Rollout, P x G of them, grouped by problem."""


class ScoredTable(Handle):
    """Rows: ScoredRollout, in the order of the rollouts."""


class Policy(Handle):
    """A captioner: a Hugging Face model folder. `rows` is 0.

    The digest covers the weights, the configuration and the processor.
    """

    step: int = 0
    """Optimizer steps taken since the initial policy."""
    trainer_digest: str | None = None
    """Digest of optimizer, schedule and RNG state; None for the initial policy."""


CHAMPION = "champion"
"""Alias of the best policy so far."""


class FrozenModel(Handle):
    """The reasoner: a Hugging Face model folder. `rows` is 0."""


class Parity(Handle):
    """Engine and trainer were compared and agree. `rows` is the number of captions compared; there is no table."""
