"""People are told of failures, drift and new champions, and asked before a champion changes; so are servers told."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import httpx

from racro.embedded import world
from tests.support import pages
from tests.support.eventually import eventually
from tests.support.served import KEY, Served, png
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


def captioned(server: Served, model: str) -> str:
    """What the captioner of this name writes about a picture."""
    problem = next(one for one in world.generate("heldout", 0, 9) if len(one.scenes) == 1)
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png(problem.images()[0])}"}}
    content = [image, {"type": "text", "text": problem.question}]
    asked = {"model": model, "messages": [{"role": "user", "content": content}]}
    head = {"Authorization": f"Bearer {KEY}"}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=asked, headers=head, timeout=300)
    return str(answer.raise_for_status().json()["racro"]["caption"])


def test_a_server_takes_up_the_champion_of_which_prefect_tells(place: Workplace) -> None:
    """By the automation of the docs, from a policy that its learning rate has ruined to one that can see."""
    own = ("iterations=1", "seed=32", "evaluation.problems=16")
    trained(place, "mine", *own, "update.learning_rate=1.0")
    with Served(place.folder, "--no-page", "--api-key", KEY) as server:
        ruined = captioned(server, "racro:champion")
        assert ruined == captioned(server, "racro:mine")
        [block] = [one for one in pages.read("docs/serving.md").blocks if "CallWebhook" in one.text]
        program = block.text.replace("https://racro.example.org", server.url).replace("KEY", KEY)
        environment = os.environ | {"PREFECT_API_URL": place.api}
        subprocess.run([sys.executable, "-c", program], cwd=place.folder, env=environment, check=True)
        trained(place, "better", *own)
        assert eventually(lambda: captioned(server, "racro:champion") != ruined), place.summary("better")
        assert captioned(server, "racro:champion") == captioned(server, "racro:better")


def trained(place: Workplace, run: str, *overrides: str) -> None:
    """A training that has finished."""
    done = place.wait(place.start("train", recipe=tiny(*overrides), run=run))
    assert done["state"]["type"] == "COMPLETED", place.log(done["id"])
