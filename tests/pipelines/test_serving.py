"""A server and MLflow: a champion that moves there is the one that answers, and votes are feedback there.

The server is in this process, on scripted models, and so are MLflow's own handlers of its API.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest
from mlflow import MlflowClient
from PIL import Image

from flows.cli.serving import Address, _votes
from flows.engine_pair import BadOption
from racro import config
from racro.answering.pipeline import Racro
from racro.config import Scripted, ScriptedReply
from racro.serving import api, server
from racro.serving.limits import Limits
from racro.serving.pairs import Pairs
from racro.serving.service import Service
from racro.serving.votes import Votes
from tasks.recording import store, track
from tasks.running import telemetry
from tests.support.eventually import eventually
from tests.support.ports import reserve

KEY, MODEL = "sesame", "captioner-that-is-served"
BEARER = {"Authorization": f"Bearer {KEY}"}


class Server:
    """On a port of its own, with the champion that MLflow names."""

    def __init__(self, votes: Votes) -> None:
        self.address = Address("127.0.0.1", reserve(), KEY)
        self.url = self.address.url
        self.service = Service(Pairs(find, ["mind"], lambda: ["champion"]), Limits())
        self.app = api.build(self.service, KEY, votes)

    def ask(self, model: str = "racro:champion", stream: bool = False) -> dict[str, Any]:
        """The completion; of a stream the last event with an answer."""
        buffer = io.BytesIO()
        Image.new("RGB", (28, 28)).save(buffer, "PNG")
        image = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        parts = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": "What?"}]
        content = {"model": model, "messages": [{"role": "user", "content": parts}], "stream": stream}
        made = httpx.post(f"{self.url}/v1/chat/completions", json=content, headers=BEARER, timeout=60)
        assert made.status_code == 200, made.text
        if stream:
            events = [line.removeprefix("data: ") for line in made.text.splitlines() if line.startswith("data: {")]
            return dict(json.loads(events[-1]))
        return dict(made.json())

    def vote(self, content: Any, **headers: str) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/votes", json=content, headers=headers or BEARER, timeout=60)


def find(captioner: str, reasoner: str) -> Racro:
    """A captioner that says the description of the champion's version in MLflow."""
    said = "default"
    if captioner == "champion":
        said = str(MlflowClient().get_model_version_by_alias(MODEL, "champion").description)
    mind = ScriptedReply(when="image: (\\w+)", replies=("\\boxed{\\1}",))
    return Racro(
        config.Captioner(engine=Scripted(rules=(ScriptedReply(replies=(said,)),))),
        config.Reasoner(engine=Scripted(rules=(mind,))),
    )


@pytest.fixture(scope="module")
def champions() -> Iterator[MlflowClient]:
    """A registered model with two versions, the first of which is champion."""
    client = store.client()
    client.create_registered_model(MODEL)
    for said in ("first", "second"):
        client.create_model_version(MODEL, source="/nowhere", description=said)
    client.set_registered_model_alias(MODEL, "champion", "1")
    yield client
    client.delete_registered_model(MODEL)


@pytest.fixture
def votes(tmp_path: Path) -> Votes:
    return _votes(["mlflow"], str(tmp_path), tmp_path)


@pytest.fixture
def served(champions: MlflowClient, votes: Votes) -> Iterator[Server]:
    made = Server(votes)
    with server.running(made.app, made.address.host, made.address.port, 30, made.service.end):
        yield made
    made.service.pairs.close()


def test_a_champion_that_moves_in_mlflow_answers_from_then_on(
    served: Server, champions: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow delivers its webhook, signed with the server's key; what somebody else signs is refused."""
    from mlflow.server import app

    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true")
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http")
    monkeypatch.setenv("MLFLOW_WEBHOOK_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", base64.urlsafe_b64encode(bytes(32)).decode())
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", mlflow.get_tracking_uri())
    tracking = app.test_client()

    def tell(address: str, **content: Any) -> Any:
        answer = tracking.post(f"/api/2.0/mlflow/{address}", json=content)
        assert answer.status_code == 200, answer.text
        return answer.get_json()

    event = {"entity": "MODEL_VERSION_ALIAS", "action": "CREATED"}
    tell("webhooks", name="racro-serve", url=f"{served.url}/admin/reload", events=[event], secret=KEY)
    assert served.ask()["racro"]["final"] == "first"
    tell("registered-models/alias", name=MODEL, alias="champion", version="2")
    assert eventually(lambda: served.ask()["racro"]["final"] == "second", 60)

    champions.set_registered_model_alias(MODEL, "champion", "1")  # without MLflow's server nobody is told
    stamps = {"X-MLflow-Delivery-Id": "1", "X-MLflow-Timestamp": "1"}
    for signature in ("v1,AAAA", "", "v1,é".encode()):
        forged = httpx.post(f"{served.url}/admin/reload", headers={**stamps, "X-MLflow-Signature": signature})
        assert forged.status_code == 401
    assert served.ask()["racro"]["final"] == "second"
    assert httpx.post(f"{served.url}/admin/reload", headers=BEARER, timeout=60).json() == {"status": "reloaded"}
    assert served.ask()["racro"]["final"] == "first"


@pytest.mark.parametrize(("model", "stream"), [("racro", False), ("racro@mind", True)])
def test_a_vote_on_an_answer_is_a_line_and_feedback_in_mlflow(
    served: Server, votes: Votes, model: str, stream: bool
) -> None:
    answer = served.ask(model, stream)
    assert served.vote({"id": answer["id"], "vote": "down"}).json() == {"status": "saved"}
    [line] = votes.file.read_text().splitlines()
    row = json.loads(line)
    assert (row["vote"], row["model"], row["question"], row["final"]) == ("down", model, "What?", "default")
    assert len(row["image_sha256"]) == 64
    assert 'racro_votes_total{vote="down"} 1.0' in httpx.get(f"{served.url}/metrics").text

    def recorded() -> list[Any]:
        found = mlflow.search_traces(
            locations=[track.experiment_id(MlflowClient())], return_type="list", include_spans=True
        )
        return [trace for trace in found if trace.info.assessments and trace.info.tags.get("racro.model") == model]

    assert eventually(recorded, 60)
    [trace] = recorded()
    [feedback] = trace.info.assessments
    assert (feedback.name, feedback.value, feedback.source.source_type) == ("vote", False, "HUMAN")
    [span] = trace.data.spans
    assert span.inputs["question"] == "What?" and span.outputs["final"] == "default"


def test_votes_that_cannot_be_are_refused(served: Server, votes: Votes) -> None:
    answer = served.ask("racro")
    good = {"id": answer["id"], "vote": "up"}
    assert served.vote(good, Authorization="Bearer wrong").status_code == 401
    for bad, status in (
        ({**good, "id": "gone"}, 404),
        ({**good, "vote": "maybe"}, 400),
        ([], 400),
        ({"vote": "up"}, 400),
    ):
        refused = served.vote(bad)
        assert refused.status_code == status and refused.json()["error"]["message"]
    assert not votes.file.exists()


def test_a_store_that_is_away_costs_no_vote(
    served: Server, votes: Votes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(**_: Any) -> None:
        raise OSError("the store is away")

    monkeypatch.setattr(telemetry, "_warned", set())
    monkeypatch.setattr(mlflow, "log_feedback", away)
    answer = served.ask("racro")
    for _ in range(2):
        assert served.vote({"id": answer["id"], "vote": "up"}).status_code == 200
    assert eventually(lambda: "a vote in MLflow is not recorded (OSError: the store is away)" in caplog.text, 60)
    assert len(votes.file.read_text().splitlines()) == 2


def test_votes_go_to_one_file(tmp_path: Path) -> None:
    assert _votes([], "s3://bucket/runs", tmp_path).file == tmp_path / "votes.jsonl"
    own = _votes([str(tmp_path / "own.jsonl")], "runs", tmp_path)
    assert own.file == tmp_path / "own.jsonl" and own.more is None
    with pytest.raises(BadOption, match="--votes: several files"):
        _votes(["a", "b"], "runs", tmp_path)
