"""Metrics are named by categories, which are anybody's words, and MLflow takes few of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from tasks.recording.metric_names import named

WORDS = st.text(max_size=20) | st.sampled_from(["a//b", "/", "..", "a/../b", "a?", "a!", "x " * 200, "x " * 201])


@given(st.sets(WORDS, max_size=6))
def test_any_categories_become_metrics_that_mlflow_takes_and_each_its_own(words: set[str]) -> None:
    found = named({f"heldout/accuracy/{one}": 1.0 for one in words})
    assert len(found) == len(words)
    for name in found:
        _validate_metric_name(name)


def test_plain_names_stay_as_they_are() -> None:
    plain = {"update/kl": 1.0, "heldout/accuracy/日本 1.5": 2.0}
    assert named(plain) == plain
    assert [*named({"(GradeSchool) Geometric": 1.0})] == ["_GradeSchool_ Geometric"], "as in earlier runs"
