"""Servers behind URLs: what goes wrong with them costs time, never a prompt, and is said in one line."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from racro.config import Address, EnginePlacement
from racro.engines.protocol import BadPrompt, Completion, EngineLost, Generation, Prompt, Refusal, Request, Sampling
from racro.engines.remote import chat
from racro.engines.remote.client import Endpoint
from racro.engines.remote.fleet import away
from racro.errors import BadInput
from racro.prompts import caption_messages
from tests.support.asking import answers, generations, refusal, requests
from tests.support.eventually import eventually
from tests.support.examples import examples
from tests.support.talker import Reply, Talker, last_text, refused, said

GREEDY = Sampling(temperature=0.0, max_tokens=32, deadline=30)


@pytest.fixture
def talk() -> Iterator[Callable[..., Talker]]:
    """Starts servers."""
    started: list[Talker] = []

    def start(*args: Any, **options: Any) -> Talker:
        started.append(Talker(*args, **options))
        return started[-1]

    yield start
    for talker in started:
        talker.die()


@pytest.fixture
def connect() -> Iterator[Callable[..., Endpoint]]:
    """Opens engines."""
    opened: list[Endpoint] = []

    def open_(*talkers: Talker | str | Address, **place: Any) -> Endpoint:
        urls = [talker.url if isinstance(talker, Talker) else talker for talker in talkers]
        opened.append(Endpoint(urls, "m", EnginePlacement(**{"silence": 20.0, **place}), "reasoner", ""))
        return opened[-1]

    yield open_
    for engine in opened:
        engine.close()


def ask(text: str) -> Prompt:
    return Prompt([{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": text}]}])


def texts(made: Sequence[Generation]) -> list[str]:
    return [generation.completions[0].text for generation in made]


def all_of(engine: Endpoint, count: int = 1, how: Sampling = GREEDY) -> list[Generation]:
    return generations(engine, [ask(str(i)) for i in range(count)], how, range(count))


def in_turn(*replies: Reply) -> Callable[[dict[str, Any], int], Reply]:
    """These, then echoes."""
    return lambda body, i: replies[i] if i < len(replies) else said(last_text(body))


# --- what is asked, what is understood --------------------------------------------------------------------------------


def test_other_servers_get_only_fields_that_all_know(
    talk: Callable[..., Talker], connect: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-1")
    talker = talk()
    engine = connect(talker, api_key="SOME_KEY")
    how = Sampling(n=3, temperature=0.7, top_p=0.9, max_tokens=5)
    [generation] = generations(engine, [ask("hello")], how, [2**63 - 1])
    assert generation == Generation(0, (), (Completion((), (), "hello", "stop"),) * 3)
    assert [set(body) for body in talker.asked] == [
        {"model", "messages", "temperature", "top_p", "max_tokens", "seed"}
    ] * 3
    assert len({body["seed"] for body in talker.asked}) == 3, "samples of one prompt differ"
    assert all(0 <= body["seed"] < 2**31 for body in talker.asked)
    assert talker.asked[0]["messages"] == [{"role": "system", "content": "s"}, {"role": "user", "content": "hello"}]
    assert talker.headers[0]["Authorization"] == "Bearer sk-1"


def test_a_vllm_server_is_asked_for_all_samples_at_once(
    talk: Callable[..., Talker], connect: Callable[..., Endpoint]
) -> None:
    def reply(body: dict[str, Any], i: int) -> Reply:
        choices = [
            {"index": k, "finish_reason": "length", "message": {"content": str(k)}} for k in reversed(range(body["n"]))
        ]
        return 200, {}, json.dumps({"choices": choices}).encode()

    talker = talk(reply, vllm=True)
    engine = connect(talker)
    [generation] = generations(engine, [ask("hello")], Sampling(n=3, max_tokens=5), [2**63 - 1])
    assert [c.text for c in generation.completions] == ["0", "1", "2"]
    assert {c.finish_reason for c in generation.completions} == {"length"}
    [generation] = generations(engine, [ask("hello")], Sampling(n=3, max_tokens=5, temperature=0.0), [1])
    assert [c.text for c in generation.completions] == ["0", "0", "0"], "vLLM refuses several greedy samples"
    assert [(body["n"], body["seed"]) for body in talker.asked] == [(3, 2**63 - 1), (1, 1)]


@pytest.mark.parametrize(
    ("reply", "text", "reason"),
    [
        (said("4", reasoning_content="2 + 2"), "<think>2 + 2</think>4", "stop"),
        (said("4", reasoning="2 + 2"), "<think>2 + 2</think>4", "stop"),
        (said(None, "length", reasoning_content="2 +"), "<think>2 +", "length"),
        (said("I can", "content_filter"), "I can", "stop"),
        (said(None), "", "stop"),
    ],
)
def test_answers_in_other_forms(
    talk: Callable[..., Talker], connect: Callable[..., Endpoint], reply: Reply, text: str, reason: str
) -> None:
    [generation] = all_of(connect(talk(lambda body, i: reply)))
    assert (generation.completions[0].text, generation.completions[0].finish_reason) == (text, reason)


def test_the_token_limit_by_its_other_name(talk: Callable[..., Talker], connect: Callable[..., Endpoint]) -> None:
    def reply(body: dict[str, Any], i: int) -> Reply:
        if "max_tokens" in body:
            return refused(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return said(str(body["max_completion_tokens"]))

    assert texts(all_of(connect(talk(reply)), 20)) == ["32"] * 20


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["RGB", "L", "RGBA"]), st.randoms())
def test_images_are_sent_to_the_last_pixel(width: int, height: int, mode: str, random: Any) -> None:
    image = Image.frombytes(mode, (width, height), random.randbytes(width * height * len(mode)))
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    [message] = json.loads(chat.messages(Prompt([{"role": "user", "content": parts}], (image,)), sees=True))
    assert [part["type"] for part in message["content"]] == ["text", "image_url", "text"]
    data = message["content"][1]["image_url"]["url"].removeprefix("data:image/png;base64,")
    received = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (received.mode, received.size, received.tobytes()) == (mode, image.size, image.tobytes())


def test_images_and_their_places_must_match() -> None:
    image = Image.new("RGB", (1, 1))
    place = {"type": "image"}
    with pytest.raises(ValueError, match="1 places for images in a prompt with 0"):
        chat.messages(Prompt([{"role": "user", "content": [place]}]), sees=True)
    smuggled = [place, {"type": "text", "text": "What is <|image_pad|>?"}]
    with pytest.raises(ValueError, match="2 places for images in a prompt with 1"):
        chat.messages(Prompt([{"role": "user", "content": smuggled}], (image,)), sees=True)
    with pytest.raises(ValueError, match="reads text only"):
        chat.messages(Prompt([{"role": "user", "content": [place]}], (image,)), sees=False)


KEYS = (
    *("choices", "index", "finish_reason", "message", "content", "token_ids", "logprobs", "logprob"),
    *("prompt_token_ids", "usage", "prompt_tokens", "completion_tokens", "error", "detail"),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=examples(300))
@given(json_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20), st.booleans())
def test_garbage_is_no_answer(answer: bytes, token_ids: bool) -> None:
    """Whatever a server sends, it is an answer with text, or it is refused as none."""
    try:
        made = chat.generation(answer, Request(0, ask(""), GREEDY, 0), 1, token_ids, None)
    except (chat.BadAnswer, BadPrompt, FloatingPointError):
        pass
    else:
        assert isinstance(made.completions[0].text, str)
        assert all(isinstance(token, int) for token in made.prompt_ids + made.completions[0].token_ids)
    assert "\n" not in chat.complaint(answer)


# --- what goes wrong and mends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        refused(500, "oh"),
        refused(503, "loading"),
        refused(429, "slow down"),
        refused(408, "late"),
        (200, {}, b"<html>gateway"),
        (200, {}, b'{"choices": []}'),
        said("half", "abort"),
    ],
    ids=["500", "503", "429", "408", "garbage", "empty", "aborted"],
)
def test_what_passes_is_asked_again(
    talk: Callable[..., Talker], connect: Callable[..., Endpoint], failure: Reply
) -> None:
    talker = talk(in_turn(failure, failure))
    assert texts(all_of(connect(talker), 3)) == ["0", "1", "2"]
    assert len(talker.asked) == 5


def test_a_server_that_names_a_time_is_left_alone_until_then(
    talk: Callable[..., Talker], connect: Callable[..., Endpoint]
) -> None:
    asked: list[float] = []

    def reply(body: dict[str, Any], i: int) -> Reply:
        asked.append(time.monotonic())
        return said("now") if i else refused(429, "slow down", **{"Retry-After": "1"})

    assert texts(all_of(connect(talk(reply)))) == ["now"]
    assert asked[1] - asked[0] >= 1


@settings(max_examples=examples(8), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.sampled_from([429, 500, 503, 200]), max_size=2), min_size=1, max_size=12),
    st.integers(1, 3),
    st.integers(1, 5),
)
def test_every_prompt_is_answered_once_and_in_order(failures: list[list[int]], servers: int, sequences: int) -> None:
    """Whatever fails first: 200 stands for an answer that is none."""
    left = {str(i): list(statuses) for i, statuses in enumerate(failures)}
    lock = threading.Lock()

    def reply(body: dict[str, Any], i: int) -> Reply:
        with lock:
            statuses = left[last_text(body)]
            status = statuses.pop() if statuses else None
        return said(last_text(body)) if status is None else refused(status, "no")

    talkers = [Talker(reply) for _ in range(servers)]
    place = EnginePlacement(silence=20, sequences=sequences)
    engine = Endpoint([talker.url for talker in talkers], "m", place, "reasoner", "")
    try:
        assert texts(all_of(engine, len(failures))) == [str(i) for i in range(len(failures))]
        asked = Counter(last_text(body) for talker in talkers for body in talker.asked)
        assert asked == {str(i): len(statuses) + 1 for i, statuses in enumerate(failures)}
        assert max(talker.most for talker in talkers) <= sequences
    finally:
        engine.close()
        for talker in talkers:
            talker.die()


def test_requests_are_balanced_by_what_is_outstanding(
    talk: Callable[..., Talker], connect: Callable[..., Endpoint]
) -> None:
    fast = talk()

    def slowly(body: dict[str, Any], i: int) -> Reply:
        assert eventually(lambda: len(fast.asked) >= 30)
        return said(last_text(body))

    slow = talk(slowly)
    engine = connect(slow, fast, sequences=4)
    assert texts(all_of(engine, 40)) == [str(i) for i in range(40)]
    assert slow.most == 2 and fast.most <= 2


def test_each_endpoint_has_its_key_its_headers_and_its_limit(
    talk: Callable[..., Talker], connect: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONE_KEY", "sk-1")
    monkeypatch.setenv("OTHER_KEY", "sk-2")
    monkeypatch.setenv("TEAM", "t-secret")

    def slowly(body: dict[str, Any], i: int) -> Reply:
        time.sleep(0.02)
        return said(last_text(body)) if i else refused(503, "busy, sk-2 of t-secret")

    plain, special = talk(slowly), talk(slowly)
    own = Address(url=special.url, api_key="OTHER_KEY", headers={"X-Team": "$TEAM", "X-Plain": "yes"}, sequences=2)
    engine = connect(plain, own, api_key="ONE_KEY", sequences=6)
    assert texts(all_of(engine, 40)) == [str(i) for i in range(40)]
    assert special.most <= 2 < plain.most <= 6
    assert {headers["Authorization"] for headers in plain.headers} == {"Bearer sk-1"}
    assert {(h["Authorization"], h["X-Team"], h["X-Plain"]) for h in special.headers} == {
        ("Bearer sk-2", "t-secret", "yes")
    }
    assert not any("X-Team" in headers for headers in plain.headers)
    assert "busy, *** of ***" in engine.fleet.servers[1].trouble
    monkeypatch.delenv("TEAM")
    with pytest.raises(BadInput, match=rf"header X-Team of {special.url} is read from .* TEAM, which is not set"):
        connect(own)


def test_a_server_that_dies_in_mid_stage_loses_no_prompt(
    talk: Callable[..., Talker], connect: Callable[..., Endpoint], caplog: pytest.LogCaptureFixture
) -> None:
    def reply(body: dict[str, Any], i: int) -> Reply:
        time.sleep(0.01)
        return said(last_text(body))

    def mortal(body: dict[str, Any], i: int) -> Reply:
        if i < 20:
            return reply(body, i)
        threading.Thread(target=dying.die).start()
        return None

    dying, other = talk(mortal), talk(reply)
    engine = connect(dying, other, sequences=8)
    with caplog.at_level(logging.INFO):
        assert texts(all_of(engine, 200)) == [str(i) for i in range(200)]
    assert not engine.lost
    again = len(dying.asked) + len(other.asked) - 200
    assert 1 <= again <= 8, "what was in flight is asked again, and nothing else"
    assert 1 <= engine.moved <= 8
    [line] = [line for line in caplog.messages if "answers of each endpoint" in line]
    shares = [int(n) for n in re.findall(r"/v1 (\d+)", line)]
    assert sum(shares) == 200 and line.endswith(f"; {engine.moved} in place of another")


def test_a_server_that_hangs_is_set_aside(talk: Callable[..., Talker], connect: Callable[..., Endpoint]) -> None:
    def hang(body: dict[str, Any], i: int) -> Reply:
        return None if i >= 5 else said(last_text(body))

    hanging, other = talk(hang, vllm=True), talk(in_turn(), vllm=True)
    engine = connect(hanging, other, sequences=4, silence=1.0)
    assert texts(all_of(engine, 40)) == [str(i) for i in range(40)]
    assert not engine.lost
    assert eventually(lambda: hanging.left == len(hanging.asked) - 5), "what was taken back is not worked on any more"


def test_a_long_answer_is_no_silence(talk: Callable[..., Talker], connect: Callable[..., Endpoint]) -> None:
    def reply(body: dict[str, Any], i: int) -> Reply:
        time.sleep(4)
        return said("at last")

    assert texts(all_of(connect(talk(reply), silence=2.0))) == ["at last"]


def test_what_is_unfinished_at_the_deadline_is_taken_back(
    talk: Callable[..., Talker], connect: Callable[..., Endpoint]
) -> None:
    talker = talk(lambda body, i: None if last_text(body) in ("1", "3") else said("done"))
    how = Sampling(n=2, temperature=0.5, max_tokens=8, deadline=2.0)
    made = all_of(connect(talker, sequences=4), 5, how)
    late = (Completion((), (), "", "deadline"),) * 2
    assert [g.completions == late for g in made] == [False, True, False, True, False]
    assert eventually(lambda: talker.left == 4), "the server is told by the end of the connection"


def test_prompts_are_opened_late(talk: Callable[..., Talker], connect: Callable[..., Endpoint]) -> None:
    opened: list[int] = []

    def prompts() -> Iterator[Prompt]:
        for i in range(50):
            opened.append(i)
            yield ask(str(i))

    release = threading.Event()

    def reply(body: dict[str, Any], i: int) -> Reply:
        release.wait(20)
        return said(last_text(body))

    talker = talk(reply)
    results = connect(talker, sequences=6).generate(requests(prompts(), Sampling(n=1, deadline=30), range(50)))
    threading.Timer(0.5, lambda: (opened.append(-1), release.set())).start()
    assert sorted(texts(list(results)), key=int) == [str(i) for i in range(50)]
    assert opened.index(-1) == 6 and talker.most == 6
    assert sorted(opened) == list(range(-1, 50)), "each once"


def test_many_threads_share_one_engine(talk: Callable[..., Talker], connect: Callable[..., Endpoint]) -> None:
    talker = talk()
    engine = connect(talker, sequences=5)
    found: dict[int, list[str]] = {}

    def call(k: int) -> None:
        prompts = [ask(f"{k}.{i}") for i in range(30)]
        found[k] = texts(generations(engine, prompts, GREEDY, range(30)))

    threads = [threading.Thread(target=call, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {k: [f"{k}.{i}" for i in range(30)] for k in range(4)}
    assert talker.most <= 5


def test_what_nobody_waits_for_is_taken_back(talk: Callable[..., Talker], connect: Callable[..., Endpoint]) -> None:
    def reply(body: dict[str, Any], i: int) -> Reply:
        return said("again") if body["max_tokens"] == 32 else None if i else said("first")

    talker = talk(reply)
    engine = connect(talker, sequences=3)
    results = engine.generate(requests([ask(str(i)) for i in range(9)], Sampling(n=1), range(9)))
    assert texts([next(results)]) == ["first"]
    results.close()
    assert texts(all_of(engine, 9)) == ["again"] * 9, "the room is free again"
    first = [body for body in talker.asked if body["max_tokens"] != 32]
    assert eventually(lambda: talker.left == len(first) - 1)


def test_closing_ends_everything(talk: Callable[..., Talker], connect: Callable[..., Endpoint]) -> None:
    talker = talk(lambda body, i: None)
    engine = connect(talker)
    threading.Timer(0.3, engine.close).start()
    with pytest.raises(EngineLost, match="closed"):
        all_of(engine, 3)
    engine.close()
    with pytest.raises(EngineLost, match="closed"):
        all_of(engine)
    assert not engine.thread.is_alive()
    assert eventually(lambda: talker.left == 3)


# --- what goes wrong and stays wrong ----------------------------------------------------------------------------------


def test_a_hanging_server_is_lost(talk: Callable[..., Talker], connect: Callable[..., Endpoint]) -> None:
    talker = talk(lambda body, i: None, vllm=True)
    engine = connect(talker, silence=1.0)
    started = time.monotonic()
    with pytest.raises(EngineLost, match=rf"{talker.url} \(no sign of life for 1 s\)"):
        all_of(engine, 3, Sampling(deadline=600))
    assert 1 <= time.monotonic() - started < 100
    assert engine.lost
    with pytest.raises(EngineLost):
        all_of(engine)


def test_servers_that_refuse_connections_are_lost(
    talk: Callable[..., Talker], connect: Callable[..., Endpoint]
) -> None:
    first, second = talk(), talk()
    engine = connect(first, second, silence=1.0)
    assert texts(all_of(engine)) == ["0"]
    first.die()
    second.die()
    with pytest.raises(EngineLost, match=rf"no server of the reasoner answers: {first.url} .*; {second.url} "):
        all_of(engine, 3)
    assert engine.lost
    with pytest.raises(EngineLost, match=first.url):
        connect(first, silence=1.0)


def test_a_server_that_is_down_is_used_once_it_is_up(
    talk: Callable[..., Talker], connect: Callable[..., Endpoint]
) -> None:
    late = talk()
    late.die()
    engine = connect(late, talk(lambda body, i: (time.sleep(0.05), said(last_text(body)))[1]), sequences=2)
    assert texts(all_of(engine, 3)) == ["0", "1", "2"]
    again = talk(port=late.server_address[1])
    results = engine.generate(requests([ask(str(i)) for i in range(500)], GREEDY, range(500)))
    while not again.asked:
        next(results)
    results.close()


@pytest.mark.parametrize("answer", [refused(500, "out of memory"), (200, {}, b"[]")], ids=["500", "garbage"])
def test_a_server_that_only_fails_is_lost(
    talk: Callable[..., Talker], connect: Callable[..., Endpoint], answer: Reply
) -> None:
    engine = connect(talk(lambda body, i: answer), silence=1.0)
    with pytest.raises(EngineLost, match=r"out of memory|no chat completion"):
        all_of(engine, 3, Sampling(deadline=600))


def test_one_bad_prompt_is_its_own_misfortune(talk: Callable[..., Talker], connect: Callable[..., Endpoint]) -> None:
    def reply(body: dict[str, Any], i: int) -> Reply:
        time.sleep(0.05)
        return refused(500, "overflow") if last_text(body) == "7" else said("fine")

    engine = connect(talk(reply), sequences=2, silence=1.0)
    made = all_of(engine, 60, Sampling(deadline=1.5))
    assert [i for i, g in enumerate(made) if g.completions[0].finish_reason == "deadline"] == [7]


def test_the_key_is_named_and_never_shown(
    talk: Callable[..., Talker],
    connect: Callable[..., Endpoint],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    with pytest.raises(BadInput, match="environment variable SOME_KEY") as caught:
        connect(talk(listing=refused(401, "bad key sk-secret")), api_key="SOME_KEY")
    errors = [str(caught.value)]
    for status, kind in ((403, BadInput), (405, BadInput), (500, EngineLost)):
        engine = connect(talk(lambda b, i, s=status: refused(s, "no sk-secret")), api_key="SOME_KEY", silence=0.6)
        with pytest.raises(kind) as failed:
            all_of(engine)
        errors.append(str(failed.value))
    engine = connect(talk(lambda b, i: refused(422, "no sk-secret")), api_key="SOME_KEY")
    errors.append(refusal(engine, ask("?"), GREEDY))
    assert "405): no ***" in errors[2] and "422): no ***" in errors[4]
    assert not any("sk-secret" in line or "\n" in line for line in errors)
    assert "sk-secret" not in caplog.text


def test_a_model_that_is_not_there(talk: Callable[..., Talker], connect: Callable[..., Endpoint]) -> None:
    line = r"^reasoner.model: http://\S+ has no model 'm'; it has a, b\. Name one of them"
    for vllm in (True, False):
        with pytest.raises(BadInput, match=line):
            connect(talk(), talk(vllm=vllm, models=("a", "b")))
    engine = connect(talk(lambda body, i: refused(404, "The model `m` does not exist"), models=()))
    with pytest.raises(BadInput, match="has no model 'm'; it has none"):
        all_of(engine)


def test_endpoints_are_asked_what_they_serve_before_anything_starts(talk: Callable[..., Talker]) -> None:
    dead, alive, wrong = talk(), talk(), talk(models=("other",))
    dead.die()
    [trouble] = away(EnginePlacement(urls=(dead.url, alive.url)), "m", "reasoners.x")
    assert trouble.startswith(f"{dead.url} (ConnectError") and not alive.asked
    with pytest.raises(BadInput, match=rf"^reasoners\.x\.model: {wrong.url} has no model 'm'; it has other\."):
        away(EnginePlacement(urls=(alive.url, wrong.url)), "m", "reasoners.x")


# --- how probable a text is -------------------------------------------------------------------------------------------


def scoring_server(body: dict[str, Any], i: int) -> Reply:
    """Tokens are bytes, and each has a log-prob of minus its value in hundreds."""
    if "messages" in body:
        written = json.dumps([body["messages"], body.get("continue_final_message", False)])
        return 200, {}, json.dumps({"tokens": list(written.encode())}).encode()
    if isinstance(body["prompt"], str):
        return 200, {}, json.dumps({"tokens": list(body["prompt"].encode())}).encode()
    entries = [{str(token): {"logprob": -token / 100, "rank": 1}} for token in body["prompt"]]
    choice = {"index": 0, "text": "x", "finish_reason": "length", "prompt_logprobs": [None, *entries[1:]]}
    return 200, {}, json.dumps({"choices": [choice]}).encode()


@given(given=st.text(min_size=1, max_size=8), lead=st.sampled_from(["", "The answer is"]))
@settings(max_examples=examples(10), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_vllm_server_says_how_probable_a_text_is(
    talk: Callable[..., Talker], connect: Callable[..., Endpoint], given: str, lead: str
) -> None:
    given = given.encode(errors="ignore").decode() or "x"
    talker = talk(scoring_server, vllm=True)
    prompt = Prompt(ask("how high?").messages, lead=lead)
    [made] = connect(talker).generate([Request(7, prompt, GREEDY, 0, forced=given)])
    assert isinstance(made, Generation) and made.key == 7
    [found] = made.completions
    assert (found.token_ids, found.text, found.finish_reason) == (tuple(given.encode()), given, "stop")
    assert found.logprobs == tuple(-token / 100 for token in given.encode())
    messages, begun = json.loads(bytes(made.prompt_ids))
    assert [message["content"] for message in messages] == ["s", "how high?", *([lead] if lead else [])]
    assert begun is bool(lead)
    assert talker.asked[-1]["prompt"] == [*made.prompt_ids, *found.token_ids]
    assert away(EnginePlacement(urls=(talker.url,)), "m", "reasoner", scores=True) == []


def no_logprobs(body: dict[str, Any], i: int) -> Reply:
    if isinstance(body.get("prompt"), list):
        return 200, {}, json.dumps({"choices": [{"index": 0, "text": "x", "finish_reason": "length"}]}).encode()
    return scoring_server(body, i)


@pytest.mark.parametrize(
    ("reply", "vllm"),
    [(scoring_server, False), (lambda body, i: refused(404, "Not Found"), True), (no_logprobs, True)],
    ids=["another server", "behind a proxy", "no log-probs"],
)
def test_a_server_that_does_not_say_it_is_refused_before_anything_starts(
    talk: Callable[..., Talker], connect: Callable[..., Endpoint], reply: Any, vllm: bool
) -> None:
    talker, dead = talk(reply, vllm=vllm), talk()
    dead.die()
    place = EnginePlacement(urls=(dead.url, talker.url))
    line = rf"^reasoner\.engine: {talker.url} does not say .* confidence asks; .* set reasoner\.engine\.type=vllm"
    with pytest.raises(BadInput, match=line):
        away(place, "m", "reasoner", scores=True)
    assert len(away(place, "m", "reasoner")) == 1, "who does not need it does not ask"
    if not vllm:
        [made] = connect(talker).generate([Request(0, ask("q"), GREEDY, 0, forced="3")])
        assert isinstance(made, Refusal) and re.match(line, made.reason)


@pytest.mark.parametrize(
    "answer",
    [
        refused(400, "This model's maximum context length is 2048 tokens. However, you requested 4096"),
        refused(400, "max_tokens=9 cannot be greater than max_model_len=8"),
        refused(400, "the request exceeds the available context size"),
        said("cut", "length", {"prompt_tokens": 90, "completion_tokens": 10}),
    ],
    ids=["openai", "vllm", "llama.cpp", "silently"],
)
def test_prompts_are_never_cut(talk: Callable[..., Talker], connect: Callable[..., Endpoint], answer: Reply) -> None:
    assert "lower max_tokens" in refusal(connect(talk(lambda body, i: answer)), ask("?"), GREEDY)


def test_other_refusals_are_one_line(talk: Callable[..., Talker], connect: Callable[..., Endpoint]) -> None:
    engine = connect(talk(lambda body, i: refused(400, "temperature:\n must be 1")))
    reason = refusal(engine, ask("?"), Sampling(n=3))
    assert re.search(r"^reasoner: http://\S+ refuses a request \(400\): temperature: must be 1$", reason)
    assert not engine.lost


@pytest.mark.parametrize("vllm", [False, True])
def test_a_refused_prompt_costs_no_other_one(
    talk: Callable[..., Talker], connect: Callable[..., Endpoint], vllm: bool
) -> None:
    def reply(body: dict[str, Any], i: int) -> Reply:
        return refused(400, "not this") if int(last_text(body)) % 3 == 0 else said(last_text(body))

    engine = connect(talk(reply, vllm=vllm), sequences=4, silence=1.0)
    made = answers(engine, [ask(str(i)) for i in range(40)], GREEDY, range(40))
    assert [isinstance(answer, Refusal) for answer in made] == [i % 3 == 0 for i in range(40)]
    assert texts([g for g in made if not isinstance(g, Refusal)]) == [str(i) for i in range(40) if i % 3]
    assert not engine.lost


def test_a_captioner_needs_token_ids(talk: Callable[..., Talker]) -> None:
    from racro.models.folders import EMBEDDED

    with pytest.raises(BadInput, match=r"^runtime\.captioner\.urls: \S+ is no vLLM server and gives no token ids"):
        Endpoint([talk().url], "m", EnginePlacement(), "captioner", str(EMBEDDED / "captioner"))


def test_a_captioner_that_only_answers_needs_none(talk: Callable[..., Talker]) -> None:
    talker = talk()
    engine = Endpoint([talker.url], "m", EnginePlacement(), "captioner", "")
    try:
        prompt = Prompt(caption_messages("How many?", 1), (Image.new("RGB", (8, 8)),))
        [generation] = generations(engine, [prompt], GREEDY, [0])
    finally:
        engine.close()
    [completion] = generation.completions
    assert "How many?" in completion.text and not completion.token_ids
    [asked] = talker.asked
    assert not {"logprobs", "return_token_ids"} & set(asked)
    assert [part["type"] for part in asked["messages"][-1]["content"]].count("image_url") == 1


def test_an_adapter_has_the_positions_of_its_model(
    talk: Callable[..., Talker], connect: Callable[..., Endpoint]
) -> None:
    base = {"id": "base", "owned_by": "vllm", "max_model_len": 2048}
    adapter = {"id": "m", "owned_by": "vllm", "max_model_len": None, "parent": "base"}
    listing = (200, {}, json.dumps({"data": [base, adapter]}).encode())
    assert connect(talk(listing=listing)).positions == 2048


def test_servers_of_two_kinds_do_not_mix(talk: Callable[..., Talker], connect: Callable[..., Endpoint]) -> None:
    with pytest.raises(BadInput, match="all servers must be vLLM's, or none"):
        connect(talk(), talk(vllm=True))


@pytest.mark.parametrize(
    "url", ["host:8000/v1", "http://", "http://127.0.0.1:8000", "ftp://host/v1", "http://host:x/v1", "", "http://h/v10"]
)
def test_urls_have_a_form(connect: Callable[..., Endpoint], url: str) -> None:
    with pytest.raises(BadInput, match=r"^runtime\.reasoner\.urls: '.*' is no base URL .* http://host:8000/v1$"):
        connect(url)


@pytest.mark.parametrize("url", ["http://me:pass@host/v1", "https://host/v1?key=pass"])
def test_urls_carry_no_secrets(connect: Callable[..., Endpoint], url: str) -> None:
    with pytest.raises(BadInput, match="environment variable OPENAI_API_KEY") as caught:
        connect(url)
    assert "pass@" not in str(caught.value) and "=pass" not in str(caught.value)


def test_another_kind_of_server(talk: Callable[..., Talker], connect: Callable[..., Endpoint]) -> None:
    with pytest.raises(BadInput, match=r"does not answer like an OpenAI-compatible server .*404 'not here'"):
        connect(talk(listing=(404, {}, b"<html>not\nhere</html>")))
