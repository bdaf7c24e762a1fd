"""Scores against the authors' definitions, counted here one family at a time, on any verdicts."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from statistics import pstdev
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racro.benchmarks import BENCHMARKS, dynamath, wemath
from racro.benchmarks.metrics import Graded, Scores, ratio
from racro.schema import Label, Metric, Question, Verdict

RIGHT, WRONG, FAILED = Verdict.CORRECT, Verdict.WRONG, Verdict.FAILED
VERDICTS = st.sampled_from(list(Verdict))


def graded(
    verdict: Verdict,
    family: str | None = None,
    part: str | None = None,
    labels: Iterable[tuple[str, str]] = (),
    samples: tuple[str | None, ...] = (),
) -> Graded:
    question = Question(
        **{"uid": f"{family}/{part}", "question": "?", "answer": "1", "kind": "integer", "category": "all"},
        **{"choices": (), "images": (), "scene": None, "benchmark": "x", "family": family, "part": part},
        labels=tuple(Label(name=name, value=value) for name, value in labels),
    )
    return Graded(question, verdict, samples)


def by_name(scores: Scores) -> dict[str, Metric]:
    assert len({metric.name for metric in scores.metrics}) == len(scores.metrics)
    return {metric.name: metric for metric in scores.metrics}


# --- WeMath -----------------------------------------------------------------------------------------------------------


@st.composite
def wemath_families(draw: Any) -> dict[str, dict[str, Verdict]]:
    """Families of two and three steps, some of them with failed or missing parts."""
    made = {}
    for i in range(draw(st.integers(1, 12))):
        steps = draw(st.sampled_from([2, 3]))
        keys = [f"{steps}steps_{part}" for part in (*range(1, steps + 1), "multi")]
        present = [key for key in keys if draw(st.integers(0, 9))] or keys[:1]
        made[f"{steps}steps_{i}"] = {key: draw(VERDICTS) for key in present}
    return made


def four_measures(families: Mapping[str, Mapping[str, Verdict]], loose: bool) -> dict[str, float] | None:
    """The definition, literally; None without a complete family."""
    IK = IG = CM = RM = 0
    for family, verdicts in families.items():
        steps = int(family[0])
        if len(verdicts) < steps + 1 or FAILED in verdicts.values():
            continue
        right = [verdicts[f"{steps}steps_{i}"] is RIGHT for i in range(1, steps + 1)]
        whole = verdicts[f"{steps}steps_multi"] is RIGHT
        if not whole and not all(right):
            IK += 1
        elif not whole:
            IG += 1
        elif all(right) or (loose and any(right)):
            CM += 1
        else:
            RM += 1
    F = IK + IG + CM + RM
    if not F:
        return None
    score = (F - 0.5 * IG - RM - IK) / F
    return {"F": F, "score": score, "IK": IK / F, "IG": IG / F, "CM": CM / F, "RM": RM / max(1, CM + RM), "n": CM + RM}


@settings(deadline=None)
@given(wemath_families(), st.randoms(use_true_random=False))
def test_wemath_is_its_definition(families: dict[str, dict[str, Verdict]], shuffler: random.Random) -> None:
    rows = [graded(verdict, f, key) for f, parts in families.items() for key, verdict in parts.items()]
    shuffler.shuffle(rows)
    scores = wemath.score(rows)
    found = by_name(scores)
    assert scores.families == len(families) and scores.unscored == sum(g.verdict is FAILED for g in rows)
    for name in ("strict", "loose"):
        expected = four_measures(families, loose=name == "loose")
        if expected is None:
            assert scores.incomplete == len(families) and f"score ({name})" not in found
            continue
        assert scores.incomplete == len(families) - expected["F"]
        assert found[f"score ({name})"].value == pytest.approx(expected["score"])
        assert found[f"score ({name})"].n == expected["F"]
        assert found[f"complete mastery ({name})"].value == pytest.approx(expected["CM"])
        assert found["insufficient knowledge"].value == pytest.approx(expected["IK"])
        assert found["inadequate generalization"].value == pytest.approx(expected["IG"])
        if expected["n"]:
            assert found[f"rote memorization ({name})"].value == pytest.approx(expected["RM"])
            assert found[f"rote memorization ({name})"].n == expected["n"]
        else:
            assert f"rote memorization ({name})" not in found


def test_wemath_headline_and_steps() -> None:
    keys = {"2steps_1": RIGHT, "2steps_2": WRONG, "2steps_multi": RIGHT}
    labels = {"2steps_multi": [("steps", "2-step")]}
    rows = [graded(v, "a", key, labels.get(key, [("steps", "one-step")])) for key, v in keys.items()]
    scores = wemath.score(rows)
    found = by_name(scores)
    assert scores.metrics[0].name == "score (strict)" and scores.metrics[0].value == 0
    assert found["score (loose)"].value == 1
    assert found["accuracy / steps / one-step"].value == 0.5 and found["accuracy / steps / 2-step"].value == 1


# --- DynaMath ---------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.data(), st.sampled_from([4, 10]))
def test_dynamath_is_its_definition(data: Any, variants: int) -> None:
    # Mostly right, or no family of ten would ever be.
    verdicts = st.sampled_from([*[RIGHT] * 20, *Verdict])
    verdicts_FV = data.draw(st.lists(st.lists(verdicts, min_size=variants, max_size=variants), min_size=1, max_size=12))
    missing = data.draw(st.sets(st.integers(1, len(verdicts_FV)), max_size=3)) - {len(verdicts_FV)}
    rows = [
        graded(verdict, str(f), str(variant))
        for variant in range(variants)
        for f, verdicts_V in enumerate(verdicts_FV)
        for verdict in [verdicts_V[variant]]
        if not (variant == 2 and f + 1 in missing)
    ]
    scores = dynamath.score(rows)
    found = by_name(scores)
    answered = [g for g in rows if g.verdict is not FAILED]
    if answered:
        average = sum(g.verdict is RIGHT for g in answered) / len(answered)
        assert found["average"].value == pytest.approx(average) and found["average"].n == len(answered)
    whole = [v for f, v in enumerate(verdicts_FV) if f + 1 not in missing and FAILED not in v]
    assert scores.families == len(verdicts_FV) and scores.incomplete == len(verdicts_FV) - len(whole)
    if whole:
        worst = sum(all(v is RIGHT for v in verdicts_V) for verdicts_V in whole) / len(whole)
        assert scores.metrics[0].name == ("worst case" if variants == 10 else f"worst case of {variants} variants")
        assert scores.metrics[0].value == pytest.approx(worst) and scores.metrics[0].n == len(whole)


def test_dynamath_by_subject_and_repetition() -> None:
    rows = [
        graded(verdict, family, part, [("subject", subject)], samples)
        for family, subject, part, verdict, samples in [
            ("1", "algebra", "1", RIGHT, ("3", "x = 3", "4")),
            ("1", "algebra", "2", WRONG, ("5", "5.0", "+5")),
            ("2", "puzzle test", "1", RIGHT, (None, None, "7")),
            ("2", "puzzle test", "2", RIGHT, ("7", "7 cm", "7")),
        ]
    ]
    found = by_name(dynamath.score(rows))
    assert (found["worst case of 2 variants"].value, found["average"].value) == (0.5, 0.75)
    assert found["reasoning robustness"].value == pytest.approx(0.5 / 0.75)
    assert found["worst case of 2 variants / subject / algebra"].value == 0
    assert found["average / subject / algebra"].value == 0.5
    assert found["repetition consistency"].value == 5 / 8 and found["repetition consistency"].n == 8
    assert "repetition consistency" not in by_name(dynamath.score([g._replace(samples=()) for g in rows]))


# --- accuracy ---------------------------------------------------------------------------------------------------------


def test_accuracy_by_every_label_a_question_has() -> None:
    skills = [("skill", "algebra"), ("skill", "geometry"), ("task", "diagram")]
    rows = [graded(RIGHT, labels=skills), graded(WRONG, labels=skills[1:]), graded(Verdict.UNPARSED), graded(FAILED)]
    scores = BENCHMARKS["mathvista"].score(rows)
    assert [(m.name, m.value, m.n) for m in scores.metrics] == [
        ("accuracy", 1 / 3, 3),
        ("accuracy / skill / algebra", 1, 1),
        ("accuracy / skill / geometry", 0.5, 2),
        ("accuracy / task / diagram", 0.5, 2),
    ]
    assert scores.unscored == 1 and scores.metrics[0].stderr == pytest.approx((2 / 9 / 3) ** 0.5)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_nothing_graded_is_no_metric(name: str) -> None:
    assert BENCHMARKS[name].score([]).metrics == ()
    failed = BENCHMARKS[name].score([graded(FAILED, "2steps_1", "2steps_1", [("subject", "x")])])
    assert failed.metrics == () and failed.unscored == 1


def test_versions_of_a_problem_are_not_independent() -> None:
    chance = random.Random(0)
    alike = [(str(i), chance.choice([RIGHT, WRONG])) for i in range(400)]
    rows = [graded(v, family, part, [("version", part)]) for family, v in alike for part in "abcde"]
    found = by_name(BENCHMARKS["mathverse-all"].score(rows))
    assert found["accuracy"].n == 2000
    assert found["accuracy"].stderr == pytest.approx(found["accuracy / version / a"].stderr, rel=0.1)


# --- the bootstrap ----------------------------------------------------------------------------------------------------


def test_the_bootstrap_agrees_with_theory_and_with_itself() -> None:
    chance = random.Random(1)
    share_F = [chance.random() for _ in range(525)]
    (metric,) = ratio("x", share_F)
    assert metric.stderr == pytest.approx(pstdev(share_F) / 525**0.5, rel=0.1)
    assert ratio("x", share_F) == [metric]


def test_ratio_of_counts_that_vary() -> None:
    chance = random.Random(2)
    whole_F = [chance.randint(0, 9) for _ in range(300)]
    part_F = [chance.randint(0, n) for n in whole_F]
    (metric,) = ratio("x", part_F, whole_F)
    assert metric.value == sum(part_F) / sum(whole_F) and metric.n == sum(whole_F)
    residual = [p - metric.value * w for p, w in zip(part_F, whole_F, strict=True)]
    assert metric.stderr == pytest.approx(pstdev(residual) * 300**0.5 / sum(whole_F), rel=0.1)
    assert ratio("x", [0, 0], [0, 0]) == []
