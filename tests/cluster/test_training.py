"""A training on a cluster whose nodes are killed makes the policy that it makes on one machine, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file

from flows.training import train
from racro.config import loading
from racro.engines.balanced import Balanced
from racro.engines.protocol import Generation, Refusal
from racro.engines.worker.client import Worker
from racro.summary import Summary
from racro.training.service import Processes
from tests.cluster.conftest import Nodes
from tests.conftest import EMBEDDED_RECIPE, TINY

SETTINGS = (
    *TINY,
    *("problems.count=32", "rollout.problems=6", "update.mini_batch=3", "evaluation.problems=8"),
    "runtime.device=cpu",
    # Each prompt alone: in another batch, log-probs of captions differ by 1e-6, and what is lost changes the batches.
    "runtime.caption_batch=1",
)


def trained(root: Path, name: str, *overrides: str) -> Summary:
    return train(loading.load(EMBEDDED_RECIPE, [*SETTINGS, *overrides]), run=name, root=str(root))


def weights(summary: Summary) -> dict[str, torch.Tensor]:
    return load_file(Path(summary.policy.uri) / "model.safetensors")


@pytest.mark.usefixtures("prefect_server")
def test_nodes_that_are_lost_in_caption_and_update_cost_seconds_and_nothing_else(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, update = Balanced.generate, Processes.update
    lost: list[str] = []
    updates: list[int] = []

    def cut_off(engine: Balanced, requests: Any) -> Iterator[Generation | Refusal]:
        worker = cast(Worker, engine.engines[0])
        for answer in generate(engine, requests):
            group = isinstance(answer, Generation) and len(answer.completions) > 1
            if not lost and group and worker.role == "captioner":  # in the stage caption
                assert nodes.kill(worker.machine.id)  # type: ignore[attr-defined]
                lost.append("caption")
            yield answer

    def interrupted(service: Processes, *arguments: Any) -> dict[str, float]:
        updates.append(len(updates))
        if len(updates) == 2:  # then there is a state to go on from
            nodes.add()  # for those that the next one takes with it
            assert nodes.kill(service.machines[0].id)  # type: ignore[attr-defined]
            lost.append("update")
        return update(service, *arguments)

    here = trained(tmp_path / "here", "here")
    monkeypatch.setattr(Balanced, "generate", cut_off)
    monkeypatch.setattr(Processes, "update", interrupted)
    away = nodes.settings(resources={"captioner": {"spare": 0.01}, "trainer": {"spare": 0.01}})
    more = [f"runtime.cluster={json.dumps(away)}", "runtime.reasoners={embedded: {data_parallel: 2}}"]
    there = trained(tmp_path / "there", "there", *more)
    assert lost == ["caption", "update"] and len(updates) == 3, "both were lost, and one update was taken again"
    one, other = weights(here), weights(there)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert there.final == here.final and there.optimizer_steps == here.optimizer_steps > 1
    assert there.stages["caption"].executed == here.stages["caption"].executed


@pytest.mark.usefixtures("prefect_server")
def test_two_ranks_on_two_nodes_make_the_policy_of_two_processes_here(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[list[str]] = []
    update = Processes.update

    def seen(service: Processes, *arguments: Any) -> dict[str, float]:
        places.append([machine.id for machine in service.machines])  # type: ignore[attr-defined]
        return update(service, *arguments)

    pair = ("iterations=1", "evaluation.every=1", "runtime.trainer={processes: 2, shard: fsdp}")
    here = trained(tmp_path / "here", "here", *pair)
    monkeypatch.setattr(Processes, "update", seen)
    nodes.spare(2)
    away = nodes.settings(resources={"trainer": {"spare": 0.6}})  # of 1 that a node has
    more = ("runtime.device=auto", f"runtime.cluster={json.dumps(away)}")  # no node has a GPU
    there = trained(tmp_path / "there", "there", *pair, *more)
    assert [len(set(pair)) for pair in places] == [2]
    one, other = weights(here), weights(there)
    assert max((one[name] - other[name]).abs().max().item() for name in one) < 1e-6
    assert there.optimizer_steps == here.optimizer_steps > 0
