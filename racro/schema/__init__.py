"""Which nouns are there? Rows of tables, and handles to artifacts. Reading starts here.

A row is what a parquet file holds. A handle is what travels between stages: where an artifact is, how many rows it has,
its digest. No logic, no torch, no I/O. Every other package may import this one; it imports nothing of the project.

Shapes in docstrings and comments: P problems, G captions per problem (the group), T tokens of a caption.
"""

from racro.schema.handles import (
    CHAMPION,
    INITIAL,
    EntryTable,
    Evaluation,
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
from racro.schema.results import Entry, Metric, Mode, Result, Writing
from racro.schema.rollouts import FinishReason, Judgement, Rollout, ScoredRollout, Verdict
from racro.schema.row import Row

__all__ = [
    "CHAMPION",
    "INITIAL",
    "AnswerKind",
    "DroppedRow",
    "Entry",
    "EntryTable",
    "Evaluation",
    "Fingerprint",
    "FingerprintTable",
    "FinishReason",
    "FrozenModel",
    "Gold",
    "Handle",
    "ImageRef",
    "Judgement",
    "Label",
    "Metric",
    "Mode",
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
    "Verdict",
    "Writing",
    "WritingTable",
]
