"""The nouns of RACRO. Reading starts here.

Rows (what a parquet file holds) and handles (what travels between stages: where a table is, how many rows, its digest).
No logic, no torch, no I/O. Everybody imports this package; it imports nothing of the project.

Shapes, used in comments everywhere: P problems, G captions per problem (the group), T tokens of a caption.
"""

from racro.schema.handles import (
    CHAMPION,
    EntryTable,
    FingerprintTable,
    FrozenModel,
    Handle,
    Parity,
    Policy,
    ProblemTable,
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
