"""`racro export`: a trained captioner on disk and on the hub, with a card; mistakes are one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from huggingface_hub import HfApi

from flows.cli.exporting import CannotPush, upload
from flows.training import train
from racro.config import EnginePlacement, loading
from racro.embedded import world
from racro.engines.local.transformers import TransformersEngine
from racro.engines.protocol import Prompt, Sampling
from racro.engines.vllm.environment import environment as vllm_environment
from racro.models.folders import model_digest
from racro.processes.child import Child, free_port
from racro.prompts import caption_messages
from racro.summary import Summary
from tests.commands.test_cli import environment
from tests.conftest import EMBEDDED_RECIPE, TINY
from tests.support import hub
from tests.support.asking import generations
from tests.support.forkserver import Done, run
from tests.support.served import png


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> tuple[Path, Summary]:
    """Root and summary of a training."""
    root = tmp_path_factory.mktemp("root")
    return root, train(loading.load(EMBEDDED_RECIPE, [*TINY, "iterations=1"]), run="small", root=str(root))


@pytest.fixture(scope="module")
def done(trained: tuple[Path, Summary], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, hub.Hub, list[Done]]:
    """Every command of this file, in one working directory."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "work").mkdir()
    root, summary = trained
    with hub.served() as there:
        commands = [
            ["export", "small", "--root", str(root), "--out", "captioner", "--push", "me/captioner", "--private"],
            ["export", summary.policy.digest[:10], "--root", str(root), "--out", "captioner"],
            ["export", summary.policy.digest[:10], "--root", str(root), "--out", "half", "--dtype", "bfloat16"],
            ["export", "initial", "--recipe", "embedded", "--out", "first"],
            ["export", "nobody", "--out", "other"],
            ["export", "small", "--root", str(root), "--out", "x", "--merge"],
            ["export", "initial", "--recipe", "embedded", "--out", "again", "--push", "no slash/and space"],
        ]
        settings = {"HF_ENDPOINT": there.url, "HF_TOKEN": there.token, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        results = run(commands, folder / "work", environment(folder, **settings), libraries=["tasks.choose"])
    return folder / "work", there, results


def test_a_run_is_exported_with_its_figures(
    done: tuple[Path, hub.Hub, list[Done]], trained: tuple[Path, Summary]
) -> None:
    folder, _, (first, again, half, initial, *_) = done
    assert first.code == 0, first.err
    exported = folder / "captioner"
    assert model_digest(exported) == trained[1].policy.digest
    assert trained[1].final.share.percent in (exported / "README.md").read_text()
    assert again.code == 2 and "--out captioner: is not empty" in again.err
    assert half.code == 0, half.err
    size = (exported / "model.safetensors").stat().st_size
    assert (folder / "half" / "model.safetensors").stat().st_size < 0.6 * size
    assert initial.code == 0, initial.err
    assert "Not known" in (folder / "first" / "README.md").read_text()


def test_it_is_on_the_hub_file_by_file(done: tuple[Path, hub.Hub, list[Done]]) -> None:
    folder, there, (first, *_) = done
    assert there.repositories == {"me/captioner": True}
    assert there.files == {file.name: file.read_bytes() for file in (folder / "captioner").iterdir()}
    assert f"uploaded to {there.url}/me/captioner" in first.out
    assert b'folder = "me/captioner"' in there.files["README.md"]


@pytest.fixture
def plain_server(
    done: tuple[Path, hub.Hub, list[Done]], tmp_path: Path, forked_engines: None
) -> Iterator[openai.OpenAI]:
    """vLLM's own server on the exported folder: it knows nothing of this project."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(done[0] / "captioner")]
    url = f"http://127.0.0.1:{(port := free_port())}"
    options = ["--port", str(port), "--served-model-name", "captioner", "--enforce-eager"]
    variables = vllm_environment(EnginePlacement(cpu_cache=0.25), cpu=True)
    server = Child([*command, *options], env=variables, log=tmp_path / "vllm.log")

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/health", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    try:
        assert server.wait_until(ready, 600), server.last_words()
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", http_client=httpx.Client(trust_env=False))
    finally:
        server.stop(10)


def test_a_plain_vllm_server_says_what_the_policy_says(
    plain_server: openai.OpenAI, trained: tuple[Path, Summary]
) -> None:
    problems = [world.problem("heldout", 0, number) for number in range(4)]
    prompts = [Prompt(caption_messages(one.question, len(one.scenes)), tuple(one.images())) for one in problems]
    ours = TransformersEngine.captioner(trained[1].policy.uri, "float32", "cpu", batch=4)
    told = []
    for prompt in prompts:
        images = (f"data:image/png;base64,{png(image)}" for image in prompt.images)
        asked: list[dict[str, Any]] = [
            {
                "role": message["role"],
                "content": [
                    {"type": "image_url", "image_url": {"url": next(images)}} if part["type"] == "image" else part
                    for part in message["content"]
                ],
            }
            for message in prompt.messages
        ]
        answer = plain_server.chat.completions.create(
            model="captioner",
            messages=asked,  # type: ignore[arg-type]
            temperature=0,
            max_tokens=64,
        )
        told.append(answer.choices[0].message.content)
    greedy = Sampling(max_tokens=64, temperature=0.0)
    assert told == [one.completions[0].text for one in generations(ours, prompts, greedy, range(4))]


def test_a_mistake_is_one_line(done: tuple[Path, hub.Hub, list[Done]]) -> None:
    _, _, (*_, nobody, merged, name) = done
    for result, line in (
        (nobody, "racro: policy nobody: no policy is there"),
        (merged, "racro: --merge: this captioner is a whole model already"),
        (name, "racro: --push no slash/and space: "),
    ):
        assert result.code == 2, result.err
        ours = [line for line in result.err.splitlines() if line.startswith("racro: ")]
        [said] = [line for line in ours if not line.startswith("racro: looking for the captioner ")]
        assert said.startswith(line) and "Traceback" not in result.err


def test_a_hub_that_is_out_of_reach_is_one_line_and_the_folder_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(HfApi, "create_repo", unreachable)
    with pytest.raises(CannotPush, match=f"--push me/it: connection refused; the folder {tmp_path} is complete"):
        upload(tmp_path, "me/it", private=False)
