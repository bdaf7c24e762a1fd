"""GPUs are divided within what there is, and no part gets cheaper when there is more of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racro.config import loading
from racro.models.sizes import Sizes, Tower
from racro.planning.given import KNOWN, Gpus, Lengths, Rates
from racro.planning.load import Load, Phase
from racro.planning.roofline import Ask, Model, Update, generating, updating
from racro.planning.simulation import Times, simulate
from racro.planning.split import NoSplit, Search
from tests.support.examples import examples

RECIPE = loading.load("racro-7b")
RATES = Rates()
SMALL = Model(parameters=3 * 10**9, bytes=2, cache=40_000)
LARGE = Model(parameters=32 * 10**9, bytes=2, cache=250_000)
GPUS = st.builds(Gpus, nodes=st.integers(1, 16), gpus=st.sampled_from([4, 6, 8]), gpu=st.sampled_from(sorted(KNOWN)))
SECONDS = st.floats(0.0, 1e4)
TIMES = st.builds(
    Times,
    captions=SECONDS,
    rewards=st.lists(st.tuples(st.sampled_from(["reasoner", "captioner", "judges.a"]), SECONDS), max_size=3).map(tuple),
    update=SECONDS,
    weights=SECONDS,
    save=SECONDS,
    describe=SECONDS,
    answer=SECONDS,
)


def sizes(parameters: int) -> Sizes:
    tower = Tower(layers=32, hidden=4096, width=60_000, positions=1.0, trained=True)
    rest = parameters // 10
    layer = (parameters - rest) // 32
    return Sizes(parameters, 0, parameters, False, layer, rest, 0, 150_000, (tower,))


def load(problems: int, group: int, captioner: Model, reasoner: Model) -> Load:
    update = Update(captioner.parameters, 12, problems / 2, 128, 1200 + group * 400, 8192)
    asked = ("answer", "reasoner", Ask(problems * group, 1, 600, 2000))
    phase = Phase(10, Ask(problems, group, 1200, 400), (asked,), update, 0)
    models = {"captioner": captioner, "reasoner": reasoner}
    heldout = Ask(100, 1, 1200, 400), Ask(100, 1, 600, 2000)
    return Load(RECIPE, models, (phase,), *heldout, sizes(captioner.parameters), Lengths(caption=400, answer=2000))


@settings(max_examples=examples(50))
@given(GPUS, st.integers(1, 2000), st.integers(2, 16), st.sampled_from([SMALL, LARGE]), st.sampled_from([SMALL, LARGE]))
def test_a_division_uses_no_more_gpus_than_there_are_and_everything_fits(
    gpus: Gpus, problems: int, group: int, captioner: Model, reasoner: Model
) -> None:
    work = load(problems, group, captioner, reasoner)
    search = Search(work, gpus, RATES)
    try:
        found = search.best()
    except NoSplit as error:
        assert "GPU" in str(error)
        left = gpus.count - sum(search.parallel.values())
        assert search.too_large or not any(map(search._fits, range(1, left + 1)))
        return
    assert sum(found.split.gpus.values()) <= gpus.count and min(found.split.gpus.values()) >= 1
    assert work.trainer(found.split.trainer) <= gpus.bytes
    for role, model in work.models.items():
        assert found.split.parallel[role] <= gpus.gpus
        assert model.parameters * model.bytes < gpus.bytes * found.split.parallel[role]
    assert all(0 <= busy <= found.run.seconds * (1 + 1e-9) for busy in found.run.busy.values())


@given(
    st.integers(1, 3000),
    st.integers(2, 32),
    st.integers(1, 64),
    st.sampled_from([SMALL, LARGE]),
    st.integers(1, 512),
)
def test_more_problems_and_larger_groups_take_no_less_time(
    problems: int, group: int, copies: int, model: Model, trainer: int
) -> None:
    gpus = Gpus(nodes=64, gpus=8, gpu="H100")

    def seconds(problems: int, group: int) -> tuple[float, float]:
        work = load(problems, group, model, model).phases[0]
        asked = generating(work.captions, model, copies, 8, gpus, RATES, 256)
        return asked, updating(replace(work.update, step=problems), trainer, gpus, RATES)

    less, more, larger = seconds(problems, group), seconds(problems + 1, group), seconds(problems, group + 1)
    for before, after in [*zip(less, more, strict=True), *zip(less, larger, strict=True)]:
        assert after >= before * (1 - 1e-9)


@given(TIMES, st.integers(1, 40), st.integers(1, 10), st.booleans())
def test_what_overlaps_is_no_slower_and_never_faster_than_its_longest_part(
    times: Times, iterations: int, every: int, streaming: bool
) -> None:
    plain = simulate(times, iterations, every, 0, False)
    other = simulate(times, iterations, every, 1, streaming)
    assert other.seconds <= plain.seconds * (1 + 1e-9) + 1e-6
    assert other.seconds >= iterations * times.update - 1e-6
    evaluations = 1 + -(-iterations // every)
    each = times.captions + sum(s for _, s in times.rewards) + times.update + times.weights + times.save
    whole = iterations * each + evaluations * (times.describe + times.answer)
    assert plain.seconds == pytest.approx(whole, rel=1e-6, abs=1e-6)


def test_a_trainer_that_fits_nowhere_is_said_in_one_line() -> None:
    with pytest.raises(NoSplit, match=r"^the trainer needs \d+ GB on each of \d+ GPUs, .*; use more or larger GPUs"):
        Search(load(256, 4, LARGE, SMALL), Gpus(nodes=1, gpus=4, gpu="H100"), RATES).best()
    with pytest.raises(NoSplit, match=r"^captioner: no node holds the weights"):
        Search(load(256, 4, LARGE, SMALL), Gpus(nodes=9, gpus=1, gpu="L40S"), RATES).best()
