"""The report says what was measured, refers to nothing outside itself, and cannot be broken by what a model wrote."""

from __future__ import annotations

import io
import math
import re
from functools import cache
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image
from pydantic import ValidationError

from racro.curves import EvalPoint, IterationPoint
from racro.embedded.oracle import Facts
from racro.evaluation.outcomes import count_outcomes, gain
from racro.reports import charts
from racro.reports.curve import choose_example, curve_png
from racro.reports.training import Answered, ReportData, Sample, Setting, render
from racro.schema import Share, Verdict
from racro.summary import StageTotal

CORRECT, WRONG, TRUNCATED = Verdict.CORRECT, Verdict.WRONG, Verdict.TRUNCATED
HOSTILE = '<script>alert("x")</script><img src="http://evil.example/x.png" onerror=alert(1)>'


def picture(mode: str = "RGB", size: tuple[int, int] = (112, 28), form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, form)
    return buffer.getvalue()


def evaluation(iteration: int, accuracy: float, **changes: object) -> EvalPoint:
    by_category = {name: Share(value=accuracy, stderr=0.04, n=50) for name in ("sum", "a <b> $x_$ & 50%")}
    point = EvalPoint(
        iteration=iteration,
        step=4 * iteration,
        accuracy=accuracy,
        stderr=0.03,
        n=100,
        truthful=0.99,
        states_asked=accuracy,
        leaks=0.0,
        by_category=by_category,
    )
    return point.model_copy(update=changes)


def iteration(number: int) -> IterationPoint:
    return IterationPoint(
        iteration=number,
        reward_mean=0.3 + 0.1 * number,
        reward_stderr=0.02,
        rewards={"answer": 0.3 + 0.1 * number, "describes": -0.2},
        captions=64,
        groups=16,
        informative_groups=9,
        verdicts={"correct": 30, "wrong": 30, "unparsed": 2, "truncated": 1, "failed": 1},
        kl=0.001,
        entropy=1.1,
        clip_ratio=0.02,
        logprob_gap=1e-6,
        caption_tokens_mean=31.5,
        seconds={"caption": 1.0, "rewards": 2.0, "update": 3.0, "grade": 0.5},
    )


def sample(before: Verdict = WRONG, after: Verdict | None = CORRECT, text: str = "a caption") -> Sample:
    return Sample(
        images=(picture(),),
        question="<image>Which bar?",
        answer="red",
        category="sum",
        before=Answered(caption=text, response=text, verdict=before),
        after=None if after is None else Answered(caption=text, response=text, verdict=after),
    )


def report(**changes: object) -> ReportData:
    return ReportData(
        run="demo",
        recipe_digest="ab" * 32,
        seed=3,
        evaluations=(evaluation(0, 0.42), evaluation(2, 0.61), evaluation(3, 0.9)),
        iterations=tuple(iteration(k) for k in (1, 2, 3)),
        stages={"caption": StageTotal(seconds=61.0, executed=3, cached=1)},
        outcomes={"fixed": 50, "broken": 2, "wrong": 8, "right": 40},
        samples=(sample(), sample(CORRECT, WRONG), sample(WRONG, TRUNCATED), sample(CORRECT, CORRECT)),
        links={"Prefect": "http://127.0.0.1:4200/runs/1"},
    ).model_copy(update=changes)


class References(HTMLParser):
    """Every element, and everything that a browser would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = ("src", "href", "xlink:href", "srcset", "data", "action", "poster")
        found = [value or "" for name, value in attrs if name in names]
        (self.links if tag == "a" else self.fetched).extend(found)


VARIANTS = {
    "complete": report(),
    "one evaluation": report(evaluations=(evaluation(0, 0.4),), outcomes={}, samples=(sample(after=None),)),
    "before any training": report(evaluations=(evaluation(0, 0.4),), iterations=(), stages={}, outcomes={}, samples=()),
    "no samples": report(samples=(), outcomes={}),
    "no oracle": report(
        evaluations=tuple(evaluation(k, 0.5, truthful=None, states_asked=None, leaks=None) for k in (0, 3))
    ),
    "nothing beyond reward": report(
        iterations=(
            IterationPoint(
                iteration=1, reward_mean=0.1, reward_stderr=0, captions=4, groups=0, informative_groups=0, kl=math.nan
            ),
        )
    ),
    "all right from the start": report(evaluations=(evaluation(0, 1.0, stderr=0.0), evaluation(1, 1.0, stderr=0.0))),
    "under way": report(running="iteration 3 of 8, about 2 min to go"),
    "with its recipe": report(
        settings=tuple(
            Setting(key=key, value=f"value of {key}", default="1e-6", differs=key == "seed")
            for key in ("seed", "runtime")
        ),
        facts={"Cost": {"wall time": "12 s"}, "Versions": {"torch": "2.13"}},
    ),
    "hostile text": report(
        run=HOSTILE,
        running=HOSTILE,
        samples=(sample(text=HOSTILE * 9),),
        links={HOSTILE: HOSTILE, "script": "javascript:alert(1)"},
        settings=(Setting(key=HOSTILE, value=HOSTILE, default=HOSTILE, differs=True),),
        facts={HOSTILE: {HOSTILE: HOSTILE}},
    ),
}


@cache
def page_of(name: str) -> str:
    return render(VARIANTS[name])


@pytest.mark.parametrize("name", VARIANTS)
def test_every_page_is_self_contained_and_sound(name: str) -> None:
    page = page_of(name)
    found = References(page)
    assert all(address.startswith(("data:image/", "#")) for address in found.fetched)
    assert all(address.startswith(("http://", "https://")) for address in found.links)
    assert not {"script", "link", "iframe", "object", "base"} & set(found.tags)
    assert not re.search(r"@import|url\((?!#)", page)
    assert found.tags.count("img") == sum(len(s.images) for s in VARIANTS[name].samples)
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert charts and all(ElementTree.fromstring(chart.replace("xlink:href", "href")) is not None for chart in charts)
    assert "nan" not in re.sub(r"data:image/[^\"]*", "", page).lower()


@pytest.mark.parametrize("name", VARIANTS)
def test_the_curve_has_one_size(name: str) -> None:
    assert Image.open(io.BytesIO(curve_png(VARIANTS[name]))).size == (1200, 520)


def test_equal_data_give_equal_bytes() -> None:
    assert render(report()) == page_of("complete")
    assert curve_png(report()) == curve_png(report())


def test_the_headline_states_the_gain_with_its_error() -> None:
    page = page_of("complete")
    for text in ("42.0", "90.0", "+48.0", "paired by problem", "n = 100", "one training with one seed"):
        assert text in page
    unpaired = render(report(outcomes={}))
    assert "paired" not in unpaired and "+48.0" in unpaired
    single = page_of("one evaluation")
    assert "one evaluation only" in single and 'class="gain' not in single


def test_the_page_of_a_running_training_says_so_and_loads_itself_again() -> None:
    page, over = page_of("under way"), page_of("complete")
    assert "Running: iteration 3 of 8, about 2 min to go" in page and '<meta http-equiv="refresh"' in page
    assert "Running" not in over and 'http-equiv="refresh"' not in over


def test_settings_that_differ_come_first_and_facts_are_told() -> None:
    page = page_of("with its recipe")
    differing, others = page.split("All others, at their defaults")
    assert "value of seed" in differing and "1e-6" in differing and "value of runtime" in others
    assert all(text in page for text in ("wall time", "12 s", "torch", "2.13"))


def test_what_was_changed_in_the_closest_shipped_recipe_is_told_before_all_settings() -> None:
    change = Setting(key="update.learning_rate", value="3e-05", default="0.0005", differs=True)
    page = render(report(closest="embedded", changes=(change,), settings=(change,)))
    changed, _ = page.split("<b>Settings</b>")
    assert "<code>embedded</code> with 1 key changed" in changed and "in embedded" in changed
    assert "learning_rate" in changed and "3e-05" in changed and "0.0005" in changed
    assert "key changed" not in render(report(closest="embedded")) and "Changed" not in render(report())


def test_shares_have_the_error_that_they_can_have_at_most() -> None:
    assert "standard errors of at most 5.0 points" in page_of("complete"), "n = 100"


def test_accuracy_by_category_is_a_curve_once_there_are_points_between() -> None:
    title = "Accuracy by category, over iterations"
    assert title in page_of("complete") and title not in page_of("no oracle")


def test_setbacks_are_shown_with_their_counts() -> None:
    page = " ".join(page_of("complete").split())
    for title, count in (("Wrong → right", 50), ("Right → wrong", 2), ("Still wrong", 8), ("Still right", 40)):
        assert f"{title} <span>{count} of 100 held-out problems, 1 shown" in page


def test_what_captions_of_an_earlier_policy_cost_is_shown_where_there_are_some() -> None:
    stale = iteration(1).model_copy(update={"staleness_steps": 2, "staleness_nats": 0.01, "importance_clipped": 0.1})
    for iterations, shown in (((iteration(0), stale), True), ((iteration(0),), False)):
        page = render(report(iterations=iterations))
        assert all((title in page) == shown for title in ("Staleness", "Importance out of bounds"))


def test_charts_without_data_are_left_out() -> None:
    assert "What the captions say" in page_of("complete")
    assert "What the captions say" not in page_of("no oracle")
    bare = page_of("before any training")
    assert all(title not in bare for title in ("Mean reward", "KL to the initial", "Time per iteration", "Wrong →"))


def test_charts_take_the_colours_of_the_page() -> None:
    page = page_of("complete")
    used = set(re.findall(r"var\(--([a-z]+), #", page))
    light, dark = page.split("prefers-color-scheme:dark", 1)
    assert {"ink", "muted", "grid", "after", "before", "reward"} <= used
    assert all(f"--{name}:#" in light and f"--{name}:#" in dark for name in used)


def test_large_and_odd_images_become_small_web_images() -> None:
    images = (picture(size=(3000, 2000)), picture("CMYK", form="TIFF"), picture("P"), picture(form="JPEG"))
    page = render(report(samples=(sample().model_copy(update={"images": images}),)))
    assert 'width="560" height="373"' in page and page.count("data:image/") == 4 and "image/tiff" not in page


def test_gain_is_exact_for_paired_answers() -> None:
    half = Share(value=0.5, stderr=0.25, n=4)
    paired = gain(half, Share(value=0.75, stderr=0.22, n=4), {"fixed": 1, "broken": 0, "wrong": 1, "right": 2})
    changes = [1, 0, 0, 0]
    variance = sum((c - 0.25) ** 2 for c in changes) / 3
    assert paired.paired and paired.value == 0.25 and paired.stderr == pytest.approx(math.sqrt(variance / 4))
    alone = gain(half, half, {"fixed": 1})
    assert not alone.paired and alone.stderr == pytest.approx(0.25 * math.sqrt(2))


def test_answers_that_all_changed_alike_or_not_at_all_make_no_gain_certain() -> None:
    half = Share(value=0.5, stderr=0.25, n=4)
    still = gain(half, half, {"fixed": 0, "broken": 0, "wrong": 2, "right": 2})
    assert still.paired and still.value == 0 and 0 < still.stderr < 0.5
    one = Share(value=1.0, stderr=0.2, n=1)
    assert "±" in still.percent and gain(one, one, {"right": 1}).percent == "+0.0"


def test_outcomes_are_counted_over_common_problems() -> None:
    before = {"a": WRONG, "b": CORRECT, "c": TRUNCATED, "d": CORRECT, "x": WRONG}
    after = {"a": CORRECT, "b": WRONG, "c": Verdict.FAILED, "d": CORRECT}
    assert count_outcomes(before, after) == {"fixed": 1, "broken": 1, "wrong": 1, "right": 1}


def test_a_report_needs_an_evaluation() -> None:
    with pytest.raises(ValidationError, match="evaluations"):
        ReportData(run="r", recipe_digest="d", seed=0, evaluations=())


def described(stated: int, true: int, asked: bool, leaks: bool = False) -> Facts:
    return Facts(stated=stated, true=true, states_asked=asked, leaks=leaks)


def test_the_figure_prefers_captions_that_only_describe() -> None:
    def told(name: str, before: Facts, after: Facts, outcome: Verdict = CORRECT) -> Sample:
        one = sample(after=outcome).model_copy(update={"question": name})
        answered = (
            one.before.model_copy(update={"facts": before}),
            one.after.model_copy(update={"facts": after}) if one.after else None,
        )
        return one.model_copy(update={"before": answered[0], "after": answered[1]})

    fair = told("fair", described(3, 3, False), described(3, 3, True))
    leaking = told("leaking", described(3, 3, False), described(2, 2, True, leaks=True))
    short = told("short", described(3, 3, False), described(1, 1, True))
    false = told("false", described(3, 2, False), described(3, 3, True))
    still_wrong = told("wrong", described(3, 3, False), described(3, 3, True), WRONG)
    assert choose_example([leaking, short, false, still_wrong, fair]) == fair
    assert choose_example([leaking, short]) == short
    assert choose_example([leaking]) == leaking
    assert choose_example([still_wrong]) is None
    assert choose_example([sample()]) == sample(), "of real images nothing is known"


@pytest.mark.parametrize(("n", "drawn"), [(1, False), (100, True)])
def test_a_single_problem_has_no_error_bar(n: int, drawn: bool) -> None:
    axes = Figure().add_subplot()
    charts.accuracy([evaluation(0, 0.0, n=n), evaluation(1, 1.0, n=n)])(axes)
    [bars] = [found for found in axes.containers if isinstance(found, ErrorbarContainer)]
    [lines] = bars.lines[2]
    assert [len(line) > 0 and line[0][1] < line[1][1] for line in lines.get_segments()] == [drawn] * 2
