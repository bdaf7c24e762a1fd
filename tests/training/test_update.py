"""The GRPO update: what it must do, and a test for each way in which it could silently go wrong."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from racro import config
from racro.data import problems
from racro.engines.local.transformers import TransformersEngine
from racro.models.folders import EMBEDDED, TRAINER, model_digest
from racro.rollouts import captioner
from racro.schema import Problem, ScoredRollout
from racro.training import failures, planning, state, trainer
from tests.support.scoring import rescored, scored
from tests.support.updating import optimizer_state, update

INITIAL = EMBEDDED / "captioner"
RUNTIME = config.Runtime(device="cpu", gradient_checkpointing=False)
SETTINGS = config.UpdateSettings(learning_rate=5e-4, beta=0.01, mini_batch=4, weight_decay=0.0, max_logprob_gap=1e-3)
G = 4


class World:
    """Eight problems of every category and rollouts of any policy for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        pool = problems.load(config.EmbeddedProblems(count=40), str(folder), seed=0).problems
        two = [p for p in pool if len(p.images) == 2][:3]
        self.problems = {p.uid: p for p in [*two, *[p for p in pool if len(p.images) == 1][:5]]}

    def rollouts(self, policy: Path, iteration: int = 0) -> list[ScoredRollout]:
        """Captions of `policy`, rewarded for length: any signal will do here."""
        engine = TransformersEngine.captioner(str(policy), "float32", "cpu", 8)
        settings = config.RolloutSettings(problems=8, group_size=G, max_tokens=24)
        chosen: list[Problem] = list(self.problems.values())
        made = captioner.caption(
            chosen, str(self.folder), model_digest(policy), engine, settings, 0, iteration, deadline=600
        )
        rows = captioner.in_order(list(made), chosen)
        return scored(rows, [float(len(row.completion_ids) % 2) for row in rows])

    def update(
        self, rollouts: list[ScoredRollout], policy: Path, out: Path, step: int, **changes: Any
    ) -> dict[str, float]:
        settings = SETTINGS.model_copy(
            update={k: v for k, v in changes.items() if k in config.UpdateSettings.model_fields}
        )
        work = planning.plan(rollouts, self.problems, rollouts[0].policy, settings.mini_batch)
        return update(
            work,
            images_base=str(self.folder),
            policy=policy,
            initial=changes.get("initial", INITIAL),
            out=out,
            step=step,
            captioner=changes.get("captioner", config.Captioner(model="embedded", dtype="float32")),
            temperature=1.0,
            config=settings,
            runtime=RUNTIME,
            seed=0,
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("problems"))


@pytest.fixture(scope="module")
def first(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, int, list[ScoredRollout], dict[str, float]]:
    """Policy after one update, its step, the rollouts that made it, its metrics."""
    rollouts = world.rollouts(INITIAL)
    out = tmp_path_factory.mktemp("policy-1")
    metrics = world.update(rollouts, INITIAL, out, step=0)
    return out, int(metrics["steps"]), rollouts, metrics


def weights(policy: Path) -> dict[str, torch.Tensor]:
    return load_file(policy / "model.safetensors")


def apart(a: Path, b: Path) -> float:
    one, other = weights(a), weights(b)
    return max((one[name] - other[name]).abs().max().item() for name in one)


def test_engine_and_trainer_agree_on_logprobs_of_one_and_two_image_prompts(first: Any) -> None:
    metrics = first[3]
    assert metrics["logprob_gap"] < 1e-4
    assert metrics["importance_ratio"] == pytest.approx(1.0, abs=1e-3)


def test_the_update_moves_the_policy_and_keeps_its_processor(first: Any) -> None:
    policy = first[0]
    assert apart(INITIAL, policy) > 1e-5
    for name in ("tokenizer.json", "chat_template.jinja", "preprocessor_config.json"):
        assert (policy / name).read_bytes() == (INITIAL / name).read_bytes()
    assert (policy / "model.safetensors").stat().st_mode == (policy / "config.json").stat().st_mode, (
        "one root, many users"
    )


def test_the_next_update_starts_from_the_policy_not_from_the_initial_weights(
    world: World, first: Any, tmp_path: Path
) -> None:
    """Silent failure 1: a non-strict resume keeps the initial weights; the log-prob gap shows it."""
    policy, step, old_rollouts, _ = first
    metrics = world.update(world.rollouts(policy, 1), policy, tmp_path / "next", step)
    assert metrics["logprob_gap"] < 1e-4
    with pytest.raises(failures.LogprobMismatch, match="max_logprob_gap"):
        world.update(old_rollouts, policy, tmp_path / "stale", step, max_logprob_gap=1e-6)
    assert not (tmp_path / "stale" / "model.safetensors").exists()


def test_the_kl_is_to_the_initial_model(world: World, first: Any, tmp_path: Path) -> None:
    """Silent failure 2: with the current policy as reference the KL of the first step is 0 for ever."""
    policy, step, _, _ = first
    rollouts = world.rollouts(policy, 1)
    still = {"learning_rate": 0.0}
    to_initial = world.update(rollouts, policy, tmp_path / "a", step, **still)["kl"]
    to_itself = world.update(rollouts, policy, tmp_path / "b", step, initial=policy, **still)["kl"]
    assert to_itself == pytest.approx(0.0, abs=1e-7)
    assert to_initial > 1e-5


def test_the_side_on_which_a_processor_pads_does_not_matter(
    world: World, first: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """Silent failure 3: fields of the prompts' tokens must stand where the stored prompts have those tokens."""
    load = trainer.load_processor

    def right(folder: Path, *more: Any) -> Any:
        processor = load(folder, *more)
        processor.tokenizer.padding_side = "right"
        return processor

    monkeypatch.setattr(trainer, "load_processor", right)
    world.update(first[2], INITIAL, tmp_path / "out", 0)
    assert model_digest(tmp_path / "out") == model_digest(first[0])


def test_a_tokenizer_that_cuts_otherwise_is_refused(world: World, first: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Silent failure 4: a tokenizer class with another pre-tokenizer gives other ids for the same prompt."""
    load = trainer.load_processor

    def other(folder: Path, *more: Any) -> Any:
        from tokenizers.pre_tokenizers import ByteLevel

        processor = load(folder, *more)
        processor.tokenizer.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True, use_regex=False)
        return processor

    monkeypatch.setattr(trainer, "load_processor", other)
    with pytest.raises(planning.BadRollouts, match="tokenises the prompt"):
        world.update(first[2], INITIAL, tmp_path / "out", 0)


def test_rollouts_without_signal_are_an_error_not_zero_steps(world: World, first: Any, tmp_path: Path) -> None:
    """Silent failure 5: too few groups would be zero steps and exit 0."""
    alike = scored(first[2], [1.0] * len(first[2]))
    with pytest.raises(planning.BadRollouts, match="no informative group"):
        world.update(alike, INITIAL, tmp_path / "out", 0)


def test_optimizer_and_schedule_go_on_where_they_were(world: World, first: Any, tmp_path: Path) -> None:
    """Silent failures 1 and 6: a fresh optimizer or a schedule that starts over would pass unnoticed."""
    rollouts = world.rollouts(INITIAL)
    warm = {"warmup_steps": 50}
    one = world.update(rollouts, INITIAL, tmp_path / "1", 0, **warm)
    done = int(one["steps"])
    two = world.update(world.rollouts(tmp_path / "1", 1), tmp_path / "1", tmp_path / "2", done, **warm)
    assert two["learning_rate"] > one["learning_rate"]
    assert {int(entry["step"]) for entry in optimizer_state(tmp_path / "2").values()} == {done + int(two["steps"])}


def test_a_policy_without_its_trainer_state_cannot_be_trained_further(world: World, first: Any, tmp_path: Path) -> None:
    policy, step, _, _ = first
    shutil.copytree(policy, tmp_path / "bare", ignore=shutil.ignore_patterns(TRAINER))
    with pytest.raises(state.BadState, match=r"trainer's state cannot be read"):
        world.update(world.rollouts(policy, 1), tmp_path / "bare", tmp_path / "out", step)


def test_same_rollouts_same_policy_whatever_the_process_did_before(world: World, first: Any, tmp_path: Path) -> None:
    torch.manual_seed(987)
    torch.rand(7)
    world.update(first[2], INITIAL, tmp_path / "again", 0)
    assert model_digest(tmp_path / "again") == model_digest(first[0])


def test_an_unscored_caption_teaches_nothing(world: World, first: Any, tmp_path: Path) -> None:
    rollouts = list(first[2])
    trained = planning.plan(rollouts, world.problems, rollouts[0].policy, SETTINGS.mini_batch).groups
    rich = {g.problem.uid for g in trained if sum(r.reward or 0 for r in g.rollouts) > 1}  # stays informative
    odd = next(i for i, r in enumerate(rollouts) if r.uid in rich and r.reward == 1.0 and len(r.completion_ids) > 3)
    rollouts = rescored(rollouts, {odd: None})
    ids = rollouts[odd].completion_ids
    other = rollouts[odd].model_copy(update={"completion_ids": (*ids[:-2][::-1], *ids[-2:])})
    changed = [*rollouts[:odd], other, *rollouts[odd + 1 :]]
    world.update(rollouts, INITIAL, tmp_path / "a", 0, max_logprob_gap=1.0)
    world.update(changed, INITIAL, tmp_path / "b", 0, max_logprob_gap=1.0)
    assert apart(tmp_path / "a", tmp_path / "b") < 1e-7
    assert apart(tmp_path / "a", first[0]) > 1e-7


def test_a_plan_drops_groups_without_signal_and_makes_equal_steps(world: World, first: Any) -> None:
    rollouts = first[2]
    uids = list(world.problems)
    flat = rescored(rollouts, {place: 0.0 for place, row in enumerate(rollouts) if row.uid == uids[0]})
    for mini_batch in range(1, 9):
        work = planning.plan(flat, world.problems, flat[0].policy, mini_batch)
        assert work.total_groups == 8
        assert work.zero_variance >= 1
        assert len(work.groups) + work.zero_variance + work.left_over == work.total_groups
        assert len(work.groups) % work.steps == 0
        assert work.left_over < work.steps
        assert uids[0] not in [group.problem.uid for group in work.groups]
