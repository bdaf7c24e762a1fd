"""The limit on unscored captions holds for an iteration with its refills as a whole."""

from __future__ import annotations

import pytest

from racro import config
from racro.storage import artifacts
from tasks.reward import TooManyUnscored, check


def record(captions: int, unscored: int) -> artifacts.Record:
    """Of captions of as many problems as there are captions."""
    metrics = {"problems": captions, "groups": captions, "captions": captions, "unscored": unscored}
    return artifacts.Record(
        stage="reward-answer",
        identity="",
        inputs={},
        code_version="",
        handle={"rows": captions, "digest": ""},
        handle_type="RewardTable",
        metrics={name: float(value) for name, value in metrics.items()},
        seconds=0.0,
        finished=0.0,
    )


def test_a_refill_is_judged_with_the_captions_before_it() -> None:
    reward = config.AnswerReward(max_unscored=0.2)
    first, few, many = (record(*of) for of in ((20, 1), (2, 2), (10, 9)))
    check([first], reward, 3)
    check([first, few], reward, 3)
    with pytest.raises(
        TooManyUnscored, match=r"^iteration 3: 10 of 30 captions have no reward answer after refilling;"
    ):
        check([first, many], reward, 3)
    with pytest.raises(
        TooManyUnscored, match=r"^iteration 3: 9 of 10 captions .* from an earlier run; above .* = 0\.2"
    ):
        check([many], reward, 3)
