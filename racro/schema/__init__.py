"""Which nouns are there? Rows of tables, and handles to artifacts. Reading starts here.

A row is what a parquet file holds. A handle is what travels between stages: where an artifact is, how many rows it has,
its digest. No logic, no torch, no I/O. Every other package may import this one; it imports nothing of the project.

Shapes in docstrings and comments: P problems, G captions per problem (the group), T tokens of a caption.
"""

from racro.schema.handles import (
    CHAMPION,
    INITIAL,
    EntryTable,
    FingerprintTable,
    FrozenModel,
    Handle,
    Parity,
    Policy,
    ProblemTable,
    PromptReader,
    QuestionPart,
    QuestionTable,
    ResultTable,
    RolloutTable,
    ScoredTable,
    WritingTable,
)
from racro.schema.problems import AnswerKind, DroppedRow, Fingerprint, Gold, ImageRef, Label, Overlap, Problem, Question
from racro.schema.results import Entry, Metric, Mode, ModelOutput, Result
from racro.schema.rollouts import FinishReason, Rollout, ScoredRollout, Verdict
from racro.schema.row import Frozen, Row
from racro.schema.shares import Share

__all__ = [
    "CHAMPION",
    "INITIAL",
    "AnswerKind",
    "DroppedRow",
    "Entry",
    "EntryTable",
    "Fingerprint",
    "FingerprintTable",
    "FinishReason",
    "Frozen",
    "FrozenModel",
    "Gold",
    "Handle",
    "ImageRef",
    "Label",
    "Metric",
    "Mode",
    "ModelOutput",
    "Overlap",
    "Parity",
    "Policy",
    "Problem",
    "ProblemTable",
    "PromptReader",
    "Question",
    "QuestionPart",
    "QuestionTable",
    "Result",
    "ResultTable",
    "Rollout",
    "RolloutTable",
    "Row",
    "ScoredRollout",
    "ScoredTable",
    "Share",
    "Verdict",
    "WritingTable",
]
