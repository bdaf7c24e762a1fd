"""Killed at any point, a run goes on where it was: nothing finished runs twice, and the policy is the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from flows.training import train
from racro.config import Recipe, loading
from racro.engines.remote.chat import SEEDS
from racro.models.folders import model_digest
from racro.prompts import plain_text
from racro.rollouts.reasoner import no_question, question_to, training_sampling
from racro.schema import Handle, Problem, ProblemTable, Rollout, RolloutTable
from racro.storage import artifacts
from racro.storage.artifacts import Record
from racro.summary import Summary
from tests.conftest import EMBEDDED_RECIPE, REPOSITORY, TINY, nobody_works_in
from tests.support import forkserver
from tests.support.eventually import eventually
from tests.support.lagging import ITERATIONS, lagged, reader
from tests.support.sparse import SPARSE
from tests.support.talker import Reply, Talker, last_text

H = TypeVar("H", bound=Handle)


@pytest.fixture(scope="module")
def undisturbed(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """A run that is not killed, and keeps the trainer's state after every iteration."""
    root = tmp_path_factory.mktemp("undisturbed")
    recipe = loading.load(EMBEDDED_RECIPE, [*TINY, *SPARSE, "runtime.checkpoint_every=1"])
    return train(recipe, run="whole", root=str(root))


def test_killed_at_many_writes_in_every_stage(undisturbed: Summary, tmp_path: Path, forked: None) -> None:
    root = tmp_path / "root"
    root.mkdir()
    driver = subprocess.run(
        [sys.executable, "-P", "-m", "tests.support.killing", str(root), "1"],
        env=os.environ,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=1100,
    )
    assert driver.returncode == 0, driver.stderr[-3000:]
    result = json.loads(driver.stdout.splitlines()[-1])
    assert result["policy"] == undisturbed.policy.digest
    assert result["rewritten"] == []
    assert result["stages"] == sum(stage.executed for stage in undisturbed.stages.values())
    places = {kill.split(" ")[1].split("/")[2] for kill in result["kills"] if "/artifacts/" in kill}
    every = {"prepare", "solve", "caption", "reward-answer", "compose", "update", "describe", "answer"}
    assert every <= places, f"in both stages of the training, which solves and then captions: {result['kills']}"
    assert result["replayed"] >= 1, "an update whose weights were lost was taken again"


def test_killed_while_captions_are_made_beside_an_update(prefect_server: str, tmp_path: Path, forked: None) -> None:
    """The same policy to the last bit, and no question is asked again once its answer was stored."""
    asked: list[tuple[float, str, int]] = []

    def listening(body: dict[str, Any], i: int) -> Reply:
        asked.append((time.time(), last_text(body), body["seed"]))
        return reader(body, i)

    talker = Talker(listening)
    try:
        recipe, root = lagged(talker.url), tmp_path / "root"
        root.mkdir()
        driver = subprocess.run(
            [sys.executable, "-P", "-m", "tests.support.killing", str(root), "3", talker.url],
            env=os.environ,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=1100,
        )
    finally:
        talker.die()
    assert driver.returncode == 0, driver.stderr[-3000:]
    result = json.loads(driver.stdout.splitlines()[-1])
    whole = Summary.model_validate_json((tmp_path / "root.warm" / "warm" / "summary.json").read_text())
    finished = Summary.model_validate_json((root / "killed" / "summary.json").read_text())
    assert result["policy"] == finished.policy.digest == whole.policy.digest
    assert model_digest(Path(finished.policy.uri)) == model_digest(Path(whole.policy.uri))
    assert result["rewritten"] == []
    assert result["stages"] == sum(stage.executed for stage in whole.stages.values())
    places = {kill.split(" ")[1].split("/")[2] for kill in result["kills"] if "/artifacts/" in kill}
    assert {"caption", "reward-answer", "reward-length", "compose", "update"} <= places, result["kills"]

    times: dict[tuple[str, int], list[float]] = {}
    for when, text, seed in asked:
        if when > result["begun"]:
            times.setdefault((text, seed), []).append(when)
    stored = [(record, [*questions_of(root, recipe, record)]) for record in records(root, "reward-answer")]
    assert len(stored) == ITERATIONS and all(questions for _, questions in stored)
    for record, questions in stored:
        for question in questions:
            assert max(times[question]) <= record.finished, "asked although the answer was there"
    in_training = {question for _, questions in stored for question in questions}
    again = sum(len(times[question]) - 1 for question in in_training)
    assert again <= 2 * 16 * len(result["kills"]), "at most two iterations are in flight"
    begun = [min(times[question][0] for question in questions) for _, questions in stored]
    ended = [record.finished for record in records(root, "update")]
    assert any(first < end for first, end in zip(begun[1:], ended, strict=False)), "nothing was made beside an update"


def records(root: Path, stage: str) -> list[Record]:
    """In the order in which they were written."""
    found = [artifacts.read_record(str(folder)) for folder in (root / "artifacts" / stage).iterdir()]
    return sorted((record for record in found if record is not None), key=lambda record: record.finished)


def questions_of(root: Path, recipe: Recipe, record: Record) -> Iterator[tuple[str, int]]:
    """Text and seed of each question about the captions behind a table of answers."""
    (problems,) = (r for r in records(root, "prepare") if r.inputs["heldout"] is None)
    asked = {p.uid: p.question for p in artifacts.read_table(handle(root, problems, ProblemTable), Problem)}
    digest = record.inputs["rollouts"]["digest"]
    (captions,) = (r for r in records(root, "caption") if r.handle["digest"] == digest)
    how = training_sampling(recipe.reasoner, recipe.seed, record.inputs["iteration"], recipe.runtime.request_deadline)
    for row in artifacts.read_table(handle(root, captions, RolloutTable), Rollout):
        if no_question(row.caption, row.finish_reason) is None:
            request = question_to(asked[row.uid], row.caption, *how)
            yield plain_text(request.prompt.messages[-1]), request.seed % SEEDS


def handle(root: Path, record: Record, kind: type[H]) -> H:
    folder = root / "artifacts" / record.stage
    (place,) = (f for f in folder.iterdir() if artifacts.read_record(str(f)) == record)
    return kind(uri=artifacts.files_of(str(place), record), **record.handle)


def there_or_ended(folder: Path, pattern: str, process: subprocess.Popen[bytes]) -> bool:
    return any(folder.rglob(pattern)) or process.poll() is not None


def test_a_killed_command_leaves_no_process_and_the_same_command_finishes(
    undisturbed: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_HOME", "MLFLOW_TRACKING_URI", "RACRO_HOME"):
        monkeypatch.delenv(name, raising=False)
    command = [sys.executable, "-m", "flows.cli.main", "train", EMBEDDED_RECIPE, "--run", "killed"]
    command += [argument for override in (*TINY, *SPARSE) for argument in ("--set", override)]
    dice = random.Random(2)
    for wait_for in ("server.log", "artifacts/caption/*/record.json"):
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert eventually(partial(there_or_ended, tmp_path, wait_for, process))
        time.sleep(dice.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert nobody_works_in(tmp_path), "a process of the killed command lives on"
    command = [str(forkserver.shared().racro), *command[3:]]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1000)
    assert finished.returncode == 0, finished.stderr[-3000:]
    summary = Summary.model_validate_json((tmp_path / "runs" / "killed" / "summary.json").read_text())
    assert summary.policy.digest == undisturbed.policy.digest
    assert summary.stages["caption"].cached >= 1
    assert nobody_works_in(tmp_path)
