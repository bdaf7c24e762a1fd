"""The load of this machine in MLflow, beside a run's metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tasks.recording.undisturbed import undisturbed
from tasks.running.telemetry import attempt


@contextlib.contextmanager
def system_metrics(run_id: str) -> Iterator[None]:
    """CPU, memory, disk, network and GPU of this machine, while the context lasts."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    def start() -> SystemMetricsMonitor:
        monitor = SystemMetricsMonitor(run_id, sampling_interval=5, resume_logging=True)
        monitor.start()
        return monitor

    monitor = attempt("the machine's load in MLflow", undisturbed(start))
    try:
        yield
    finally:
        if monitor is not None:
            attempt("the machine's load in MLflow", undisturbed(monitor.finish), last=True)
