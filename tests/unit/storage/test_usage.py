"""Removing a run takes what it alone used, and nothing that another run uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racro.identity import digest, fingerprint
from racro.schema import Policy, RolloutTable
from racro.storage import artifacts, usage
from racro.storage.usage import Artifact, Claim, Graph
from tests.support.examples import examples

Steps = tuple[str, ...]
"""Settings of a run's updates, in order: runs with a common beginning share its policies."""


class Used(NamedTuple):
    """A run, and what its flow asks for."""

    steps: Steps
    artifacts: frozenset[Artifact]

    @property
    def claim(self) -> Claim:
        return Claim(frozenset([f"weights of {self.steps}"] if self.steps else []))


def made(stage: str, name: str, *inputs: Artifact, policy: str = "", training: str = "") -> Artifact:
    return Artifact(f"{stage}/{name}", stage, f"{stage} {name}", frozenset(i.made for i in inputs), 1, policy, training)


def run(steps: Steps) -> Used:
    """As `flows.training` does it: captions of each policy, their rewards, the next policy; answers of some."""
    problems, heldout = made("prepare", "training"), made("prepare", "heldout")
    found, policy = [problems, heldout], []
    for number in range(len(steps) + 1):
        here = steps[:number]
        if number in (0, len(steps)) or number % 2 == 0:
            described = made("describe", str(here), *policy)
            found += [described, made("grade", str(here), made("answer", str(here), described))]
            found.append(made("answer", str(here), described))
        if number < len(steps):
            caption = made("caption", str(here), problems, *policy)
            scored = made("compose", str(here), made("reward-answer", str(here), caption), caption)
            after = steps[: number + 1]
            training = steps[number]
            trained = made(
                "update", str(after), scored, problems, *policy, policy=f"weights of {after}", training=training
            )
            found += [caption, made("reward-answer", str(here), caption), scored, trained]
            policy = [trained]
    return Used(steps, frozenset(found))


def trained(one: Artifact) -> bool:
    """Does a trained policy stand behind it?"""
    return one.stage == "update" or not one.folder.endswith(("()", "training", "heldout"))


RUNS = st.lists(st.lists(st.sampled_from("ab"), max_size=4).map(tuple), min_size=2, max_size=5, unique=True)


@settings(max_examples=examples(60))
@given(RUNS, st.data())
def test_what_goes_is_what_this_run_alone_used(runs: list[Steps], data: st.DataObject) -> None:
    gone, *others = map(run, runs)
    graph = Graph(data.draw(st.permutations(sorted({a for one in (gone, *others) for a in one.artifacts}, key=str))))
    removed = {*graph.removable(gone.claim, [one.claim for one in others], ())}
    used = frozenset().union(*(one.artifacts for one in others))
    assert not removed & used
    theirs = {str(one.steps[:length]) for one in others for length in range(len(one.steps) + 1)}
    assert removed == {one for one in gone.artifacts if trained(one) and one.folder.partition("/")[2] not in theirs}
    champion = data.draw(st.sampled_from(sorted(one.policy for one in graph.artifacts if one.policy) or [""]))
    kept = {one for one in graph.artifacts if one.policy == champion and champion}
    assert {*graph.removable(gone.claim, [one.claim for one in others], {champion})} == removed - kept


@settings(max_examples=examples(30))
@given(RUNS)
def test_with_the_last_run_everything_goes_and_an_unknown_claim_keeps_everything(runs: list[Steps]) -> None:
    used = [run(steps) for steps in runs]
    graph = Graph(sorted({a for one in used for a in one.artifacts}, key=str))
    assert graph.removable(usage.together([one.claim for one in used]), [], ()) == graph.artifacts
    assert graph.removable(used[0].claim, [Claim(unknown=True)], ()) == []


def test_an_unfinished_training_keeps_every_policy_that_it_may_need() -> None:
    first, second = run(("a", "b", "b")), run(("a", "c"))
    graph = Graph(sorted(first.artifacts | second.artifacts, key=str))
    unfinished = Claim(trainings=frozenset("c"))
    removed = graph.removable(first.claim, [unfinished], ())
    assert {one.folder for one in removed if one.stage == "update"} == {"update/('a', 'b')", "update/('a', 'b', 'b')"}
    assert graph.claimed(Claim(folders=frozenset(["('a',)"]))) >= {"update/('a',)", "caption/('a',)"}


def test_a_chain_as_long_as_a_training_is_followed() -> None:
    chain: list[Artifact] = [made("update", "0", policy="0")]
    for number in range(3000):
        chain.append(made("select", str(number), chain[-1]))
    graph = Graph(chain)
    assert len(graph.claimed(Claim(frozenset("0")))) == 3001


@pytest.fixture
def root(tmp_path: Path) -> Iterator[str]:
    """A policy and captions of it, as stages write them."""
    policy = Policy(uri="", rows=0, digest="made", weights="w", step=3)
    inputs = dict.fromkeys(("captioner", "temperature", "config", "seed"), 0)
    table = RolloutTable(uri="", rows=1, digest="t")
    for stage, handle, more in (("update", policy, inputs), ("caption", table, {"policy": policy, "deep": [{"x": 1}]})):
        folder = f"{tmp_path}/artifacts/{stage}/{stage}-folder"
        artifacts.write_file(f"{folder}/attempt-00000000-00000000/file", b"x" * 100)
        record = artifacts.Record(
            stage=stage,
            identity=stage,
            inputs={key: fingerprint(value) for key, value in more.items()},
            code_version="",
            handle=handle.model_dump(exclude={"uri"}),
            handle_type=type(handle).__name__,
            place="attempt-00000000-00000000",
            seconds=0,
            finished=0,
        )
        artifacts.write_file(f"{folder}/record.json", record.model_dump_json().encode())
    yield str(tmp_path)


def test_records_are_read_as_a_graph_and_removed_without_a_trace(root: str) -> None:
    found = usage.find(root)
    assert [(one.stage, one.policy, one.bytes > 100) for one in found] == [("caption", "", True), ("update", "w", True)]
    graph = Graph(found)
    assert len(graph.claimed(Claim(frozenset("w")))) == 2
    assert found[1].training == digest(dict.fromkeys(("captioner", "temperature", "config", "seed"), 0))
    usage.remove(found)
    usage.remove(found)  # again, as after an interruption
    assert usage.find(root) == [] and not list(Path(root).rglob("*.json"))
