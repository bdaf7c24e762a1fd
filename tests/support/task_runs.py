"""What a Prefect server knows about the task runs of a flow run."""

from __future__ import annotations

import time
from collections import Counter

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName


def task_runs(run: str) -> Counter[str]:
    """How often each task of the last flow run of this name was started, retries included.

    Task runs reach the server as events, a moment after the flow has ended: counted is what no longer changes.
    """
    name = FlowRunFilter(name=FlowRunFilterName(any_=[run]))
    before: Counter[str] | None = None
    with get_client(sync_client=True) as client:
        for _ in range(30):
            found = client.read_task_runs(flow_run_filter=name)
            counted = Counter({t.name: t.run_count for t in found})
            if counted == before and all(t.state is not None and t.state.is_final() for t in found):
                break
            before = counted
            time.sleep(1.0)
    return counted
