"""Pruning frees what nobody needs; a training whose checkpoints are gone still counts, and they can be made again."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from flows.retention import prune
from flows.training import train
from racro.config import Recipe, loading
from racro.storage import artifacts
from racro.storage.artifacts import Pruned
from racro.storage.files import opened
from racro.storage.retention import Checkpoint, Freed, expendable, find
from racro.summary import Summary
from tests.conftest import EMBEDDED_RECIPE, TINY
from tests.support import forkserver, s3
from tests.support.examples import examples

pytestmark = pytest.mark.usefixtures("prefect_server")

# --- which ------------------------------------------------------------------------------------------------------------


@st.composite
def trees(draw: st.DrawFn) -> list[Checkpoint]:
    """Checkpoints that each continue one made before, or the initial policy; some folders hold another's policy."""
    made: list[Checkpoint] = []
    for i in range(draw(st.integers(1, 12))):
        parent = draw(st.sampled_from(["initial", *(one.node for one in made)]))
        idle = parent != "initial" and draw(st.booleans())
        node = parent if idle else f"node{i}"
        initial = draw(st.sampled_from(["initial", parent]))
        training = draw(st.sampled_from("ab"))
        made.append(Checkpoint(f"folder{i}", f"weights of {node}", node, parent, initial, training, 1))
    return draw(st.permutations(made))


def depth(one: Checkpoint, by_node: dict[str, Checkpoint]) -> int:
    return 1 + (depth(by_node[one.parent], by_node) if one.parent in by_node else 0)


@settings(max_examples=examples(300), deadline=None)
@given(trees(), st.integers(1, 4), st.integers(0, 4), st.data())
def test_what_must_stay_stays_and_everything_else_goes(
    tree: list[Checkpoint], last: int, every: int, data: st.DataObject
) -> None:
    champion = data.draw(st.sampled_from(tree)).policy
    running = set(data.draw(st.sampled_from(["", "a", "b"])))
    gone = expendable(tree, last, every or None, {champion}, running)
    by_node = {one.node: one for one in tree if one.node != one.parent}
    ends = by_node.keys() - {one.parent for one in by_node.values()}
    newest: set[str] = set()
    for end in ends:
        here = end
        for _ in range(last):
            newest.add(here)
            here = by_node[here].parent if here in by_node else here
    asked_for = set()
    for one in tree:
        nth = bool(every) and depth(by_node[one.node], by_node) % every == 0
        if one.node in newest or nth or one.policy == champion or one.training in running:
            asked_for.add(one.folder)
    begun = {one.initial for one in tree if one.folder in asked_for}
    for one in tree:
        assert (one in gone) == (one.folder not in asked_for and one.node not in begun)


# --- really -----------------------------------------------------------------------------------------------------------

EVALUATION = ("describe", "answer", "grade", "aggregate")
ITERATIONS = 3


def recipe(*overrides: str) -> Recipe:
    few = ("evaluation.problems=8", f"evaluation.every={ITERATIONS}", f"iterations={ITERATIONS}")
    few += ("update.learning_rate=4.9e-4",)  # a champion of another test in this process is none of its policies
    return loading.load(EMBEDDED_RECIPE, [*TINY, *few, *overrides])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> str:
    """A root with a training."""
    root = str(tmp_path_factory.mktemp("made"))
    train(recipe(), run="first", root=root)
    return root


@pytest.fixture(scope="module")
def store() -> Iterator[s3.Store]:
    with s3.served() as store, s3.used(store):
        yield store


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, made: str, tmp_path: Path) -> str:
    """A copy of it."""
    if request.param == "local":
        shutil.copytree(made, tmp_path, dirs_exist_ok=True)
        return str(tmp_path)
    request.getfixturevalue("store")
    root = f"s3://{s3.BUCKET}/{tmp_path.name}"
    opened(root)[0].put(f"{made}/", f"{root}/", recursive=True)
    return root


@pytest.fixture
def trained(root: str, prefect_server: str) -> Summary:
    return train(recipe(), run="first", root=root)


class MlflowRunning:
    """The run `first` as MLflow shows it while it is under way."""

    def __init__(self, root: str) -> None:
        self.client = MlflowClient()
        experiment = self.client.get_experiment_by_name("racro")
        query = f"tags.`racro.root` = '{root}' and tags.`racro.run` = 'first'"
        [run] = self.client.search_runs([experiment.experiment_id], query)
        self.id = run.info.run_id

    def __enter__(self) -> None:
        self.client.update_run(self.id, status="RUNNING")

    def __exit__(self, *_: object) -> None:
        self.client.set_terminated(self.id)


@contextlib.contextmanager
def crowned(policy: str) -> Iterator[None]:
    """A policy is champion while the context lasts."""
    client = MlflowClient()
    client.create_registered_model("captioner-crowned")
    try:
        made = client.create_model_version("captioner-crowned", "s3://anywhere", tags={"racro.policy": policy})
        client.set_registered_model_alias("captioner-crowned", "champion", made.version)
        yield
    finally:
        client.delete_registered_model("captioner-crowned")


def executed(summary: Summary) -> dict[str, int]:
    return {name: total.executed for name, total in summary.stages.items() if total.executed}


def chain(root: str) -> list[Checkpoint]:
    """The training's checkpoints from first to last."""
    by_parent = {one.parent: one for one in find(root)}
    [first] = by_parent.keys() - {one.node for one in by_parent.values()}
    found = [by_parent[first]]
    while found[-1].node in by_parent:
        found.append(by_parent[found[-1].node])
    return found


def test_a_training_pruned_to_its_last_checkpoint(root: str, trained: Summary) -> None:
    before = chain(root)
    assert len(before) == ITERATIONS
    planned = prune(root, last=1, every=2, dry_run=True)
    assert chain(root) == before, "a dry run removes nothing"
    assert planned == Freed((before[0].folder,), before[0].bytes, 2, ())

    with crowned(before[0].policy):
        assert prune(root, last=1, every=2) == Freed((), 0, ITERATIONS, ())
    with MlflowRunning(root):
        assert prune(root, last=1, every=2) == Freed((), 0, ITERATIONS, ("first",)), "a run under way may need them"
    assert prune(root, last=1, every=2) == planned
    assert [one.bytes > 0 for one in chain(root)] == [False, True, True]
    assert prune(root, last=1, every=2) == Freed((), 0, 2, ())
    fs, path = opened(before[0].folder)
    assert [file.rpartition("/")[2] for file in fs.find(path)] == ["pruned.json"]

    again = train(recipe(), run="again", root=root)
    assert executed(again) == {} and again.policy == trained.policy, "results outlive their checkpoints"
    longer = train(recipe(f"iterations={ITERATIONS + 1}"), run="longer", root=root)
    assert executed(longer) == {
        **dict.fromkeys(("caption", "reward-answer", "compose", "update"), 1),
        **dict.fromkeys(EVALUATION, 1),
    }


@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_killed_half_way_a_checkpoint_counts_as_pruned_and_the_rest_goes_next_time(root: str, trained: Summary) -> None:
    victim = chain(root)[0]
    record = artifacts.read_file(f"{victim.folder}/record.json")
    artifacts.write_file(f"{victim.folder}/pruned.json", record)
    assert find(root)[0].bytes and artifacts.read_record(victim.folder) is not None, "the record still stands"
    artifacts.delete_file(f"{victim.folder}/record.json")
    artifacts.delete_file(f"{victim.folder}/{json.loads(record)['place']}/config.json")
    assert executed(train(recipe(), run="after-kill", root=root)) == {}
    assert victim.folder in prune(root, last=1).folders
    assert [one.bytes for one in find(root) if one.folder == victim.folder] == [0]


def test_the_command_says_what_it_freed(tmp_path: Path) -> None:
    command = [forkserver.shared().racro, "prune", "--root", str(tmp_path / "runs"), "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "0 checkpoints, 0.0 MB would be freed; 0 are kept\n"), done.stderr


@pytest.mark.parametrize("root", ["local"], indirect=True)
def test_a_pruned_checkpoint_that_is_needed_is_one_line_and_is_made_again(root: str, trained: Summary) -> None:
    """Nobody looks at the checkpoints of a finished training, except to evaluate them anew."""
    assert prune(root, last=1, every=2).folders
    more = recipe("evaluation.every=1")
    with pytest.raises(Pruned, match=r"was pruned and is needed again; delete the pruned\.json files in .*/update/\*"):
        train(more, run="more", root=root)
    before = {one.folder: one for one in find(root)}
    for folder, one in before.items():
        if not one.bytes:
            artifacts.delete_file(f"{folder}/pruned.json")
    made = train(more, run="more", root=root)
    ran = executed(made)
    assert (ran["update"], ran["describe"]) == (1, ITERATIONS - 1)
    assert ran.keys() <= {"update", *EVALUATION}, "equal captions are answered, and graded, once"
    assert made.policy.digest == trained.policy.digest
    assert {one.node for one in find(root)} == {one.node for one in before.values()}, "to the last bit"
