"""Engines on the nodes of a cluster answer as here; a lost node costs seconds; no actor outlives its run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from racro import config
from racro.cluster import files, session
from racro.cluster.session import NoCluster
from racro.config import ScriptedReply
from racro.engines.balanced import Balanced
from racro.engines.clustered import on_cluster
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.opening import open_reasoner
from racro.engines.protocol import Prompt, Request, Role, Sampling
from racro.engines.worker.client import Worker
from racro.processes.child import free_port
from racro.processes.launcher import MachineLost
from tests.cluster.conftest import STORE, Nodes, ports

SOON = 120.0
RULES = (ScriptedReply(when=r"number (\d+)", replies=("it is \\1", "\\1, I think"), tokens=5, delay=0.01),)
SCRIPTED = config.Reasoner(engine=config.Scripted(rules=RULES))
DRIVER = """
import json, sys, time
from racro import config
from racro.cluster import session
from racro.engines.opening import open_reasoner

section, runtime, scope = (json.loads(given) for given in sys.argv[1:])
session.belongs("root", scope)
engine = open_reasoner(config.Reasoner.model_validate(section), "", config.Runtime.model_validate(runtime))
print([worker.pid for worker in engine.engines], flush=True)
time.sleep(3600)
"""
CONNECT = """
import sys, time
from racro.cluster import session
from racro.config import RayCluster

end = time.monotonic() + 120
while True:
    try:
        session.session(RayCluster(type="ray", address=f"127.0.0.1:{sys.argv[1]}"))
        print("connected")
        break
    except session.NoCluster as error:
        if "refused" not in str(error) or time.monotonic() > end:  # it has not started yet
            print(error)
            break
        time.sleep(0.5)
session.close()
"""


def runtime(nodes: Nodes, copies: int = 2, **cluster: Any) -> config.Runtime:
    place = {"data_parallel": copies, "sequences": 8}
    content = {"device": "cpu", "streaming": False, "reasoner": place, "cluster": nodes.settings(**cluster)}
    return config.Runtime.model_validate(content)


def asked(count: int) -> list[Request]:
    given = Sampling(n=2, temperature=0.0, max_tokens=20)
    return [Request(i, Prompt([{"role": "user", "content": f"number {i}"}]), given, i) for i in range(count)]


def opened(nodes: Nodes, **cluster: Any) -> Balanced:
    return cast(Balanced, open_reasoner(SCRIPTED, "", runtime(nodes, **cluster)))


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def test_a_lost_node_s_prompts_are_answered_elsewhere_and_all_as_here(nodes: Nodes) -> None:
    session.belongs("root", "lost")
    engine = opened(nodes)
    workers = cast(list[Worker], list(engine.engines))
    assert len({worker.machine.id for worker in workers}) == 2, "spread"  # type: ignore[attr-defined]
    requests, answers, killed = asked(300), [], False
    for answer in engine.generate(requests):
        answers.append(answer)
        if len(answers) == 40:
            killed = any(nodes.kill(worker.machine.id) for worker in workers)  # type: ignore[attr-defined]
    assert killed
    expected = {answer.key: answer for answer in ScriptedEngine(RULES).generate(requests)}
    assert {answer.key: answer for answer in answers} == expected and len(answers) == len(expected)
    until(lambda: not engine.replacing, "the lost copy was never replaced")
    assert not engine.lost and all(load == 0 for load in engine.outstanding), "both copies work"
    assert len(list(engine.generate(asked(20)))) == 20
    engine.close()
    nodes.add()


def test_an_actor_that_came_back_with_old_weights_answers_nothing(nodes: Nodes, tmp_path: Path) -> None:
    session.belongs("root", "stale")
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "weights.bin").write_text(folder.name)
    engine = opened(nodes)
    engine.swap(str(new))
    stale = cast(Worker, engine.engines[0])
    expected = stale._holds
    stale.swap(str(old))
    stale._holds = expected  # planted: its process has the old weights, and nobody here knows
    requests = asked(100)
    answers = {answer.key: answer for answer in engine.generate(requests)}
    assert answers == {answer.key: answer for answer in ScriptedEngine(RULES).generate(requests)}
    assert engine.moved > 0, "it answered"
    until(lambda: not engine.replacing, "the stale copy was never replaced")
    workers = cast(list[Worker], list(engine.engines))
    assert stale.pid not in [worker.pid for worker in workers] and {worker._holds for worker in workers} == {expected}


def test_the_next_process_of_a_run_finds_its_engines_and_none_outlives_the_lease(nodes: Nodes) -> None:
    """The first process is killed; the second goes on with what it left; then that one falls silent."""
    how = runtime(nodes, lease=20)
    command = [sys.executable, "-c", DRIVER, SCRIPTED.model_dump_json(), how.model_dump_json(), json.dumps("warm")]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    pids = json.loads(driver.stdout.readline())
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait(SOON)
    session.belongs("root", "warm")
    engine = cast(Balanced, open_reasoner(SCRIPTED, "", how))
    assert [worker.pid for worker in cast(list[Worker], engine.engines)] == pids, "the same processes"
    assert len(list(engine.generate(asked(20)))) == 20
    session.session(how.cluster)._over.set()  # type: ignore[arg-type]
    until(lambda: not any(map(psutil.pid_exists, pids)), "processes outlive the lease")
    import ray

    until(lambda: not running(ray), "actors or reserved room outlive the lease")


def running(ray: Any) -> list[str]:
    """Room on the cluster that is still reserved."""
    table = ray.util.placement_group_table()
    return [name for name, group in table.items() if group["state"] not in ("REMOVED",)]


@pytest.mark.parametrize("given", [None, "3"])
def test_a_program_has_the_threads_of_its_node_and_not_ray_s_one(given: str | None) -> None:
    """Ray gives an actor one thread for a part of a CPU; the node's own setting counts. Its process is the parent."""
    program = (
        "import os\nfrom racro.cluster import agent\nos.environ[agent.THREADS] = '1'\n"
        "agent._forget_threads()\nprint(os.environ.get(agent.THREADS))"
    )
    node = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    node |= {"OMP_NUM_THREADS": given} if given else {}
    shell = ["sh", "-c", f"'{sys.executable}' -c \"$PROGRAM\"; :"]
    done = subprocess.run(shell, env=node | {"PROGRAM": program}, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == ("1" if given else "None"), done.stderr


def test_what_a_run_has_is_gone_when_it_ends(nodes: Nodes) -> None:
    import ray

    session.belongs("root", "end")
    engine = opened(nodes, lease=3600)
    pids = [worker.pid for worker in cast(list[Worker], engine.engines)]
    session.close()
    until(lambda: not any(map(psutil.pid_exists, pids)) and not running(ray), "something is left")


def test_the_room_of_a_closed_engine_is_there_for_the_next(nodes: Nodes) -> None:
    """Reasoners of one evaluation take turns where the cluster holds one of them."""
    session.belongs("root", "turns")
    nodes.spare(2)
    place = {"data_parallel": len(nodes.others), "sequences": 8, "start_deadline": 100}
    given = nodes.settings(resources={"reasoners.a": {"spare": 1}, "reasoners.b": {"spare": 1}})
    content = {"device": "cpu", "streaming": False, "reasoners": {"a": place, "b": place}, "cluster": given}
    roles: tuple[Role, ...] = ("reasoners.a", "reasoners.b", "reasoners.a")
    for role in roles:
        engine = on_cluster(role, SCRIPTED, "", config.Runtime.model_validate(content), Path(os.devnull))
        assert len(list(engine.generate(asked(20)))) == 20
        engine.close()


def test_a_node_that_is_lost_while_its_files_travel_is_a_lost_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def lost(*_: object, **__: object) -> None:
        raise ray.exceptions.RayError("the owner has died")

    monkeypatch.setattr(ray, "get", lost)
    with pytest.raises(MachineLost, match="weights did not arrive from another node: the owner has died"):
        files.write_pieces(tmp_path, [files.Piece("weights", 3, "reference")])


def test_folders_reach_a_node_that_does_not_see_them_whole(nodes: Nodes, tmp_path: Path) -> None:
    session.belongs("root", "files")
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights.bin").write_bytes(os.urandom(3 * 2**20))
    (model / "empty.txt").touch()
    (model / "lineage.json").write_text("not content")
    engine = opened(nodes, files="copied", scratch=str(tmp_path / "scratch"))
    machine = cast(Worker, engine.engines[0]).machine
    before = files.traffic()
    placed = machine.folder(str(model))
    assert Path(placed.path) != model and placed.name == files.digest_of(model) == files.digest_of(Path(placed.path))
    assert files.traffic().bytes - before.bytes == 3 * 2**20
    there = Path(machine.output(str(tmp_path / "made")))
    (there / "state").write_bytes(b"1" * 1000)
    machine.collect(str(tmp_path / "made"))
    assert (tmp_path / "made" / "state").read_bytes() == b"1" * 1000 and not there.exists()
    assert [entry.name for entry in (tmp_path / "made").iterdir()] == ["state"]


def test_gpus_that_no_node_has_are_refused(nodes: Nodes) -> None:
    wanted = runtime(nodes).model_copy(update={"device": "cuda"})
    with pytest.raises(NoCluster, match=r"^runtime\.device: cuda: no node of the cluster has a GPU"):
        open_reasoner(SCRIPTED, "", wanted)


def test_a_cluster_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    how = config.Runtime.model_validate({"cluster": {"type": "ray", "address": "127.0.0.1:1"}})
    with pytest.raises(NoCluster, match=r"^runtime.cluster.address: no Ray cluster answers at 127.0.0.1:1 \([^\n]+\)"):
        open_reasoner(SCRIPTED, "", how)


def test_what_is_no_cluster_but_takes_the_connection_is_one_line_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        program = CONNECT.replace("end = ", "session.CONNECT = 5.0\nend = ")
        command = [sys.executable, "-c", program, str(stranger.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "does not answer as Ray does within 5 s" in done.stdout and len(done.stdout.splitlines()) == 1, done


def test_a_cluster_that_asks_for_a_token_gets_the_one_that_is_there(tmp_path: Path) -> None:
    """Ray asks for one on nodes that are started where one is, and sends none to an address that is given."""
    (tmp_path / "with" / ".ray").mkdir(parents=True)
    (tmp_path / "without").mkdir()
    (tmp_path / "with" / ".ray" / "auth_token").write_text("a" * 64)
    mine = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    port = free_port()
    options = {
        "port": port,
        "ray-client-server-port": free_port(),
        "num-cpus": 1,
        "object-store-memory": STORE,
        "include-dashboard": "false",
    }
    options |= {name.replace("_", "-"): number for name, number in ports().items() if name != "metrics_agent_port"}
    given = [f"--{name}={value}" for name, value in options.items()]
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
    home = {name: mine | {"HOME": str(tmp_path / name)} for name in ("with", "without")}
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        head = psutil.Popen([*command, *given, f"--temp-dir={folder}"], env=home["with"], start_new_session=True)
        try:
            connect = [sys.executable, "-P", "-c", CONNECT, str(port)]
            done = {
                name: subprocess.run(connect, env=env, stdout=subprocess.PIPE, text=True) for name, env in home.items()
            }
        finally:
            family = [head, *head.children(recursive=True)]
            for one in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            psutil.wait_procs(family)
    assert done["with"].stdout == "connected\n"
    line = r"runtime.cluster.address: no Ray cluster answers .* the one of its head .*\n"
    assert re.fullmatch(line, done["without"].stdout)
