"""People are told of failures, drift and new champions, and asked before a champion changes; so are servers told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from safetensors.torch import load_file, save_file

from racro.embedded import world
from racro.models.folders import EMBEDDED
from tests.support import pages
from tests.support.eventually import eventually
from tests.support.served import KEY, Served, png
from tests.support.webhook import Webhook
from tests.support.workplace import Workplace, tiny

OWN = ("iterations=1", "seed=31", "evaluation.problems=8")
"""A training with held-out problems of its own, and so with a champion of its own."""
DRIFTING = ("alarms.window=1", "alarms.gap.share=1e-9", "alarms.gap.action=stop")


def champion(place: Workplace, run: str) -> str | None:
    """Digest of the champion among the policies that were judged as those of this run were."""
    search = {"filter": f"run_id = '{place.summary(run)['mlflow_run_id']}'"}
    found = httpx.get(f"{place.mlflow}/api/2.0/mlflow/model-versions/search", params=search).raise_for_status()
    name = found.json()["model_versions"][0]["name"]
    alias = {"name": name, "alias": "champion"}
    answer = httpx.get(f"{place.mlflow}/api/2.0/mlflow/registered-models/alias", params=alias)
    tags = {tag["key"]: tag["value"] for tag in answer.json().get("model_version", {}).get("tags", ())}
    return tags.get("racro.policy")


def asked(place: Workplace, said: dict[str, Any]) -> dict[str, Any]:
    """A training that asks, and gets this answer as the form in the UI sends it."""
    run = place.start("train", "Monday's try", recipe=tiny(*OWN), run="asked", approve=True)
    waiting = place.wait(run, "PAUSED", "COMPLETED", "FAILED")
    assert waiting["state"]["type"] == "PAUSED", place.log(run)
    keys = waiting["state"]["state_details"]["run_input_keyset"]
    path = f"/flow_runs/{run}/input/{keys['schema']}"
    assert eventually(lambda: place.ask("GET", path).is_success), "Prefect pauses first and makes the form then"
    form = place.get(path)
    assert form["properties"].keys() == {"approved", "note"}
    answer = place.post(f"/flow_runs/{run}/resume", run_input=said)
    assert answer.json()["status"] == "ACCEPT", answer.text
    return place.wait(run)


def test_a_denied_approval_leaves_the_champion_and_a_given_one_changes_it(place: Workplace, told: Webhook) -> None:
    done = asked(place, {"approved": False, "note": "not before Monday"})
    assert done["state"]["type"] == "COMPLETED", place.log(done["id"])
    assert done["name"] == "Monday's try", "what a person typed is kept"
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


def trained(place: Workplace, run: str, *overrides: str) -> str:
    """The champion after a training."""
    done = place.wait(place.start("train", recipe=tiny("iterations=1", "seed=32", *overrides), run=run))
    assert done["state"]["type"] == "COMPLETED", place.log(done["id"])
    crowned = champion(place, run)
    assert crowned is not None
    return crowned


def test_a_server_takes_up_the_champion_of_which_prefect_tells(place: Workplace, tmp_path: Path) -> None:
    """By the automation of the docs. The first captioner sees nothing, so the next training has a better one."""
    shutil.copytree(EMBEDDED / "captioner", tmp_path / "blind")
    weights = tmp_path / "blind" / "model.safetensors"
    save_file({name: one.flip(0) for name, one in load_file(weights).items()}, weights, {"format": "pt"})
    blind = trained(place, "mine", f"captioner.model={tmp_path / 'blind'}")
    with Served(place.folder, "--no-page", "--api-key", KEY) as server:
        before = captioned(server, "racro:champion")
        assert before == captioned(server, f"racro:{blind}")
        [block] = [one for one in pages.read("docs/serving.md").blocks if "CallWebhook" in one.text]
        program = block.text.replace("https://racro.example.org", server.url).replace("KEY", KEY)
        environment = os.environ | {"PREFECT_API_URL": place.api}
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
        seeing = trained(place, "seeing")
        assert seeing != blind
        assert eventually(lambda: captioned(server, "racro:champion") != before), server.said
        assert captioned(server, "racro:champion") == captioned(server, f"racro:{seeing}")
