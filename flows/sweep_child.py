"""One child of a sweep, in a process of its own: `python -m flows.sweep_child SPECIFICATION`.

A process, because engines and the trainer hold one model per process, GPU memory comes back only with its end, and a
child that takes its process down takes nobody else along. It writes its own outcome; `tasks.sweep` starts it and
reads that. Exit status: 0 finished, stopped or diverged, 1 failed.
"""

from __future__ import annotations

import os
import sys

for _name in [name for name in os.environ if name.startswith("PREFECT__")]:
    del os.environ[_name]  # of the sweep's own flow run, where a worker runs it: this process is not that run

from racro import imports  # noqa: E402

with imports.quick():
    from flows import interruption
    from flows.training import train
    from racro.identity import recipe_digest
    from racro.sweeps.ranking import Child
    from racro.training.divergence import Diverged
    from tasks.recording import report
    from tasks.sweep import Attempt, Hopeless


def main(specification: str) -> None:
    """Train, and say what became of it."""
    child = Child.model_validate_json(specification)
    attempt = Attempt(child, recipe_digest(child.recipe))
    report.watchers.append(attempt.watch)
    interruption.install()
    try:
        with interruption.orderly():
            summary = train(child.recipe, run=child.name, root=child.root)
    except Hopeless as why:
        attempt.stopped(str(why))
    except (Diverged, FloatingPointError) as error:  # in the update, or in an engine that holds the policy
        attempt.diverged(error)
    except Exception as error:
        attempt.failed(error)
        sys.exit(1)
    else:
        attempt.finished(summary)


if __name__ == "__main__":
    main(sys.argv[1])
