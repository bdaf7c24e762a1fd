"""Machines with addresses, names and processes of their own: a training over them, and two of them on one root."""

from __future__ import annotations

import hashlib
import json
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from racro.storage.artifacts import Record
from tests.cluster.conftest import PATIENCE, STORE
from tests.conftest import EMBEDDED_RECIPE, REPOSITORY, TINY
from tests.support.eventually import eventually
from tests.support.namespaces import Laboratory, Machine
from tests.support.s3 import BUCKET

SOON = 900.0
PORT = 6379
WEIGHTS = "model.safetensors"
ALONE = (
    *TINY,
    *("problems.count=32", "rollout.problems=6", "update.mini_batch=3", "evaluation.problems=8", "evaluation.every=1"),
    "runtime.retries=3",
    # In another batch log-probs of captions differ by 1e-6, and what is lost changes the batches.
    "runtime.caption_batch=1",
)
ONE = (*ALONE, "iterations=1", "runtime.device=cpu")
PAIR = (*ALONE, "runtime.trainer={processes: 2, shard: fsdp}")
NOTICE = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "4000"}
"""Ray looks for a machine that says nothing for a minute, otherwise."""
STARTED = ("racro.training.rank", "racro.engines.worker.main", "ray::Agent", "ray::Keeper")


class Conductor:
    """The process on a machine that conducts trainings (`tests.support.conducting`)."""

    def __init__(self, machine: Machine, folder: Path, **environment: str) -> None:
        self.machine, self.log = machine, folder / f"{machine.address}.log"
        self.said: queue.SimpleQueue[list[Any] | None] = queue.SimpleQueue()
        with self.log.open("w") as log:
            self.process = machine.start(
                *(sys.executable, "-P", "-m", "tests.support.conducting"),
                env=machine.environment(**environment),
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        threading.Thread(target=self._listen, daemon=True).start()

    def train(self, name: str, root: str, settings: Sequence[str], *stops: str) -> None:
        """Begin."""
        self.tell({"run": name, "root": root, "recipe": EMBEDDED_RECIPE, "settings": settings, "stops": stops})

    def tell(self, content: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{json.dumps(content)}\n")
        self.process.stdin.flush()

    def go_on(self, again: bool = False) -> None:
        """`again`: until the next moment of the same kind."""
        self.tell("again" if again else "go on")

    def says(self, moment: str) -> Any:
        """Wait for it; what comes with it."""
        try:
            said = self.said.get(timeout=SOON)
        except queue.Empty:
            said = ["nothing"]
        assert said and said[0] == moment, f"{said}: {self.log.read_text()[-3000:]}"
        return said[1]

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.put(json.loads(line))
        self.said.put(None)


@pytest.fixture(scope="module")
def laboratory() -> Iterator[Laboratory]:
    with Laboratory() as laboratory:
        yield laboratory


@pytest.fixture(scope="module")
def machines(laboratory: Laboratory) -> list[Machine]:
    return [laboratory.machine() for _ in range(3)]


@pytest.fixture(scope="module")
def conductors(machines: list[Machine], tmp_path_factory: pytest.TempPathFactory) -> list[Conductor]:
    """On the first two; the third has an S3 store."""
    store = machines[2]
    server = [sys.executable, "-P", "-m", "moto.server", "--host", "0.0.0.0", "--port", "9000"]
    quiet = subprocess.DEVNULL
    store.start(*server, env=store.environment(), stdout=quiet, stderr=quiet)
    aws = {"AWS_ENDPOINT_URL": f"http://{store.address}:9000", "AWS_DEFAULT_REGION": "us-east-1"}
    aws |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    folder = tmp_path_factory.mktemp("conductors")
    made = [Conductor(machine, folder, **PATIENCE, **aws) for machine in machines[:2]]
    bucket = f"import boto3; boto3.client('s3', endpoint_url='http://127.0.0.1:9000').create_bucket(Bucket='{BUCKET}')"
    create = store.command(sys.executable, "-c", bucket)
    assert eventually(lambda: subprocess.run(create, env=store.environment(**aws), stderr=quiet).returncode == 0)
    return made


def records(root: Path) -> dict[str, Record]:
    """All, by their folders, in which nothing is left of other attempts."""
    found = {}
    for file in sorted(root.glob("artifacts/*/*/record.json")):
        record = Record.model_validate_json(file.read_text())
        found[f"{record.stage}/{file.parent.name}"] = record
        assert {entry.name for entry in file.parent.iterdir()} <= {"record.json", record.place, "lease"}
    return found


def contents(root: Path) -> dict[str, Any]:
    """What the artifacts hold, by their folders: rows, whose digests are verified, and weights."""
    return {
        name: [
            *((shard.rows, shard.sha256, digest(folder / shard.name)) for shard in record.shards),
            *(digest(file) for file in folder.glob("*.safetensors")),
        ]
        for name, record in records(root).items()
        for folder in [root / "artifacts" / name / record.place]
    }


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def policies(root: Path) -> list[dict[str, torch.Tensor]]:
    """The weights of those that are kept as models."""
    files = (root / "artifacts" / name / record.place / WEIGHTS for name, record in records(root).items())
    return [load_file(file) for file in files if file.exists()]


@pytest.fixture(scope="module")
def undisturbed(conductors: list[Conductor], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The artifacts of a training on a root that nobody else knows."""
    root = tmp_path_factory.mktemp("undisturbed")
    conductors[0].train("here", str(root), ONE)
    conductors[0].says("done")
    return contents(root)


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_two_machines_on_one_root_make_each_artifact_once_and_what_a_frozen_one_makes_counts_for_nothing(
    kind: str, conductors: list[Conductor], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    root = str(tmp_path) if kind == "folder" else f"s3://{BUCKET}/runs"
    for number, one in enumerate(conductors):
        one.train(f"by-{number}", root, ONE, "begin caption", "commit update")
    assert eventually(lambda: any(not one.said.empty() for one in conductors), SOON)
    first, second = sorted(conductors, key=lambda one: one.said.empty())
    place = first.says("begin caption")
    first.machine.freeze()
    assert second.says("begin caption") == place, "it does not wait for ever"
    second.go_on()
    place = second.says("commit update")
    first.machine.thaw()
    first.go_on()  # it has captions to make, and to write
    second.machine.freeze()
    assert first.says("commit update") == place
    first.go_on()
    summaries = [first.says("done")]
    second.machine.thaw()
    second.go_on()
    summaries.append(second.says("done"))
    if kind == "s3":
        second.tell({"fetch": root, "to": str(tmp_path)})
        second.says("fetched")
    assert contents(tmp_path) == undisturbed
    executed = Counter[str]()
    for summary in summaries:
        executed.update({stage: total["executed"] for stage, total in summary["stages"].items()})
    assert executed == Counter(name.partition("/")[0] for name in undisturbed) + Counter(["caption", "update"])


def joined(machine: Machine, head: str | None) -> None:
    """It becomes a node of a cluster; None: its head."""
    ray = [str(Path(sys.executable).with_name("ray")), "start", f"--object-store-memory={STORE}", "--num-cpus=8"]
    own: dict[str, float] = {"spare": 1} | ({"other": 1} if head else {})
    where = [f"--address={head}:{PORT}"] if head else ["--head", f"--port={PORT}", "--include-dashboard=false"]
    subprocess.run(
        machine.command(*ray, *where, f"--resources={json.dumps(own)}"),
        env=machine.environment(**PATIENCE, **NOTICE),
        check=True,
        capture_output=True,
    )


def test_a_training_over_machines_of_which_three_lose_power_makes_the_policies_of_one(
    laboratory: Laboratory, machines: list[Machine], conductors: list[Conductor], tmp_path: Path
) -> None:
    conductor, head = conductors[0], machines[0].address
    here, there = tmp_path / "here", tmp_path / "there"
    conductor.train("here", str(here), PAIR)
    alone = conductor.says("done")
    living = {machine.address: machine for machine in machines}
    for machine in machines:
        joined(machine, head if machine.address != head else None)
    resources = {"trainer": {"spare": 0.6}, "captioner": {"other": 0.1}, "reasoner": {"other": 0.1}}
    cluster = {"type": "ray", "address": f"{head}:{PORT}", "strategy": "spread", "resources": resources}
    more = (f"runtime.cluster={json.dumps(cluster)}", "runtime.reasoner.data_parallel=2")
    conductor.train("there", str(there), [*PAIR, *more], "reason", "update", "caption", "reason", "update")
    for moment in ("reason", "update"):
        assert len(set(conductor.says(moment))) == 2
        conductor.go_on()
    for moment in ("caption", "reason", "update"):
        while not set(places := conductor.says(moment)) <= set(living) and moment == "update":
            conductor.go_on(again=True)  # one of its ranks was on a machine that is gone, which it is about to see
        living.pop(next(place for place in places if place in living and place != head)).cut_off()
        new = laboratory.machine()
        joined(new, head)
        living[new.address] = new
        conductor.go_on()
    apart = conductor.says("done")
    one, other = policies(here), policies(there)
    assert len(one) == len(other) == 2
    for mine, its in zip(one, other, strict=True):
        assert max((mine[name] - its[name]).abs().max().item() for name in mine) < 1e-6
    assert all(apart[key] == alone[key] for key in ("final", "optimizer_steps"))
    assert eventually(lambda: not any(ours(machine) for machine in living.values()), SOON, pause=1)


def ours(machine: Machine) -> list[str]:
    """Processes that a run has started on a node."""
    return [command for command in machine.processes().values() if any(name in command for name in STARTED)]
