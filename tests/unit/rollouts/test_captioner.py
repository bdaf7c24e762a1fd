"""An iteration's problems are a function of (seed, iteration); its captions come in whole groups."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro import config
from racro.config import ScriptedReply
from racro.data.images import sha256
from racro.embedded import world
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.protocol import Generation, Refusal, Request, Sampling
from racro.rollouts.captioner import caption, in_order, select
from racro.rollouts.thoughts import spoken
from racro.schema import ImageRef, Problem

GROUPS = config.RolloutSettings(problems=4, group_size=3, temperature=0.9, max_tokens=50)


def pool(size: int) -> list[Problem]:
    return [
        Problem(uid=f"p{i}", question="?", answer="1", kind="integer", category="c", choices=(), images=(), scene=None)
        for i in range(size)
    ]


@given(st.text().filter(lambda text: "think>" not in text), st.text().filter(lambda text: "think>" not in text))
def test_a_caption_is_what_follows_the_thoughts(thoughts: str, caption: str) -> None:
    assert spoken(caption) == caption
    assert spoken(f"<think>{thoughts}</think>{caption}") == caption.strip()
    assert spoken(f"{thoughts}</think>{caption}") == caption.strip(), "the template had opened the thought"
    assert spoken(f"<think>{thoughts}") == ""


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 5), st.integers(0, 30))
def test_no_problem_comes_twice_in_an_iteration(size: int, count: int, seed: int, iteration: int) -> None:
    chosen = [p.uid for p in select(pool(size), count, seed, iteration)]
    assert len(chosen) == len(set(chosen)) == min(size, count)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 5))
def test_the_pool_is_walked_through_evenly(size: int, count: int, seed: int) -> None:
    count = min(count, size)
    seen: Counter[str] = Counter()
    for iteration in range(12):
        seen.update(p.uid for p in select(pool(size), count, seed, iteration))
        often = [seen[p.uid] for p in pool(size)]
        assert max(often) - min(often) <= 1, "nobody comes a second time before everybody came once"


def test_iterations_and_seeds_differ_and_repeat() -> None:
    problems = pool(50)
    assert select(problems, 20, 0, 3) == select(problems, 20, 0, 3)
    assert select(problems, 50, 0, 0) != select(problems, 50, 0, 1)
    assert select(problems, 20, 0, 0) != select(problems, 20, 1, 0)


# --- captions ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def problems(tmp_path: Path) -> list[Problem]:
    """Four problems of the world with their images in files below tmp_path, one of them with two images."""
    made = [p for p in world.generate("train", 0, 60) if p.category != "two_images"][:3]
    made.insert(1, next(p for p in world.generate("train", 0, 60) if p.category == "two_images"))
    rows = []
    for number, bar in enumerate(made):
        refs = []
        for i, image in enumerate(bar.images()):
            path = tmp_path / f"{number}-{i}.png"
            image.save(path)
            refs.append(ImageRef(path=path.name, sha256=sha256(path.read_bytes())))
        rows.append(
            Problem(
                uid=bar.uid,
                question=bar.question,
                answer=bar.answer,
                kind=bar.kind,
                category=bar.category,
                choices=bar.choices,
                images=tuple(refs),
                scene=bar.scene_json(),
            )
        )
    return rows


class Watched(ScriptedEngine):
    """A scripted engine that remembers what it was asked."""

    def __init__(self, *rules: ScriptedReply) -> None:
        super().__init__(rules)
        self.sampling: list[Sampling] = []
        self.seeds: list[int] = []
        self.images: list[int] = []

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        for request in requests:
            self.sampling.append(request.sampling)
            self.seeds.append(request.seed)
            self.images.append(len(request.prompt.images))
            yield from super().generate([request])


class Backwards(Watched):
    """Answers the last request first."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        yield from reversed(list(super().generate(requests)))


def test_captions_come_grouped_with_everything_the_update_needs(problems: list[Problem], tmp_path: Path) -> None:
    engine = Watched(ScriptedReply(replies=("one", "two", "three")))
    ticks: list[tuple[int, int]] = []
    rows = list(
        caption(problems, str(tmp_path), "digest", engine, GROUPS, 0, 5, 60.0, lambda *tick: ticks.append(tick))
    )
    assert [(r.uid, r.sample, r.caption) for r in rows] == [
        (p.uid, i, text) for p in problems for i, text in enumerate(("one", "two", "three"))
    ]
    assert all(r.policy == "digest" and len(r.logprobs) == len(r.completion_ids) > 0 and r.prompt_ids for r in rows)
    assert engine.sampling == [Sampling(n=3, temperature=0.9, top_p=1.0, max_tokens=50, deadline=60.0)] * 4
    assert engine.images == [1, 2, 1, 1]
    assert ticks == [(i, 4) for i in range(1, 5)]


def test_each_problem_and_iteration_has_its_own_seed(problems: list[Problem], tmp_path: Path) -> None:
    def seeds(of: list[Problem], seed: int, iteration: int) -> list[int]:
        engine = Watched(ScriptedReply(replies=("x",)))
        list(caption(of, str(tmp_path), "digest", engine, GROUPS, seed, iteration, 60.0))
        return engine.seeds

    first = seeds(problems, 0, 0)
    assert len({*first, *seeds(problems, 0, 1), *seeds(problems, 1, 0)}) == 12
    assert seeds(problems[::-1], 0, 0) == first[::-1], "a seed belongs to the problem, not to its place"


def test_rollouts_are_the_same_in_whatever_order_the_engine_finishes(problems: list[Problem], tmp_path: Path) -> None:
    rule = ScriptedReply(when="(?s)(.*)", replies=(r"\1", "two"))
    forwards, backwards = (
        list(caption(problems, str(tmp_path), "digest", kind(rule), GROUPS, 0, 5, 60.0))
        for kind in (Watched, Backwards)
    )
    assert backwards != forwards
    assert in_order(backwards, problems) == forwards


def test_a_refused_problem_has_no_captions_and_is_reported(problems: list[Problem], tmp_path: Path) -> None:
    engine = Watched(ScriptedReply(when=re.escape(problems[2].question), replies=("seen",)))
    refusals: list[tuple[str, str]] = []
    rows = caption(
        *(problems, str(tmp_path), "digest", engine, GROUPS, 0, 0, 60.0),
        refused=lambda problem, reason: refusals.append((problem.uid, reason)),
    )
    answered = {problem.uid for problem in problems if problem.question == problems[2].question}
    assert {row.uid for row in rows} == answered
    assert {uid for uid, _ in refusals} == {problem.uid for problem in problems} - answered
    assert all("no rule" in reason for _, reason in refusals) and refusals


@pytest.mark.parametrize("spoilt", [b"no image", None], ids=["changed", "deleted"])
def test_an_unreadable_image_costs_its_problem(problems: list[Problem], tmp_path: Path, spoilt: bytes | None) -> None:
    image = tmp_path / problems[1].images[0].path
    image.unlink() if spoilt is None else image.write_bytes(spoilt)
    refusals: list[tuple[str, str]] = []
    ticks: list[tuple[int, int]] = []
    rows = caption(
        *(problems, str(tmp_path), "digest", Watched(ScriptedReply(replies=("x",))), GROUPS, 0, 0, 60.0),
        progress=lambda *tick: ticks.append(tick),
        refused=lambda problem, reason: refusals.append((problem.uid, reason)),
    )
    assert {row.uid for row in rows} == {problem.uid for problem in problems} - {problems[1].uid}
    [(uid, reason)] = refusals
    assert uid == problems[1].uid
    assert str(image) in reason
    assert ticks[-1] == (4, 4)


def test_images_are_decoded_when_their_turn_comes(problems: list[Problem], tmp_path: Path) -> None:
    last = tmp_path / problems[-1].images[0].path
    rows = caption(problems, str(tmp_path), "digest", Watched(ScriptedReply(replies=("x",))), GROUPS, 0, 0, 60.0)
    assert [next(rows).uid for _ in range(9)][-1] == problems[2].uid
    last.unlink()
    assert list(rows) == []


def test_a_thinking_captioner_keeps_its_tokens_and_gives_its_caption(problems: list[Problem], tmp_path: Path) -> None:
    thinking = ScriptedReply(
        replies=("<think>bars...</think>\nThe red bar is 3.", "<think>" + "so " * 60, "No thought.")
    )
    rows = list(caption(problems[:1], str(tmp_path), "digest", ScriptedEngine((thinking,)), GROUPS, 0, 0, 60.0))
    assert [row.caption for row in rows] == ["The red bar is 3.", "", "No thought."]
    assert [row.finish_reason for row in rows] == ["stop", "length", "stop"]
    assert bytes(rows[0].completion_ids).startswith(b"<think>bars"), "the policy is trained on all that it writes"
    assert all(len(row.completion_ids) == len(row.logprobs) for row in rows)
