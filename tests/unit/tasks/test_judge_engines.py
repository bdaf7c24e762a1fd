"""Judges are kept open by name, as the other frozen models are."""

from __future__ import annotations

import pytest
from PIL import Image

from racro import config
from racro.config import ScriptedReply
from racro.embedded import world
from racro.engines.protocol import Engine, Generation, Prompt, Refusal, Request, Sampling
from racro.models.folders import EMBEDDED
from racro.prompts import caption_messages
from racro.schema import FrozenModel
from tasks.prepare import adopt_judges
from tasks.running import engines
from tests.support.talker import Talker

MODEL = FrozenModel(uri="scripted:", rows=0, digest="scripted")


def judge(reply: str) -> config.Judge:
    return config.Judge(model="m", engine=config.Scripted(rules=(ScriptedReply(replies=(reply,)),)))


@pytest.fixture(autouse=True)
def _released() -> object:
    yield
    engines.release_all()


def test_each_judge_has_an_engine_that_stays_until_its_settings_change() -> None:
    runtime = config.Runtime()
    one: Engine = engines.judge_engine("one", judge("a"), MODEL, runtime)
    other = engines.judge_engine("other", judge("a"), MODEL, runtime)
    assert one is not other
    assert engines.judge_engine("one", judge("a"), MODEL, runtime) is one
    assert engines.judge_engine("one", judge("b"), MODEL, runtime) is not one
    assert engines._cached.keys() == {"judges.one", "judges.other"}
    engines.release_all()
    assert not engines._cached


def test_a_judge_may_be_opened_while_the_reasoners_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewards side by side: another thread opens its judge at any moment."""

    class Opened(str):
        def startswith(self, *_: object) -> bool:
            engines.judge_engine("another", judge("a"), MODEL, config.Runtime())
            return False

    engines.judge_engine("one", judge("a"), MODEL, config.Runtime())
    monkeypatch.setitem(engines._cached, Opened("judges.meanwhile"), engines._cached["judges.one"])
    engines.judge_engine("two", judge("a"), MODEL, config.Runtime())
    reasoner = config.Reasoner(engine=config.Scripted(rules=(ScriptedReply(replies=("a",)),)))
    assert engines.reasoner_engine(reasoner, MODEL, config.Runtime()) is not None
    assert "judges.another" in engines._cached


def test_a_judge_in_another_process_answers_and_has_a_log_of_its_own() -> None:
    runtime = config.Runtime(judges={"one": config.EnginePlacement(worker=True)})
    engine = engines.judge_engine("one", judge("yes"), MODEL, runtime)
    prompt = Prompt([{"role": "user", "content": "?"}], lead="It is")
    [made] = list(engine.generate([Request(0, prompt, Sampling(), 0, forced="yes")]))
    assert isinstance(made, Generation) and made.completions[0].logprobs == (0.0, 0.0, 0.0)
    assert engines.engine_log("judges.one").name == "judges.one.log"


def test_judges_are_adopted_with_their_digests_and_see_what_they_are_to_see() -> None:
    """The embedded models in the part of judges: the one that reads images is shown some, the other is refused them."""
    judges = {
        "eye": config.Judge(model="embedded", dtype="float32", sees="image"),
        "ear": config.Judge(model="embedded", dtype="float32"),
        "idle": config.Judge(model="nobody/asks-it"),
    }
    rewards = (config.CorrectnessReward(splitter="ear", judge="eye"),)
    recipe = config.Recipe(rewards=rewards, judges=judges, runtime=config.Runtime(device="cpu"))
    models = adopt_judges.fn(recipe)
    assert {name: model.uri for name, model in models.items()} == {
        "ear": str(EMBEDDED / "reasoner"),
        "eye": str(EMBEDDED / "captioner"),
    }
    assert models["ear"].digest != models["eye"].digest
    made = world.problem("train", 0, 0)
    prompt = Prompt(caption_messages(made.question, len(made.scenes)), tuple(made.images()))
    said = {}
    for name, model in models.items():
        engine = engines.judge_engine(name, judges[name], model, recipe.runtime)
        [said[name]] = list(engine.generate([Request(0, prompt, Sampling(temperature=0.0, max_tokens=8), 0)]))
    assert isinstance(said["eye"], Generation) and said["eye"].completions[0].text
    assert isinstance(said["ear"], Refusal)


@pytest.mark.parametrize("vllm", [True, False])
def test_a_judge_behind_an_endpoint_is_shown_images_and_its_turn_is_begun_by_vllm(vllm: bool) -> None:
    """It is known by its name alone. No server is asked how probable a given text is after an image."""
    begun = b'{"choices": [{"message": {"content": "true"}, "finish_reason": "stop"}]}'
    talker = Talker(lambda body, i: (200, {}, begun), vllm=vllm)
    own = config.Judge(model="m", sees="image", engine=config.Server())
    place = config.EnginePlacement(urls=(talker.url,))
    rewards = (config.CorrectnessReward(),)
    recipe = config.Recipe(rewards=rewards, judges={"eye": own}, runtime=config.Runtime(judges={"eye": place}))
    models = adopt_judges.fn(recipe)
    assert models["eye"].digest == "endpoint:m"
    try:
        engine = engines.judge_engine("eye", own, models["eye"], recipe.runtime)
        parts = [{"type": "image"}, {"type": "text", "text": "Is it so?"}]
        prompt = Prompt([{"role": "user", "content": parts}], (Image.new("RGB", (8, 8)),), lead="It is")
        how = Sampling(temperature=0.0, max_tokens=8)
        asked = [Request(0, prompt, how, 0), Request(1, prompt, how, 0, forced="true")]
        found = {made.key: made for made in engine.generate(asked)}
    finally:
        engines.release_all()
        talker.die()
    assert isinstance(found[0], Generation) and found[0].completions[0].text == "true"
    refused = found[1]
    assert isinstance(refused, Refusal)
    assert ("prompts without images" if vllm else "does not say how probable a given text is") in refused.reason
    [body] = talker.asked
    assert [part["type"] for part in body["messages"][0]["content"]] == ["image_url", "text"]
    assert body["messages"][1:] == ([{"role": "assistant", "content": "It is"}] if vllm else [])
    assert body.get("continue_final_message", False) is vllm
