"""Calls of stages as a plan sees them: how much work each is, and which of them go at the same pace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from racro.config import JUDGES
from racro.identity import digest
from racro.storage.artifacts import Record

PACED: dict[str, tuple[str, ...]] = {
    "caption": ("captioner", "rollout.max_tokens", "rollout.temperature", "rollout.top_p"),
    "solve": ("captioner", "rollout.max_tokens", "rollout.temperature", "rollout.top_p"),
    "reward": ("settings", "captioner", "reasoner", "judges"),
    "update": ("captioner", "config.optimizer", "config.freeze"),
    "describe": ("captioner", "max_tokens"),
    "attempt": ("captioner", "max_tokens"),
    "answer": ("reasoner", "temperature", "mode"),
    "parity": ("captioner",),
    "prepare": ("problems_config.type", "problems_config.source"),
    "load": ("name",),
    "fingerprint": ("name",),
}
"""Inputs of stages on which the time for a unit of work depends: models, engines, lengths."""
CAPTION_STAGES = ("caption", "solve")
ASSESSING = ("describe", "attempt", "answer", "grade", "aggregate")
PREPARING = ("prepare", "load", "fingerprint", "parity", "profile")


TRAINER = "trainer"


class Call(NamedTuple):
    """One call of a stage in a training."""

    part: str
    """What it belongs to, for people: captions, reward NAME, update, evaluation."""
    stage: str
    key: str
    """Folder of its artifact below the root. For what depends on results that are not there yet it only tells equal
    calls from different ones."""
    record: Record | None
    """What it left on this root; None if it would run."""
    kind: str
    """Calls of one kind take the same time for each unit."""
    units: int | None
    """Captions, answers, problems, whatever its table has as rows; None: not known yet."""
    most: int | None = None
    """Tokens of a unit, at most; None if it writes none, or sets no limit."""
    keeps: bool = False
    """Of an update: is the model kept beside its record?"""
    saves: bool = False
    """Of an update: is the trainer's state written?"""
    opens: tuple[str, ...] = ()
    """Kinds of engines and trainers that it needs: the first call of a training that needs one opens it."""


def kind(stage: str, inputs: Mapping[str, Any]) -> str:
    """The kind of a call or a record. `inputs`: those that make up its identity, as a record has them."""
    paths = PACED.get(stage.partition("-")[0], ())
    return digest([stage, *(_at(inputs, path) for path in paths)])[:20]


def opens(stage: str, inputs: Mapping[str, Any]) -> dict[str, str]:
    """Engines and trainer that a stage needs: role -> kind. Those of a kind take the same time to open."""
    sections = {"captioner": inputs.get("captioner"), "reasoner": inputs.get("reasoner")}
    sections |= {f"{JUDGES}{name}": judge for name, judge in (inputs.get("judges") or {}).items()}
    if stage == "update":
        sections = {TRAINER: sections["captioner"]}
    return {role: digest([role, section])[:20] for role, section in sections.items() if section}


def part(stage: str, title: str | None = None) -> str:
    """Name of a part. `title`: the reward's."""
    if stage in CAPTION_STAGES or stage in ("select", "refer"):
        return "captions"
    if stage.startswith("reward-"):
        return f"reward {title}"
    if stage == "compose":
        return "advantages"
    if stage in ASSESSING:
        return "evaluation"
    return "preparation" if stage in PREPARING else stage


def _at(inputs: Mapping[str, Any], path: str) -> Any:
    value: Any = inputs
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
