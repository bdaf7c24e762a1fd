"""A driver that runs a tiny training or evaluation in forked children and kills each at its n-th write under the root.

Run as a program by `test_resume` and `test_evaluate`: forks for each attempt, so that a kill costs a second and not an
interpreter start.
No hook in the product: an audit hook in the child sees every file that Python opens for writing or renames.
Prints one JSON line: attempts, the places of the kills, records that were written twice, the final policy.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

SERVER = os.environ["PREFECT_API_URL"]  # conftest forgets it: a test session starts its own

from tests.conftest import EMBEDDED_RECIPE, TINY  # noqa: E402
from tests.support import forkserver  # noqa: E402
from tests.support.lagging import lagged  # noqa: E402
from tests.support.sparse import SPARSE  # noqa: E402

os.environ["PREFECT_API_URL"] = SERVER

from flows.evaluation import evaluate  # noqa: E402
from flows.training import train  # noqa: E402
from racro.config import loading  # noqa: E402
from racro.evaluation import parts  # noqa: E402

SCRIPTS = (
    "evaluation.problems=30",
    "captioner.engine={type: scripted, rules: [{replies: ['\\boxed{3}']}]}",
    "reasoner.engine={type: scripted, rules: [{replies: ['\\boxed{3}']}]}",
)


EVERY = {"prepare", "solve", "caption", "reward-answer", "compose", "update", "describe", "answer"}
"""Stages whose first record nobody may write before somebody was killed there."""
BESIDE = {"caption", "reward-answer", "reward-length", "compose", "update"}
"""Those of a training with lag."""


def run(job: str, name: str, root: str) -> None:
    """The job from its first stage to its last. One that is a URL is a training with lag and this reasoner."""
    if job == "train":
        train(loading.load(EMBEDDED_RECIPE, [*TINY, *SPARSE]), run=name, root=root)
    elif job.startswith("http"):
        with forkserver.children():
            train(lagged(job), run=name, root=root)
    else:
        parts.PART = 16  # two parts
        evaluate(loading.load(EMBEDDED_RECIPE, [*TINY, *SCRIPTS]), "initial", modes=("joint",), run=name, root=root)


def child(job: str, root: str, fatal_write: int, log: int) -> None:
    """Run; die at the `fatal_write`-th write, or before the first record of a stage in which nobody has died yet.

    Exit status 0: the run is complete.
    """
    writes = 0
    told = Path(f"{root}.kills").read_text().splitlines()
    spared = BESIDE if job.startswith("http") else EVERY
    spared = spared - {kill.split("/")[2] for kill in told if "/artifacts/" in kill}

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal writes
        if event == "open":
            path, mode = arguments[0], arguments[1]
            writing = isinstance(mode, str) and any(letter in mode for letter in "wax+")
        elif event == "os.rename":
            path, writing = arguments[1], True
        else:
            return
        if not writing or not isinstance(path, str) or not path.startswith(root) or path.endswith(".png"):
            return
        writes += 1
        stage, _, inside = path.removeprefix(f"{root}/artifacts/").partition("/")
        if writes == fatal_write or (stage in spared and "/record.json" in inside):
            os.write(log, f"{event} {path.removeprefix(root)}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    count_replays(Path(f"{root}.replays"))
    sys.addaudithook(watch)
    run(job, "killed", root)


def count_replays(file: Path) -> None:
    """A line in `file` for each policy that is made again, which the trainer logs."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("replaying"):
                with file.open("a") as stream:
                    stream.write(f"{record.getMessage()}\n")

    logger = logging.getLogger("prefect.racro.trainer")
    logger.addHandler(Lines())
    logger.setLevel(logging.INFO)


def import_what_a_run_imports(job: str, root: str) -> None:
    """Import in this process everything that a run loads lazily: each child would pay for it again.

    What that is, a forked child finds out by a run under ROOT.warm; this process must stay free of threads.
    """
    names = Path(f"{root}.modules")
    pid = os.fork()
    if pid == 0:
        run(job, "warm", f"{root}.warm")
        names.write_text("\n".join(sys.modules))
        os._exit(0)
    os.waitpid(pid, 0)
    for name in names.read_text().splitlines():
        with contextlib.suppress(ImportError, AttributeError):  # names that modules made up for themselves
            importlib.import_module(name)


def records(root: str) -> dict[str, int]:
    """Every record under the root and when it was written, in nanoseconds."""
    return {str(file): file.stat().st_mtime_ns for file in Path(root).rglob("record.json")}


def main(root: str, seed: int, job: str = "train") -> None:
    import_what_a_run_imports(job, root)
    dice = random.Random(seed)
    log = os.open(f"{root}.kills", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    seen: dict[str, int] = {}
    rewritten: list[str] = []
    attempts, begun = 0, time.time()
    while attempts < 80:
        attempts += 1
        fatal = dice.randint(1, 120 if job.startswith("http") else 60)
        pid = os.fork()
        if pid == 0:
            try:
                child(job, root, fatal, log)
                os._exit(0)
            except BaseException:  # of a fork: nothing may get past this frame, which is the parent's too
                traceback.print_exc()
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        now = records(root)
        rewritten += [path for path, written in seen.items() if now.get(path) != written]
        seen = now
        if os.WIFEXITED(status):
            if os.WEXITSTATUS(status) != 0:
                sys.exit("a child failed; see above")
            break
    summary = json.loads((Path(root) / "killed" / "summary.json").read_text())
    kills = Path(f"{root}.kills").read_text().splitlines()
    replays = Path(f"{root}.replays")
    replayed = len(replays.read_text().splitlines()) if replays.exists() else 0
    result = {"attempts": attempts, "kills": kills, "rewritten": rewritten, "policy": summary["policy"]["digest"]}
    result |= {"replayed": replayed, "begun": begun}
    print(json.dumps(result | {"stages": len(seen)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
