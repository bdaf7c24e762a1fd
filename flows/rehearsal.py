"""A training gone through without running anything: which stages are on the root already, and which would run.

The same composition as in `flows.training`, on stages that look for their record and otherwise answer with a promise
of a result. What is computed from a promise would run too. Starts no engine, asks no server and loads no torch.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from prefect import Task

from flows.arms import evaluate_heldout
from flows.problems import problem_table
from flows.sampling import Batch, agreement, learning, sample, starting_point
from racro.config import JUDGES, EmbeddedProblems, ModelSection, Recipe
from racro.data.sources import BadSource
from racro.evaluation import parts as dividing
from racro.models.folders import ModelNotFound, model_digest, model_folder
from racro.planning import calls
from racro.planning.calls import Call
from racro.schedule import evaluated, rounds
from racro.schema import FrozenModel, Handle, Policy, ProblemTable, QuestionPart
from racro.storage import artifacts, layout
from racro.storage.files import exists
from tasks.running.policies import Identity, handle_of
from tasks.running.stages import Stages
from tasks.update import update

H = TypeVar("H", bound=Handle)

PROMISED = "promised:"
"""Uri of results that are not there, and the beginning of their digests."""
EVERYTHING_COUNTS = ("problems", "groups", "groups_informative", "captions", "chosen")
"""Counts of a promised result: no refill follows, and nothing is refused."""


class Models(NamedTuple):
    """Models as handles."""

    initial: Policy
    reasoner: FrozenModel
    judges: Mapping[str, FrozenModel]


class Rehearsal(Stages):
    """Stages that do not run."""

    def __init__(self, recipe: Recipe, root: str, told_apart: bool) -> None:
        """told_apart: do keys of calls that depend on promises have to tell equal ones from others?"""
        super().__init__(root, recipe.runtime)
        self.recipe, self.phase, self.told_apart = recipe, recipe.phases[0], told_apart
        self.calls: list[Call] = []
        self._kinds: dict[tuple[str, str, int], tuple[str, tuple[str, ...]]] = {}

    def run(self, task: Task[..., Any], run_name: str, returns: type[H], **inputs: Any) -> H:
        """The result that is on the root, or a promise."""
        assert isinstance(task.cache_policy, Identity)
        promised = any(handle.uri == PROMISED for handle in _handles([*inputs.values()]))
        if promised and not self.told_apart:
            key = f"{task.name} {len(self.calls)}"
        else:
            key = layout.artifact_key(task.name, task.cache_policy.digest(inputs))
        folder = f"{self.root}/{key}"
        record = None if promised else artifacts.known_record(folder)
        alike = (task.name, str(inputs.get("title")), id(self.phase))
        if alike not in self._kinds:
            known = task.cache_policy.determining(inputs)
            self._kinds[alike] = calls.kind(task.name, known), tuple(calls.opens(task.name, known).values())
        kind, opens = self._kinds[alike]
        units = self._units(task.name, inputs)
        self.calls.append(
            Call(
                part=calls.part(task.name, inputs.get("title")),
                stage=task.name,
                key=key,
                record=record,
                kind=kind,
                units=units,
                most=self._most(task.name, inputs),
                keeps=bool(inputs.get("keep")),
                saves=bool(inputs.get("save")),
                opens=opens,
            )
        )
        if record is None:
            return _promise(returns, key, units or 1)
        handle = handle_of(record, folder)
        assert isinstance(handle, returns)
        return handle

    def record(self, handle: Handle) -> artifacts.Record:  # type: ignore[override]
        """The record behind a handle; of a promise, one by which everything counts."""
        if handle.uri != PROMISED:
            return Stages.record(handle)
        return artifacts.Record(
            stage="",
            identity="",
            inputs={},
            code_version="",
            handle={},
            handle_type="",
            metrics=dict.fromkeys(EVERYTHING_COUNTS, 1.0) | {"unscored": 0.0},
            seconds=0.0,
            finished=0.0,
        )

    def _units(self, stage: str, inputs: Mapping[str, Any]) -> int | None:
        rollout = self.phase.rollout
        if stage in ("describe", "attempt"):
            return int(inputs["part"].rows)
        if stage == "answer":
            return int(inputs["part"].rows) * int(inputs["samples"])
        if stage in ("grade", "aggregate"):
            return sum(part.rows for part in inputs["parts"]) if stage == "grade" else 1
        if stage == "prepare":
            count = inputs["heldout"] or getattr(self.recipe.problems, "count", None)
            return None if count is None else int(count)
        if stage.startswith("reward-"):
            return int(inputs["rollouts"].rows)
        if stage in ("caption", "solve", "compose", "update"):
            at_hand = inputs["problems"].rows if inputs.get("problems") else 0
            problems = inputs["rollout"].problems if "rollout" in inputs else rollout.problems
            return min(problems, at_hand or problems) * rollout.group_size
        return None if stage in ("load", "fingerprint", "profile") else 8 if stage == "parity" else rollout.problems

    def _most(self, stage: str, inputs: Mapping[str, Any]) -> int | None:
        if "rollout" in inputs and stage != "parity":
            return int(inputs["rollout"].max_tokens)
        if stage in ("describe", "attempt"):
            return int(inputs["max_tokens"])
        asks = stage in ("answer", "reward-answer", "reward-confidence")
        return int(inputs["reasoner"].max_tokens) if asks and inputs.get("reasoner") else None


def rehearse(recipe: Recipe, root: str, models: Models | None = None, told_apart: bool = False) -> list[Call]:
    """All calls of stages of a training, in their order.

    models: as the training has adopted them; None: found here, without a download. told_apart: are the keys of calls
    that would run compared with those of another training? Raises BadInput.
    """
    stages = Rehearsal(recipe, layout.absolute(root), told_apart)
    initial, reasoner, judges = models or _models(recipe, stages.root)
    problems, heldout = _problems(recipe, stages, None), _problems(recipe, stages, recipe.evaluation.problems)
    parts = _parts(heldout, recipe.evaluation.problems)
    agreement(recipe, stages, problems, initial)
    policy, batch, ahead = initial, None, deque[Batch]()
    profile = None
    every = [*rounds(recipe)]
    for one, following in zip(every, [*every[1:], None], strict=True):
        stages.phase = one.phase
        if one.fresh:
            initial, batch = policy, None
            profile = starting_point(one.phase, stages, problems, initial, reasoner)
        if evaluated(recipe, one.number):
            evaluate_heldout(recipe, stages, policy, reasoner, parts, "")
        batch = ahead.pop() if ahead else sample(one, stages, problems, policy, reasoner, judges, batch, profile)
        before = policy
        policy = stages.run(
            update,
            "update",
            Policy,
            **learning(one, batch, problems, policy, initial),
            keep=evaluated(recipe, one.number + 1),
            save=one.save,
        )
        if following is not None and following.ahead:
            stages.phase = following.phase
            ahead.append(sample(following, stages, problems, before, reasoner, judges, batch, profile))
    evaluate_heldout(recipe, stages, policy, reasoner, parts, "")
    return stages.calls


def _handles(value: Any) -> Iterator[Handle]:
    """The handles among a stage's inputs."""
    if isinstance(value, Handle):
        yield value
    elif isinstance(value, tuple | list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _handles(inner)


def _promise(returns: type[H], key: str, rows: int = 1) -> H:
    return returns(uri=PROMISED, rows=0 if issubclass(returns, ProblemTable) else rows, digest=f"{PROMISED}{key}")


def _problems(recipe: Recipe, stages: Rehearsal, heldout: int | None) -> ProblemTable:
    try:
        return problem_table(recipe, stages, heldout)
    except (ModelNotFound, BadSource):
        if isinstance(recipe.problems, EmbeddedProblems):
            raise
        stages.calls.append(Call("preparation", "prepare", f"problems {heldout}", None, "", heldout))
        return _promise(ProblemTable, f"problems {heldout}")  # the training fetches them, or says what is missing


def _parts(heldout: ProblemTable, count: int) -> tuple[QuestionPart, ...]:
    if heldout.uri != PROMISED and artifacts.read_record(heldout.uri) is not None:
        return dividing.parts(heldout)
    full, rest = divmod(count, dividing.PART)
    sizes = [dividing.PART] * full + [rest] * (rest > 0)
    return tuple(
        QuestionPart(uri=PROMISED, rows=size, digest=f"{heldout.digest} {number}", start=number * dividing.PART)
        for number, size in enumerate(sizes)
    )


def _models(recipe: Recipe, root: str) -> Models:
    """The models that are on this machine; others as promises. Weights are digested only if something is cached."""
    anything = exists(f"{root}/{layout.ARTIFACTS}/prepare")

    def digest_of(role: str, config: ModelSection) -> str:
        if anything:
            with contextlib.suppress(ModelNotFound, OSError):
                return model_digest(model_folder(config.model, role, config.revision, sees=config.reads_images))
        return f"{PROMISED}{role}"

    def frozen(role: str) -> FrozenModel:
        config = recipe.roles[role]
        if config.engine.type == "scripted":
            return FrozenModel(uri="scripted:", rows=0, digest="scripted")
        if config.engine.type == "server" and recipe.runtime.place(role).urls:
            return FrozenModel(uri="endpoint:", rows=0, digest=f"endpoint:{config.model}")
        return known(FrozenModel, digest_of(role, config))

    def known(kind: type[H], digest: str) -> H:
        return kind(uri=PROMISED if digest.startswith(PROMISED) else "here", rows=0, digest=digest)

    initial = known(Policy, digest_of("captioner", recipe.captioner))
    judges = {role.removeprefix(JUDGES): frozen(role) for role in recipe.roles if role.startswith(JUDGES)}
    return Models(initial, frozen("reasoner"), judges)
