"""A program that conducts trainings on a machine of a laboratory, and stops where it is told until it may go on.

    python -P -m tests.support.conducting

Reads a line for each training from standard input, `{"run", "root", "recipe", "settings", "stops"}`, and says `["done",
SUMMARY]` at its end. `stops` are moments in their order: at each it says `[MOMENT, PLACES]` and waits for another line;
`again` has it stop at the next moment of this kind too.
`caption`, `reason`: the captioner of a training, a reasoner has answered; `update`: one begins; PLACES are addresses of
the nodes that work on it. `begin STAGE`: this process is to make an artifact; `commit STAGE`: its files are written,
its record is not; PLACES is its folder. A line `{"fetch": URI, "to": FOLDER}` copies from a storage that only the
machine reaches.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any, cast

from flows.station import local
from racro.config import loading
from racro.engines.balanced import Balanced
from racro.engines.protocol import Generation, Refusal
from racro.engines.worker.client import Worker
from racro.storage import attempts, leases
from racro.storage.files import opened
from racro.training.service import Processes

PATIENCE = {"pause": 0.5, "looks": 40}
"""Of leases: a busy machine may be silent for some seconds."""
OUT = os.fdopen(os.dup(1), "w")
"""Standard output for what is said here only."""


class Conductor:
    """Stops at moments."""

    def __init__(self) -> None:
        self.stops: list[str] = []

    def conduct(self) -> None:
        """Until standard input ends."""
        from flows.training import train  # Prefect reads the environment when it is imported

        for line in iter(sys.stdin.readline, ""):
            asked = json.loads(line)
            if "fetch" in asked:
                fs, path = opened(asked["fetch"])
                fs.get(f"{path}/", asked["to"], recursive=True)
                self.say("fetched", asked["to"])
            else:
                self.stops = asked["stops"]
                recipe = loading.load(asked["recipe"], asked["settings"])
                self.say("done", train(recipe, run=asked["run"], root=asked["root"]).model_dump(mode="json"))

    def say(self, *what: Any) -> None:
        print(json.dumps(what), file=OUT, flush=True)

    def reached(self, moment: str, places: list[str]) -> None:
        """Stop, if this is the next moment to stop at."""
        if self.stops[:1] == [moment]:
            self.say(moment, places)
            if json.loads(sys.stdin.readline()) != "again":
                del self.stops[0]

    def watch(self) -> None:
        """Have everything that happens said to `reached`."""
        generate, update = Balanced.generate, Processes.update
        new, commit, held = attempts.new, leases.Lease.commit, leases.held

        def answers(engine: Balanced, requests: Any) -> Iterator[Generation | Refusal]:
            workers = cast(list[Worker], engine.engines)
            for answer in generate(engine, requests):
                captions = isinstance(answer, Generation) and len(answer.completions) > 1  # for one image, to compare
                if captions or workers[0].role != "captioner":
                    where = [worker.machine.address for worker in workers]
                    self.reached("caption" if workers[0].role == "captioner" else "reason", where)
                yield answer

        def begins(service: Processes, *arguments: Any) -> dict[str, float]:
            self.reached("update", [machine.address for machine in service.machines])
            return update(service, *arguments)

        def attempted(folder: str) -> str:
            attempt = new(folder)
            self.reached(f"begin {folder.split('/')[-2]}", [folder])
            return attempt

        def commits(lease: leases.Lease, record: str) -> bool:
            self.reached(f"commit {lease.place.split('/')[-2]}", [lease.place])
            return commit(lease, record)

        Balanced.generate, Processes.update = answers, begins  # type: ignore[method-assign, assignment]
        attempts.new, leases.Lease.commit = attempted, commits  # type: ignore[method-assign]
        leases.held = lambda *arguments: held(*arguments, **PATIENCE)  # type: ignore[assignment, arg-type]


def main() -> None:
    """See above."""
    os.dup2(2, 1)
    conductor = Conductor()
    conductor.watch()
    with local.prefect_server(local.settle()):
        conductor.conduct()


if __name__ == "__main__":
    main()
