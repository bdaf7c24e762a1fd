"""What earlier runs took is expected of later ones; what they do not tell stays unknown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.rehearsal import rehearse
from racro.config import loading
from racro.planning import given as files
from racro.planning.calls import Call, kind
from racro.planning.estimate import Costs, Plan
from racro.planning.measured import Line, Measured, Rate, read
from tests.support.examples import examples

SIZES = st.integers(1, 10_000)
POSITIVE = st.floats(0.001, 1000)
RATE = st.builds(
    Rate,
    seconds=st.builds(Line, POSITIVE, POSITIVE),
    first=POSITIVE,
    bytes=st.builds(Line, POSITIVE, POSITIVE),
    tokens=POSITIVE,
    records=st.just(3),
)


def planned(root: Path, rate: Rate, *overrides: str) -> Plan:
    """Of a training of which nothing is there, with the same rate for all kinds of work."""
    recipe = loading.load("smoke", overrides)
    calls = rehearse(recipe, str(root))
    kinds = {call.kind for call in calls}
    every = Measured(
        dict.fromkeys(kinds, rate),
        dict.fromkeys(kinds, 0.5),
        dict.fromkeys(kinds, 1e6),
        dict.fromkeys(kinds, 3e6),
        between=Line(1, 1),
    )
    return Costs(every).estimate(recipe, [calls], remote=False)


@settings(max_examples=examples(25))
@given(RATE, st.integers(16, 500), st.integers(2, 32))
def test_cost_grows_with_problems_and_group_size(rate: Rate, problems: int, group: int) -> None:
    def cost(problems: int, group: int) -> tuple[float, int]:
        sizes = (f"rollout.problems={problems}", f"rollout.group_size={group}", "problems.count=1000")
        plan = planned(Path("nowhere"), rate, *sizes)
        assert plan.seconds is not None and plan.bytes is not None and not plan.unknown
        return plan.seconds, plan.bytes

    least = cost(problems, group)
    for more in (cost(problems + 1, group), cost(problems, group + 1)):
        assert more[0] > least[0] and more[1] >= least[1]


def test_trainings_of_a_sweep_share_what_they_have_in_common(tmp_path: Path) -> None:
    recipes = [loading.load("smoke", [f"update.learning_rate={rate}"]) for rate in (1e-4, 1e-3)]
    one, two = (rehearse(recipe, str(tmp_path), told_apart=True) for recipe in recipes)
    plan = Costs(Measured()).estimate(recipes[0], [one, two], remote=False)
    runs = {part.name: part.runs for part in plan.parts}
    alone = {part.name: part.runs for part in Costs(Measured()).estimate(recipes[0], [one], remote=False).parts}
    assert runs["captions"] == alone["captions"] == 1 and runs["update"] == 2 * alone["update"]
    assert alone["evaluation"] < runs["evaluation"] < 2 * alone["evaluation"], "of the policy before, once"


def test_engines_and_trainer_are_opened_once_in_each_training_by_the_part_that_comes_first(tmp_path: Path) -> None:
    recipes = [loading.load("smoke", [f"update.learning_rate={rate}"]) for rate in (1e-4, 1e-3)]
    one, two = (rehearse(recipe, str(tmp_path), told_apart=True) for recipe in recipes)
    kinds = {call.kind for call in [*one, *two]}
    rate = Rate(Line(0, 1), 0, Line(0, 1), None, 3)

    def plan(openings: dict[str, float], *trainings: list[Call]) -> dict[str, float | None]:
        known = Measured(dict.fromkeys(kinds, rate), dict.fromkeys(kinds, 0.5), openings=openings)
        made = Costs(known).estimate(recipes[0], trainings, remote=False)
        return {"": made.seconds} | {part.name: part.seconds for part in made.parts}

    [captioner], [reasoner], [trainer] = (
        next(call.opens for call in one if call.stage == stage) for stage in ("parity", "answer", "update")
    )
    openings = {captioner: 7.0, trainer: 20.0, reasoner: 100.0}
    for trainings in ((one,), (one, two)):
        without, found = plan({}, *trainings), plan(openings, *trainings)
        more = {name: (found[name] or 0) - (without[name] or 0) for name in found}
        second = len(trainings) == 2  # parity, and what the initial policy wrote, are there by then
        assert more["preparation"] == 7 and more["update"] == 20 * len(trainings)
        assert more["evaluation"] + more["captions"] + more["reward answer"] == 100 + 107 * second
        assert more[""] == 127 * len(trainings)


def test_a_root_without_records_tells_nothing(tmp_path: Path) -> None:
    recipe = loading.load("smoke")
    plan = Costs(read(str(tmp_path))).estimate(recipe, [rehearse(recipe, str(tmp_path))], remote=False)
    assert plan.seconds is plan.bytes is plan.cost is None and plan.unknown
    assert plan.priced(8, 2.0).cost is None
    assert not plan.nothing


@given(st.lists(st.tuples(st.floats(1, 1e4), POSITIVE), min_size=1, max_size=20), SIZES, SIZES)
def test_a_line_never_falls_and_goes_through_a_single_point(
    points: list[tuple[float, float]], less: int, more: int
) -> None:
    line = Line.through(points)
    assert line.fixed >= 0 and line.per >= 0
    assert line.of(max(less, more)) >= line.of(min(less, more))
    [(units, cost), *_] = points
    assert Line.through([points[0]]).of(units) == pytest.approx(cost)


@given(POSITIVE, POSITIVE, st.lists(SIZES, min_size=2, max_size=8, unique=True))
def test_a_line_finds_what_is_fixed(fixed: float, per: float, sizes: list[int]) -> None:
    line = Line.through([(units, fixed + per * units) for units in sizes])
    if max(sizes) >= 2 * min(sizes):
        assert line.of(sizes[0]) == pytest.approx(fixed + per * sizes[0], rel=1e-3)


def test_other_models_are_another_kind_of_work_and_other_amounts_are_not() -> None:
    def caption(**changes: object) -> str:
        rollout = {"problems": 8, "group_size": 4, "max_tokens": 12} | changes
        return kind("caption", {"captioner": {"model": changes.get("model", "a")}, "rollout": rollout})

    assert caption() == caption(problems=16, group_size=2)
    assert len({caption(), caption(max_tokens=24), caption(model="b"), kind("solve", {})}) == 4
    assert Call("update", "update", "k", None, "", 1).most is None


@pytest.mark.parametrize(
    "text, line",
    [
        ("nodes: 4", r"memory, tflops, bandwidth, link: give it, or the name of a known gpu \(A100-40"),
        ("gpu: H900", r"gpu: H900 is not known; give one of A100-40"),
        ("gpu: H100\nnode: 3", r"node: .*; known keys: nodes, gpus"),
        ("- 3", r"give keys with values, for example `nodes: 4`"),
        ("a: [", r"is no YAML"),
    ],
)
def test_a_bad_file_is_one_line(text: str, line: str, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    with pytest.raises(files.BadFile, match=rf"cluster\.yaml: {line}") as caught:
        files.cluster(file)
    assert "\n" not in str(caught.value)


def test_rates_come_from_a_benchmark_too(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    file.write_text('{"device": "H100", "rows": [{"what": "update, flex", "figures": {"of_peak": 0.41}}]}')
    assert files.rates(file).train == 0.41
    file.write_text('{"device": "H100", "rows": []}')
    with pytest.raises(files.BadFile, match="no row of an update with of_peak"):
        files.rates(file)
