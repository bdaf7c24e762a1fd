"""Pairs by name, and the service before them: who waits, who is refused, what is reloaded; on scripted engines."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from racro import config
from racro.answering.engine_pair import Model
from racro.answering.pipeline import Racro
from racro.config import Scripted, ScriptedReply
from racro.engines import waiting
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.protocol import Engine, EngineLost
from racro.errors import BadInput
from racro.serving.chat import Inquiry
from racro.serving.completion import Answered
from racro.serving.errors import ApiError
from racro.serving.limits import Limits
from racro.serving.pairs import Name, Pairs, Unknown
from racro.serving.service import Service

BUFFER = io.BytesIO()
Image.new("RGB", (28, 28)).save(BUFFER, "PNG")
PICTURE = BUFFER.getvalue()


class Models:
    """Captioners that say their name; the champion's may change."""

    def __init__(self, delay: float = 0.0) -> None:
        self.champion, self.delay, self.away = "first", delay, False

    def find(self, captioner: str, reasoner: str) -> Racro:
        if self.away:
            raise BadInput("http://tracking.secret does not answer")
        if captioner == "gone":
            raise Unknown("no such run in /secret/place")
        said = self.champion if captioner == "champion" else captioner or "default"
        return Racro(
            config.Captioner(engine=Scripted(rules=(ScriptedReply(replies=(said,), delay=self.delay),))),
            config.Reasoner(
                engine=Scripted(rules=(ScriptedReply(when="image: (\\w+)", replies=(f"{reasoner}: \\boxed{{\\1}}",)),))
            ),
        )

    def pairs(self, keep: int = 2) -> Pairs:
        return Pairs(self.find, ["mind", "other"], lambda: ["initial", "champion"], keep)


def ask(service: Service, model: str = "racro", **fields: int) -> Answered:
    async def last() -> Answered:
        async for made in service.ask(Inquiry(model, "What?", (PICTURE,), **fields)):
            if isinstance(made, Answered):
                return made
        raise AssertionError

    return asyncio.run(last())


def refusal(service: Service, model: str = "racro", **fields: int) -> ApiError:
    with pytest.raises(ApiError) as refused:
        ask(service, model, **fields)
    return refused.value


def test_a_name_says_both_models() -> None:
    pairs = Models().pairs()
    assert [str(name) for name in pairs.names()] == [
        "racro",
        "racro:initial",
        "racro:champion",
        "racro@other",
        "racro:initial@other",
        "racro:champion@other",
    ]
    for model, captioner, reasoner in (("racro", "default", "mind"), ("racro:run-1@other", "run", "other")):
        written = ask(Service(pairs, Limits()), model).written
        assert written.texts["answer"] == f"{reasoner}: \\boxed{{{captioner}}}"
    for wrong in ("gpt", "racro:", "racro@", "racro@nobody", "racro:gone", "", "racro:gone@mind"):
        error = refusal(Service(pairs, Limits()), wrong)
        assert (error.status, error.code) == (404, "model_not_found") and "secret" not in str(error)


def test_the_captioners_that_were_used_last_stay_open() -> None:
    pairs = Models().pairs()
    service = Service(pairs, Limits())
    for name in ("a", "b", "a", "c"):
        ask(service, f"racro:{name}")
    slots = {name: pairs.find_pair(Name(name)).captioner for name in "abc"}
    assert [slots[name].shared is not None for name in "abc"] == [True, False, True]
    assert ask(service, "racro:b").answer.final == "b", "it is opened again"


def test_captioners_that_are_asked_at_once_take_turns() -> None:
    """No more of them are open than may be, however they are asked, and each gets its turn."""
    pairs = Models().pairs(keep=1)
    opened = []

    def use(name: str) -> None:
        for _ in range(5):
            with pairs.use(Name(name)):
                opened.append([one for one in "abc" if pairs.find_pair(Name(one)).captioner.shared])
                time.sleep(0.002)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(use, "abcabc"))
    assert len(opened) == 30 and all(len(one) == 1 for one in opened)


def test_a_reload_finds_the_new_champion_and_closes_the_old() -> None:
    models = Models()
    pairs = models.pairs()
    service = Service(pairs, Limits())
    assert ask(service, "racro:champion").answer.final == "first"
    old = pairs.find_pair(Name("champion")).captioner
    models.champion = "second"
    assert ask(service, "racro:champion").answer.final == "first", "not before it is told"
    pairs.reload()
    assert old.shared is None and ask(service, "racro:champion").answer.final == "second"


def test_while_nobody_says_who_is_champion_the_one_that_is_known_answers() -> None:
    models = Models()
    pairs = models.pairs()
    service = Service(pairs, Limits())
    assert ask(service, "racro:champion").answer.final == "first"
    models.away, models.champion = True, "second"
    with pytest.raises(BadInput, match="does not answer"):
        pairs.reload()
    assert ask(service, "racro:champion").answer.final == "first"
    error = refusal(service, "racro:another")
    assert (error.status, error.code) == (503, "model_not_loaded") and "secret" not in str(error)
    models.away = False
    pairs.reload()
    assert ask(service, "racro:champion").answer.final == "second"


def test_a_lost_engine_is_opened_again() -> None:
    pairs = Models().pairs()
    service = Service(pairs, Limits())
    ask(service)
    slot = pairs.find_pair(Name()).captioner
    assert slot.shared is not None
    engine = slot.shared.engine

    def lost(*_: object) -> None:
        type(engine).lost = property(lambda self: self is engine)  # type: ignore[assignment, method-assign]
        raise EngineLost("killed, see /secret/place")

    before = type(engine).lost
    engine.stream = lost  # type: ignore[method-assign, assignment]
    try:
        error = refusal(service)
        assert (error.status, error.code, error.retry_after) == (503, "engine_lost", 5) and "secret" not in str(error)
        assert ask(service).answer.final == "default"
        assert pairs.restarts == 1
    finally:
        type(engine).lost = before  # type: ignore[method-assign]


def test_an_engine_that_is_being_opened_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.01)
    opening, go_on = threading.Event(), threading.Event()

    def slowly(*_: object) -> Engine:
        opening.set()
        assert go_on.wait(60)
        return ScriptedEngine(())

    monkeypatch.setattr(Model, "open", slowly)
    pairs = Models().pairs()
    asking = threading.Thread(target=pairs.use(Name()).__enter__)
    asking.start()
    assert opening.wait(60)
    pairs.close()
    assert asking.is_alive(), "it is still being opened"
    go_on.set()
    asking.join()


def test_who_waits_too_long_is_told_so_and_gives_the_turn_back() -> None:
    service = Service(Models(delay=0.5).pairs(), Limits(timeout=0.2, concurrency=1))

    async def twice() -> list[int]:
        statuses = []
        for _ in range(2):
            try:
                async for made in service.ask(Inquiry("racro", "What?", (PICTURE,))):
                    assert not isinstance(made, Answered)
            except ApiError as error:
                statuses.append(error.status)
        while service.running:
            await asyncio.sleep(0.01)
        return statuses

    assert asyncio.run(twice()) == [504, 504]


def test_who_still_waits_when_the_server_ends_is_told_so() -> None:
    service = Service(Models(delay=20).pairs(), Limits(concurrency=1))

    async def asked(service: Service) -> str | None:
        try:
            async for made in service.ask(Inquiry("racro", "What?", (PICTURE,))):
                assert not isinstance(made, Answered)
        except ApiError as error:
            return f"{error.status} {error.code}"
        return None

    async def three() -> list[str | None]:
        asking = asyncio.gather(*(asked(service) for _ in range(3)))
        while service.running == 0:
            await asyncio.sleep(0.01)
        service.end()
        told = await asyncio.wait_for(asking, 15)  # no answer is there yet
        assert service.inside == 0
        return [*told, await asked(service)]

    assert asyncio.run(three()) == ["503 server_ends"] * 4


def test_a_full_house_refuses_with_the_time_to_come_back() -> None:
    service = Service(Models(delay=0.3).pairs(), Limits(concurrency=1, queue=1))

    async def one() -> ApiError | Answered:
        try:
            return [made async for made in service.ask(Inquiry("racro", "What?", (PICTURE,)))][-1]  # type: ignore[return-value]
        except ApiError as error:
            return error

    async def five() -> list[ApiError | Answered]:
        return [*await asyncio.gather(*(one() for _ in range(4))), await one()]

    answered = asyncio.run(five())
    refused = [made for made in answered if isinstance(made, ApiError)]
    assert [(error.status, error.headers) for error in refused] == [(429, {"Retry-After": "2"})] * 2
    assert isinstance(answered[-1], Answered), "there is room again"
    assert service.inside == service.running == 0


def test_what_is_asked_is_within_the_models_room() -> None:
    service = Service(Models().pairs(), Limits())
    assert refusal(service, max_tokens=10**6).status == 400
    assert ask(service, max_tokens=3).finish_reason == "length"
