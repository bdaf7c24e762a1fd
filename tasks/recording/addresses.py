"""Where can people look at a run? Addresses in Prefect and MLflow, and of its files."""

from __future__ import annotations

import functools
from urllib.parse import quote

import mlflow
from mlflow import MlflowClient
from prefect.runtime import flow_run

from racro.storage import layout
from tasks.recording.undisturbed import undisturbed
from tasks.running.telemetry import attempt

RACRO_UI = "http://127.0.0.1:5000"
"""Where `racro ui` shows a local store of MLflow."""


def of_run(mlflow_run: str, root: str, name: str) -> dict[str, str]:
    """Label -> address of a run's report, recipe and pages in MLflow and Prefect.

    Report and recipe are pages of MLflow if that is a server; otherwise they are the files themselves.
    """
    store = mlflow.get_tracking_uri().rstrip("/")
    served = store.startswith(("http://", "https://"))
    experiment = attempt("a link to MLflow", lambda: _experiment(mlflow_run))
    page = f"{store if served else RACRO_UI}/#/experiments/{experiment}/runs/{mlflow_run}"
    found = {
        label: f"{page}/artifacts/{uri.rpartition('/')[2]}" if served and experiment else _address(uri)
        for label, uri in {"report": layout.report(root, name), "recipe": layout.recipe(root, name)}.items()
    }
    if experiment:
        found["MLflow run"] = f"{page}/model-metrics?workflowType=machine_learning"
    if url := flow_run.ui_url:
        found["Prefect flow run"] = url
    return found


@functools.lru_cache(maxsize=8)
@undisturbed
def _experiment(mlflow_run: str) -> str:
    """Number of a run's experiment, asked once: the server may be away later."""
    return str(MlflowClient().get_run(mlflow_run).info.experiment_id)


def _address(uri: str) -> str:
    """A path as an address that a browser on this machine opens; URIs stay."""
    return uri if "://" in uri else f"file://{quote(uri)}"
