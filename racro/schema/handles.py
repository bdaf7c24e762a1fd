"""Handles to artifacts, which travel between stages: where an artifact is, how many rows it has, its digest."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Handle(BaseModel):
    """Where an artifact is and what it holds. Small enough to be the result of a task.

    Class names of handles are part of cache keys: do not rename them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    """Folder of the artifact: its shards or files, and `record.json`, which is written last."""
    rows: int
    """Number of rows in its table; 0 for artifacts that are no tables."""
    digest: str
    """Digest of the content, not of the place: what is computed from it is identified by it."""

    EVIDENCE: ClassVar[tuple[str, ...]] = ("uri", "rows")
    """Fields that are no part of the identity: they say where something is, or what came out."""

    @property
    def has_folder(self) -> bool:
        """False for what is known by its name alone: a model behind an endpoint, or a script."""
        return not self.uri.endswith(":")


class ProblemTable(Handle):
    """Rows: Problem."""

    dropped: int = 0
    """Number of source rows that became no problem."""


class QuestionTable(Handle):
    """Rows: Question."""

    dropped: int = 0
    """Number of source rows that became no question."""


class FingerprintTable(Handle):
    """Rows: Fingerprint, for one benchmark."""


class QuestionPart(Handle):
    """Consecutive rows of the table at `uri`: the unit in which an evaluation asks models.

    The digest covers the rows and the content of their images, not where the images are.
    """

    start: int
    """Number of the first row in the table."""


class WritingTable(Handle):
    """Rows: ModelOutput, k per question, in the order of the part's questions."""


class ShotTable(Handle):
    """Rows: Shot, in the order in which the reasoner reads them."""


class ResultTable(Handle):
    """Rows: Result, k per question, for one benchmark, mode and reasoner."""


class EntryTable(Handle):
    """Rows: Entry, exactly one."""


class StandingTable(Handle):
    """Rows: Standing. The problems of its round are those to be captioned."""

    round: int = 0


class PassRateTable(Handle):
    """Rows: PassRate, one for each problem."""


class RolloutTable(Handle):
    """Rows: Rollout, P x G, grouped by problem."""


class RewardTable(Handle):
    """Rows: RewardRow, of one kind of reward, in the order of the rollouts."""


class ScoredTable(Handle):
    """Rows: ScoredRollout, in the order of the rollouts."""


class Policy(Handle):
    """A captioner. `rows` is 0.

    `digest` names it: for the initial policy by its files (weights, configuration, processor), for a trained one by
    what it was made from (`racro.training.lineage`). So it is known what a policy is before anybody has its weights,
    and what was computed from it stays valid if it is made again, with rounding of another machine.
    """

    EVIDENCE: ClassVar[tuple[str, ...]] = ("uri", "rows", "weights", "trainer_digest")

    step: int = 0
    """Optimizer steps since the initial policy."""
    weights: str | None = None
    """Digest of a trained policy's files (weights, configuration, processor), as they came out."""
    trainer_digest: str | None = None
    """Digest of the trainer's state, which lies in the folder `trainer`; None if it was not kept."""

    @property
    def files(self) -> str:
        """Digest of the model folder's files."""
        return self.weights or self.digest


CHAMPION = "champion"
"""Alias, in MLflow's model registry, of the best policy so far."""
INITIAL = "initial"
"""The policy that a training starts with."""


class FrozenModel(Handle):
    """The reasoner: a Hugging Face model folder. `rows` is 0."""


class PromptReader(Handle):
    """How a model reads prompts: the tokenizer, chat template and image processor at `uri`. `rows` is 0."""

    room: int | None
    """Tokens that a prompt may have; None where the model names no limit."""
    template_kwargs: dict[str, Any] = {}
    """What its chat template is given beside the messages."""
    min_pixels: int | None = None
    max_pixels: int | None = None
    """Limits on the size of images; None: as its files say."""

    @model_serializer(mode="wrap")
    def _as_before(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Limits that are not set are no part of the identity, which is made of this."""
        unset = {name for name in ("min_pixels", "max_pixels") if getattr(self, name) is None}
        return {name: value for name, value in serialize(self).items() if name not in unset}


class Parity(Handle):
    """Evidence that engine and trainer agree. `rows` is the number of compared captions; there is no table."""
