"""People are told of failures, drift and new champions, and asked before a champion changes."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.eventually import eventually
from tests.support.webhook import Webhook
from tests.support.workplace import Workplace, tiny

OWN = ("iterations=1", "seed=31", "evaluation.problems=8")
"""A training with held-out problems of its own, and so with a champion of its own."""
DRIFTING = ("alarms.window=1", "alarms.gap.share=1e-9", "alarms.gap.action=stop")


def champion(place: Workplace, run: str) -> str | None:
    """Version of the champion among the policies that were judged as those of this run were."""
    search = {"filter": f"run_id = '{place.summary(run)['mlflow_run_id']}'"}
    found = httpx.get(f"{place.mlflow}/api/2.0/mlflow/model-versions/search", params=search).raise_for_status()
    name = found.json()["model_versions"][0]["name"]
    alias = {"name": name, "alias": "champion"}
    answer = httpx.get(f"{place.mlflow}/api/2.0/mlflow/registered-models/alias", params=alias)
    return str(answer.json()["model_version"]["version"]) if answer.status_code == 200 else None


def asked(place: Workplace, said: dict[str, Any]) -> dict[str, Any]:
    """A training that asks, and gets this answer as the form in the UI sends it."""
    run = place.start("train", recipe=tiny(*OWN), run="asked", approve=True)
    waiting = place.wait(run, "PAUSED", "COMPLETED", "FAILED")
    assert waiting["state"]["type"] == "PAUSED", place.log(run)
    keys = waiting["state"]["state_details"]["run_input_keyset"]
    form = place.get(f"/flow_runs/{run}/input/{keys['schema']}")
    assert form["properties"].keys() == {"approved", "note"}
    answer = place.post(f"/flow_runs/{run}/resume", run_input=said)
    assert answer.json()["status"] == "ACCEPT", answer.text
    return place.wait(run)


def test_a_denied_approval_leaves_the_champion_and_a_given_one_changes_it(place: Workplace, told: Webhook) -> None:
    done = asked(place, {"approved": False, "note": "not before Monday"})
    assert done["state"]["type"] == "COMPLETED", place.log(done["id"])
    assert champion(place, "asked") is None
    assert eventually(lambda: "not before Monday" in place.log(done["id"])), "logs follow the state"
    assert "racro.champion.changed: asked" not in told.subjects()
    done = asked(place, {"approved": True})
    assert done["state"]["type"] == "COMPLETED", place.log(done["id"])
    assert champion(place, "asked") is not None
    assert eventually(lambda: "racro.champion.changed: asked" in told.subjects())
    [message] = [one for one in told.received if one["subject"] == "racro.champion.changed: asked"]
    assert message["body"].startswith("The champion has changed: iteration")


def test_drift_and_failure_are_told_with_their_reason(place: Workplace, told: Webhook) -> None:
    run = place.start("train", recipe=tiny(*OWN, *DRIFTING), run="drifting")
    assert place.wait(run)["state"]["type"] == "FAILED"
    wanted = {"racro.drift: drifting", "racro.failed: drifting"}
    assert eventually(lambda: wanted <= {*told.subjects()}), told.subjects()
    bodies = {one["subject"]: one["body"] for one in told.received}
    assert all("log-probs of engine and trainer differ by" in bodies[subject] for subject in wanted)
