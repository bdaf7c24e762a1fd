"""What may run at the same time follows from where engines and trainer are; the line names what to change."""

from __future__ import annotations

import pytest

from flows.captions import _groups
from flows.cli.checks import placement
from racro.config import loading
from racro.rewards import places

LAG = "rollout.lag=1"
WORKERS = ("runtime.captioner.worker=true", "runtime.reasoner.worker=true")
MODELS = "judges={judge: {model: embedded}, eye: {model: embedded, sees: image}}"
REWARDS = (
    "rewards=[{type: answer}, {type: describes, gate: answer}, {type: length, limit: 9, budget: 5}, "
    "{type: facts, judge: judge}, {type: python, function: 'tests.support.asked:nothing', version: 1}]"
)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ((), "the engine of the captioner runs in the trainer's process; set worker: true in runtime.captioner, or"),
        (WORKERS[:1], "the engine of the reasoner runs in the trainer's process"),
        (("objective=answer", *WORKERS[:1]), None),
        (WORKERS, None),
        (("runtime.trainer.processes=1",), None),
        (("captioner.engine={type: vllm}", "reasoner.engine={type: server}"), None),
        ((*WORKERS, MODELS, REWARDS), "the engine of the judges.judge runs in the trainer's process"),
        ((*WORKERS, MODELS, REWARDS, "runtime.judges.judge.worker=true"), "the function of the reward python runs in"),
        ((MODELS, REWARDS, "runtime.trainer.processes=1"), None),
    ],
)
def test_captions_are_made_beside_the_update_where_nothing_shares_its_process(
    overrides: tuple[str, ...], says: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("racro.models.devices.shutil.which", lambda name: None)
    recipe = loading.load("embedded", [LAG, *overrides])
    found = places.hindrance(recipe)
    assert (found is None) if says is None else (found or "").startswith(says), found
    [(name, line)] = placement.overlap(recipe).items()
    assert name == "overlap" and line.state == ("ok" if says is None else "note")
    assert placement.overlap(loading.load("embedded", overrides)) == {}


def test_engines_on_the_trainer_s_gpu_take_turns_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("racro.models.devices.shutil.which", lambda name: "/usr/bin/nvidia-smi")
    apart = ["runtime.trainer.gpus=[0]", "runtime.captioner={gpus: [1], worker: true}"]
    reasoner = "runtime.reasoner={{gpus: [{}], worker: true}}"
    found = places.hindrance(loading.load("embedded", [LAG, *apart, reasoner.format(0)]))
    assert found and found.startswith("the engine of the reasoner and the trainer take turns on a GPU; give them")
    assert places.hindrance(loading.load("embedded", [LAG, *apart, reasoner.format(2)])) is None


def test_rewards_whose_engines_are_outside_are_made_side_by_side_and_gates_come_first() -> None:
    def titles(*overrides: str) -> list[list[str]]:
        recipe = loading.load("embedded", [MODELS, REWARDS, *overrides])
        return [[reward.title for reward in group] for group in _groups(recipe)]

    alone = [["answer"], ["length"], ["facts"], ["python"], ["describes"]]
    assert titles() == alone
    judge = "runtime.judges.judge.worker=true"
    assert titles(*WORKERS, judge) == [["length"], ["python"], ["answer", "facts"], ["describes"]]
    assert titles(*WORKERS) == [["length"], ["facts"], ["python"], ["answer"], ["describes"]]
