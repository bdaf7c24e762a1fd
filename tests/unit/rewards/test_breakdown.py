"""Metrics by category and origin: they add up to those of the whole iteration."""

from __future__ import annotations

import statistics
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro.rewards.breakdown import MOST, by_trait, overall
from racro.rewards.composition import Term, compose
from racro.schema import RewardRow, Rollout, ScoredRollout, Verdict

TERMS = (Term(name="answer", weight=1.0, gate=None), Term(name="short", weight=0.5, gate=None))
verdicts = st.sampled_from(list(Verdict))
captions = st.tuples(verdicts, st.integers(1, 30), st.booleans())


def iteration(groups: list[list[tuple[Verdict, int, bool]]]) -> list[ScoredRollout]:
    """Groups of captions with a verdict, a number of tokens, and whether they were cut."""
    rollouts, answers, shorts = [], [], []
    for number, group in enumerate(groups):
        for sample, (verdict, tokens, cut) in enumerate(group):
            rollouts.append(
                Rollout(
                    uid=str(number),
                    sample=sample,
                    policy="",
                    prompt_ids=(),
                    completion_ids=(1,) * tokens,
                    logprobs=(0.0,) * tokens,
                    finish_reason="length" if cut else "stop",
                    caption="",
                )
            )
            value = None if verdict is Verdict.FAILED else float(verdict is Verdict.CORRECT)
            answers.append(
                RewardRow(uid=str(number), sample=sample, value=value, detail="", response="", verdict=verdict)
            )
            shorts.append(
                RewardRow(uid=str(number), sample=sample, value=1 / tokens, detail="", response=None, verdict=None)
            )
    return compose(rollouts, [answers, shorts], TERMS)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(captions, min_size=1, max_size=4)), min_size=1, max_size=8))
def test_the_parts_add_up_to_the_whole(groups: list[tuple[str, list[tuple[Verdict, int, bool]]]]) -> None:
    rows = iteration([group for _, group in groups])
    traits = {str(number): value for number, (value, _) in enumerate(groups)}
    flat = by_trait(rows, ["answer", "short"], traits)
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for name, number in flat.items():
        value, _, metric = name.partition("/")
        found[value][metric] = number
    kinds = {value for value, _ in groups}
    assert found.keys() == (kinds if len(kinds) > 1 else set())
    if not found:
        return
    count = {value: sum(traits[row.uid] == value for row in rows) for value in kinds}
    for metric, of_row in (
        ("tokens_mean", lambda r: len(r.completion_ids)),
        ("cut_share", lambda r: r.finish_reason != "stop"),
    ):
        mean = sum(found[value][metric] * count[value] for value in kinds) / len(rows)
        assert mean == pytest.approx(statistics.fmean(map(of_row, rows)))
    assert sum(own["problems"] for own in found.values()) == len(groups)
    informative = {row.uid for row in rows if row.advantage}
    assert sum(own["groups_informative"] for own in found.values()) == len(informative)
    known = [row for row in rows if row.verdict is not Verdict.FAILED]
    for metric, verdict in (("pass_rate", Verdict.CORRECT), ("unparsed_share", Verdict.UNPARSED)):
        if known:
            assert overall(rows, {})[metric] == pytest.approx(statistics.fmean(r.verdict is verdict for r in known))
        for value in kinds:
            own = [row for row in known if traits[row.uid] == value]
            assert (metric in found[value]) == bool(own)
            if own:
                assert found[value][metric] == pytest.approx(statistics.fmean(r.verdict is verdict for r in own))


def test_rare_values_get_no_metrics_of_their_own() -> None:
    rows = iteration([[(Verdict.CORRECT, 3, False), (Verdict.WRONG, 3, False)]] * (MOST + 5))
    traits = {str(number): f"origin {max(0, number - 1):02}" for number in range(MOST + 5)}
    values = {name.partition("/")[0] for name in by_trait(rows, ["answer", "short"], traits)}
    assert len(values) == MOST
    assert "origin 00" in values
