"""What `racro serve` offers: names of runs and never of folders, and the API alone where Gradio is missing."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path

import httpx
import pytest
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient

from flows import interruption
from flows.cli.serving import Address, _page, start
from flows.engine_pair import BadOption, Models
from flows.serving import Catalogue, content, shown
from flows.station import local
from racro.config import loading
from racro.models.folders import EMBEDDED
from racro.serving import api
from racro.serving.limits import Limits
from racro.serving.pairs import Pairs, Unknown
from racro.serving.service import Service
from racro.serving.votes import Votes
from tasks.recording import store
from tests.support.ports import reserve


def test_a_client_names_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "captioner").symlink_to(EMBEDDED / "captioner")
    catalogue = Catalogue(Models(root=str(tmp_path / "runs")), [], None)
    for name in ("captioner", "./captioner", str(EMBEDDED / "captioner"), "..", "s3://bucket/x", "gone", "A" * 300):
        with pytest.raises(Unknown):
            catalogue.find(name, "embedded")
    assert catalogue.find("initial", "embedded").captioner == catalogue.find("", "embedded").captioner


def test_reasoners_have_short_names_and_different_ones() -> None:
    assert shown("/home/me/models/mind/") == "mind" and shown("Qwen/Qwen2.5-7B") == "Qwen2.5-7B"
    assert list(Catalogue(Models(), ["embedded", "a/b"], None).minds) == ["embedded", "b"]
    with pytest.raises(BadOption, match="another one is called b too"):
        Catalogue(Models(), ["a/b", "c/b"], None)


def test_the_page_says_what_tiny_models_know_and_begins_with_examples() -> None:
    made = content(Models(), loading.load("embedded", []))
    assert "coloured bars" in made.note and 3 <= len(made.examples) <= 6
    assert all("<image>" not in example.question for example in made.examples)
    assert content(Models(captioner="a", reasoner="b"), None).note == ""


def test_without_gradio_there_is_the_api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    catalogue = Catalogue(Models(), [], None)
    service = Service(Pairs(catalogue.find, ["embedded"], catalogue.captioners), Limits())
    assert not _page(FastAPI(), service, catalogue, Votes(tmp_path / "votes"), "")


def test_addresses_are_for_people() -> None:
    assert Address("0.0.0.0", 80).url == "http://127.0.0.1:80" and Address("0.0.0.0", 80).open
    assert Address("::1", 80).url == "http://[::1]:80" and not Address("::1", 80).open
    assert not Address("0.0.0.0", 80, "key").open
    for key in ("Schlüssel", "two words", " ", "a\nb"):
        with pytest.raises(BadOption, match="--api-key: write it in letters"):
            Address("127.0.0.1", 80, key)


def test_with_a_key_the_page_is_for_those_who_have_it(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    catalogue = Catalogue(Models(), [], None)
    service = Service(Pairs(catalogue.find, ["embedded"], catalogue.captioners), Limits())
    app = api.build(service, "sesame")
    assert _page(app, service, catalogue, Votes(tmp_path / "votes"), "sesame")
    with TestClient(app) as visitor:
        first = visitor.get("/")
        assert first.status_code == 200 and "racro-ask" not in first.text, "the login alone"
        assert "default-src 'self'" in first.headers["Content-Security-Policy"]
        assert visitor.post("/gradio_api/queue/join", json={"data": [], "fn_index": 0}).status_code == 401
        assert visitor.post("/login", data={"username": "me", "password": "wrong"}).status_code == 400
        assert visitor.post("/login", data={"username": "me", "password": "sesame"}).status_code == 200
        assert "racro-ask" in visitor.get("/").text
        assert visitor.get("/v1/models").status_code == 401, "the API wants the key itself"


def test_a_server_collects_its_garbage_and_answers_to_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Imports go without; a server that did so too would grow with each question. Other sites' names may lead here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(local, "settle", lambda: tmp_path)
    scripted = {"engine": {"type": "scripted", "rules": [{"replies": ["yes"]}]}}
    Path("recipe.yaml").write_text(yaml.safe_dump({"captioner": scripted, "reasoner": scripted}))
    port, collects = reserve(), []

    def wait(ready: str) -> None:
        assert ready.startswith(f"API      http://127.0.0.1:{port}/v1")
        for host, status in (
            ("localhost", 200),
            ("[::1]:1", 200),
            ("evil.example", 403),
            ("127.0.0.1.evil.example", 403),
        ):
            assert httpx.get(f"http://127.0.0.1:{port}/health", headers={"Host": host}).status_code == status
        collects.append(gc.isenabled())

    monkeypatch.setattr(interruption, "wait", wait)
    start(Models(recipe="recipe.yaml"), [], Address("127.0.0.1", port), Limits(), 2, False, [])
    assert collects == [True]


def test_where_nobody_says_who_is_champion_there_may_still_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown, it would be forgotten by a reload."""
    monkeypatch.setattr(store, "DEADLINE", 0.1)
    monkeypatch.setattr(store, "get_tracking_uri", lambda: f"http://127.0.0.1:{reserve()}")
    with pytest.raises(store.NoStore, match="does not answer"):
        Catalogue(Models(), [], None).find("champion", "embedded")


def test_a_store_that_is_silent_does_not_keep_a_visitor_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited for it would find a champion."""
    heard = threading.Event()
    monkeypatch.setattr("flows.serving.PATIENCE", 0.1)
    monkeypatch.setattr("tasks.choose.champion", lambda recipe: heard.wait(60))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{reserve()}")
    assert Catalogue(Models(root=str(tmp_path)), [], None).captioners() == ["initial"]
    heard.set()
    monkeypatch.setattr("flows.serving.PATIENCE", 60)
    assert Catalogue(Models(root=str(tmp_path)), [], None).captioners() == ["initial", "champion"]
