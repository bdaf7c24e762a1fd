"""A vLLM server that is started here answers as the trainer's own model, follows it, and leaves nothing behind.

Two real servers, one per role; the tests that end them come last. What is sampled is held against the transformers
engine. vLLM is never imported here: it changes the process that imports it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch

from racro import config
from racro.answering.pipeline import Racro
from racro.config import Captioner, EnginePlacement, Reasoner, Runtime
from racro.embedded import world
from racro.engines.local.transformers import TransformersEngine
from racro.engines.protocol import Completion, EngineLost, Generation, Prompt, Request, Sampling, SwapFailed
from racro.engines.remote.client import Endpoint
from racro.engines.remote.fleet import away
from racro.engines.vllm.server import Server
from racro.errors import BadInput
from racro.models.folders import EMBEDDED
from racro.prompts import describes_messages, reasoner_messages
from tests.engines.test_vllm import (
    GREEDY,
    Weights,
    agree,
    caption_prompts,
    checkpoint,
    noise,
    reasoner_prompts,
    scores,
    token_ids,
)
from tests.support import forkserver
from tests.support.asking import generations, refusal, requests

CAPTIONER = Captioner(model="embedded", dtype="float32", engine=config.Server())
REASONER = Reasoner(model="embedded", dtype="float32", engine=config.Server())
PLACE = EnginePlacement(sequences=32, cpu_cache=0.25)
"""Fewer sequences than the tests ask for at once, so that prompts wait for their turn."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Both roles, started at the same time; somebody sits on the port that the reasoner's tries first."""
    log = tmp_path_factory.mktemp("logs")
    runtime = Runtime(device="cpu", captioner=PLACE, reasoner=PLACE)
    opened: dict[str, Server] = {}
    with socket.socket() as squatter, ThreadPoolExecutor(2) as pool:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        taken = squatter.getsockname()[1]
        eyes = pool.submit(Server, "captioner", CAPTIONER, str(EMBEDDED / "captioner"), runtime, log / "captioner.log")
        mind = pool.submit(
            Server, "reasoner", REASONER, str(EMBEDDED / "reasoner"), runtime, log / "reasoner.log", taken
        )
        try:
            opened["captioner"] = eyes.result()
            opened["reasoner"] = mind.result()
            assert f":{taken}/" not in url(opened["reasoner"])
            assert "Address already in use" in (log / "reasoner.log").read_text()
            yield opened
        finally:
            for future in (eyes, mind):
                if future.exception() is None:
                    future.result().close()


@pytest.fixture(scope="module")
def captioner(servers: dict[str, Server]) -> Server:
    return servers["captioner"]


@pytest.fixture(scope="module")
def reasoner(servers: dict[str, Server]) -> Server:
    return servers["reasoner"]


@pytest.fixture(scope="module")
def undecided_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights that find all tokens equally likely: completions differ and are long."""

    def flatten(weights: Weights) -> None:
        weights["model.embed_tokens.weight"] *= 0.01

    return checkpoint(tmp_path_factory.mktemp("models") / "undecided", flatten)


@pytest.fixture
def undecided(captioner: Server, undecided_folder: str) -> Iterator[Server]:
    captioner.swap(undecided_folder)
    yield captioner
    captioner.swap(str(EMBEDDED / "captioner"))


@pytest.fixture(scope="module")
def plain_reasoner() -> TransformersEngine:
    return TransformersEngine.reasoner(str(EMBEDDED / "reasoner"), "float32", "cpu", batch=32)


def url(server: Server) -> str:
    return server.endpoint.fleet.servers[0].url


def family(server: Server) -> list[psutil.Process]:
    """The server's process and all that it has started."""
    first = psutil.Process(server.child.pid)
    return [first, *first.children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    """Within seconds: the last of them may be on its way."""
    _, alive = psutil.wait_procs(processes, timeout=10)
    return not alive


# --- answers ----------------------------------------------------------------------------------------------------------


def test_greedy_is_the_transformers_engines(captioner: Server, plain_captioner: TransformersEngine) -> None:
    """One image, two images and none; prompt ids, token ids, texts, finish reasons, log-probs."""
    agree(captioner, plain_captioner, caption_prompts())


def test_a_given_text_is_as_probable_as_to_the_transformers_engine(
    reasoner: Server, plain_reasoner: TransformersEngine
) -> None:
    """Beside sampled ones, after a turn that was begun and after one that was not."""
    messages = reasoner_messages("What is the height of the red bar?", "red three. blue four.")
    prompts = [Prompt(messages, lead=lead) for lead in ("", "bars")]
    asked = [
        Request(2 * i + j, prompt, GREEDY, 0, forced=text)
        for i, text in enumerate((None, "\\boxed{3}", "\\boxed{7}", " red three", "x"))
        for j, prompt in enumerate(prompts)
    ]
    ours, theirs = ({m.key: m for m in engine.generate(asked)} for engine in (reasoner, plain_reasoner))
    for request in asked:
        one, other = ours[request.key], theirs[request.key]
        assert isinstance(one, Generation) and isinstance(other, Generation)
        [mine], [yours] = one.completions, other.completions
        assert mine.text == yours.text
        if request.forced is not None:
            assert (one.prompt_ids, mine.token_ids) == (other.prompt_ids, yours.token_ids)
            assert mine.logprobs == pytest.approx(yours.logprobs, abs=2e-3)
    assert away(EnginePlacement(urls=(url(reasoner),)), reasoner.endpoint.fleet.servers[0].name, "reasoner", True) == []


def test_the_reasoner_answers_in_text(reasoner: Server) -> None:
    plain = TransformersEngine.reasoner(str(EMBEDDED / "reasoner"), "float32", "cpu", batch=32)
    prompts, how = reasoner_prompts(), Sampling(n=2, temperature=0.0, max_tokens=48)
    expected = generations(plain, prompts, how, [0] * len(prompts))
    for generation, other in zip(generations(reasoner, prompts, how, [0] * len(prompts)), expected, strict=True):
        assert generation.completions == tuple(Completion((), (), c.text, c.finish_reason) for c in other.completions)


@pytest.mark.parametrize(
    "how",
    [
        Sampling(n=4, max_tokens=12),
        Sampling(n=4, max_tokens=12, temperature=0.7),
        Sampling(n=4, max_tokens=12, temperature=1.5, top_p=0.8),
    ],
    ids=["plain", "cool", "nucleus"],
)
def test_logprobs_are_those_of_the_sampling_distribution(
    undecided: Server, undecided_folder: str, how: Sampling
) -> None:
    plain = TransformersEngine.captioner(undecided_folder, "float32", "cpu", batch=32)
    prompts = caption_prompts(6)
    for prompt, generation in zip(prompts, generations(undecided, prompts, how, range(len(prompts))), strict=True):
        assert len({c.token_ids for c in generation.completions}) == 4
        for completion, expected in zip(generation.completions, scores(plain, prompt, generation, how), strict=True):
            assert not set(completion.token_ids) & set(plain.banned.tolist())
            torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=1e-4, rtol=1e-4)


def test_a_completion_is_a_function_of_its_prompt_and_seed(undecided: Server) -> None:
    prompts, how = caption_prompts(20), Sampling(n=2, max_tokens=16)
    seeds = [2**62 + 1000 + i for i in range(len(prompts))]  # of which torch's generators see the last 32 bits
    together = token_ids(generations(undecided, prompts, how, seeds))
    backwards = token_ids(generations(undecided, prompts[::-1], how, seeds[::-1]))
    others = token_ids(generations(undecided, prompts, how, range(len(prompts))))
    assert together == backwards[::-1]
    assert all(one != other for one, other in zip(together, others, strict=True))


def test_more_than_one_step_can_read_is_no_harm(captioner: Server) -> None:
    """vLLM would read a prompt in parts, and on a CPU its engine dies of that when the prompt has a seed."""
    prompts = [Prompt(describes_messages(f"The red bar is {i}. " * 100)) for i in range(8)]
    made = generations(captioner, prompts, Sampling(max_tokens=4), range(8))
    assert all(len(generation.prompt_ids) > 1024 for generation in made)


def test_limits_have_their_own_finish_reasons(undecided: Server) -> None:
    prompts = caption_prompts(3)
    for generation in generations(undecided, prompts, Sampling(n=2, max_tokens=3), [0] * len(prompts)):
        assert [(c.finish_reason, len(c.token_ids)) for c in generation.completions] == [("length", 3)] * 2
    started = time.monotonic()
    late = Sampling(n=8, max_tokens=1800, temperature=0.01, deadline=0.5)
    for generation in generations(undecided, prompts, late, [0] * len(prompts)):
        assert generation.completions == (Completion((), (), "", "deadline"),) * 8
    assert time.monotonic() - started < 150
    assert len(generations(undecided, prompts, GREEDY, [0] * len(prompts))) == len(prompts), "it works on"


def test_prompts_are_never_cut(captioner: Server, reasoner: Server) -> None:
    [generation] = generations(captioner, caption_prompts(1)[:1], Sampling(max_tokens=1), [0])
    room = 2048 - len(generation.prompt_ids)
    generations(captioner, caption_prompts(1)[:1], Sampling(max_tokens=room), [0])
    for engine, prompt in ((captioner, caption_prompts(1)[0]), (reasoner, reasoner_prompts()[0])):
        for max_tokens in (2047, 100_000):
            assert "lower max_tokens" in refusal(engine, prompt, Sampling(max_tokens=max_tokens))


# --- other weights ----------------------------------------------------------------------------------------------------


def test_a_swap_leaves_nothing_of_the_old_weights(
    captioner: Server, plain_captioner: TransformersEngine, tmp_path: Path
) -> None:
    prompts = caption_prompts(8)
    agree(captioner, plain_captioner, prompts)
    for part in ("", "embed_tokens"):
        folder = checkpoint(tmp_path / f"noisy {part}", noise(0.2, part))
        captioner.swap(folder)
        agree(captioner, TransformersEngine.captioner(folder, "float32", "cpu", batch=32), prompts)
    captioner.swap(str(EMBEDDED / "captioner"))
    agree(captioner, plain_captioner, prompts)


def test_another_model_is_not_loaded(captioner: Server, plain_captioner: TransformersEngine) -> None:
    with pytest.raises(SwapFailed, match="no checkpoint of the engine's model"):
        captioner.swap(str(EMBEDDED / "reasoner"))
    agree(captioner, plain_captioner, caption_prompts(2))
    assert not captioner.lost


def test_a_diverged_model_is_an_error(captioner: Server, tmp_path: Path) -> None:
    captioner.swap(
        checkpoint(tmp_path / "diverged", lambda weights: weights["model.embed_tokens.weight"].fill_(torch.nan))
    )
    with pytest.raises(FloatingPointError, match="diverged"):
        generations(captioner, caption_prompts(1), GREEDY, [0, 0])
    captioner.swap(str(EMBEDDED / "captioner"))


def test_a_server_by_its_url_is_as_good(captioner: Server, plain_captioner: TransformersEngine, tmp_path: Path) -> None:
    model = captioner.endpoint.fleet.servers[0].name
    mine = Endpoint([url(captioner)], model, PLACE, "captioner", str(EMBEDDED / "captioner"), "float32")
    try:
        folder = checkpoint(tmp_path / "noisy", noise(0.2))
        mine.swap(folder)
        agree(mine, TransformersEngine.captioner(folder, "float32", "cpu", batch=32), caption_prompts(4))
        mine.swap(str(EMBEDDED / "captioner"))
        agree(mine, plain_captioner, caption_prompts(4))
        with pytest.raises(BadInput, match=rf"has no model 'embedded'; it has {model}\."):
            Endpoint([url(captioner)], "embedded", PLACE, "captioner", str(EMBEDDED / "captioner"))
    finally:
        mine.close()


def test_a_pair_behind_urls_answers_within_the_servers_context(
    captioner: Server, reasoner: Server, plain_captioner: TransformersEngine, tmp_path: Path
) -> None:
    """The servers know a context of 2,048 tokens, the command does not; names are the servers' own."""
    problem = world.problem("heldout", 0, 0)
    image = tmp_path / "bars.png"
    problem.images()[0].save(image)
    asked = ["--image", str(image), "--question", problem.question]
    for role, server in (("captioner", captioner), ("reasoner", reasoner)):
        asked += [f"--{role}", server.endpoint.fleet.servers[0].name, f"--{role}-url", url(server)]
    command = [forkserver.shared().racro, "answer", "--json", *asked]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    with Racro(plain_captioner, "embedded") as local:
        expected = local.answer(image, problem.question)
    assert (answer["caption"], answer["attempt"]) == (expected.caption, expected.attempt)
    assert answer["finish"]["answer"] == "stop"


# --- what cannot be served --------------------------------------------------------------------------------------------


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    runtime = Runtime(device="cpu", captioner=PLACE, reasoner=EnginePlacement(start_deadline=0.5))
    with pytest.raises(BadInput, match=r"^captioner\.model: the folder \S+ holds no config\.json"):
        Server("captioner", CAPTIONER, str(tmp_path), runtime, tmp_path / "log")
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(EngineLost, match=r"did not answer within runtime\.reasoner\.start_deadline \(0\.5 s\)"):
        Server("reasoner", REASONER, str(EMBEDDED / "reasoner"), runtime, tmp_path / "log")
    assert gone(list(set(psutil.Process().children(recursive=True)) - before))
    awq = CAPTIONER.model_copy(update={"engine": config.Server(quantization="nonsense")})
    with pytest.raises(BadInput, match=r"^captioner\.engine: vLLM refuses the model or the settings: .*nonsense"):
        Server("captioner", awq, str(EMBEDDED / "captioner"), runtime, tmp_path / "log")


# --- faults; these end the servers ------------------------------------------------------------------------------------


def test_a_killed_server_is_lost(reasoner: Server) -> None:
    processes = family(reasoner)
    prompts = reasoner_prompts() * 200
    results = reasoner.generate(requests(prompts, Sampling(max_tokens=64), range(len(prompts))))
    next(results)
    os.kill(reasoner.child.pid, signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(EngineLost, match=r"^reasoner: the vLLM server has ended \(killed by signal 9\)"):
        list(results)
    assert time.monotonic() - started < 50, "long before it would count as hung"
    assert reasoner.lost
    with pytest.raises(EngineLost, match="has ended"):
        reasoner.swap(str(EMBEDDED / "reasoner"))
    reasoner.close()
    assert gone(processes)


def test_a_hung_server_is_lost(captioner: Server) -> None:
    """Its engine stands still, and then all of it; what cannot be woken can be killed."""
    processes = family(captioner)
    assert len(processes) > 1
    impatient = PLACE.model_copy(update={"silence": 2.0})
    model = captioner.endpoint.fleet.servers[0].name
    prompts = caption_prompts()
    for stopped in (processes[1:], processes):
        client = Endpoint([url(captioner)], model, impatient, "captioner", str(EMBEDDED / "captioner"), "float32")
        for process in stopped:
            process.suspend()
        try:
            started = time.monotonic()
            with pytest.raises(EngineLost, match=r"no sign of life for 2 s"):
                generations(client, prompts, GREEDY, [0] * len(prompts))
            assert 2 <= time.monotonic() - started < 100
            assert client.lost
            with pytest.raises(EngineLost):
                client.swap(str(EMBEDDED / "captioner"))
        finally:
            client.close()
            if stopped is not processes:
                for process in stopped:
                    process.resume()
    assert not captioner.lost
    threading.Timer(0.5, captioner.close).start()
    with pytest.raises(EngineLost, match="closed"):
        generations(captioner, prompts, GREEDY, [0] * len(prompts))
    captioner.close()
    assert gone(processes)
