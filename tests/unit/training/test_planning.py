"""Which captions may an update be made of? Those of the policy that it updates, or of the one that is named."""

from __future__ import annotations

import pytest

from racro.training.planning import BadRollouts, plan
from tests.support.cases import problem, rollout
from tests.support.scoring import scored

ROWS = scored([rollout("a"), rollout("b", sample=1)], [0.0, 1.0])


def test_captions_of_the_policy_before_are_taken_where_it_is_named() -> None:
    assert plan(ROWS, {"p": problem()}, "digest", 1).writer is None
    work = plan(ROWS, {"p": problem()}, "newer", 1, writer="digest")
    assert (work.writer, work.steps, len(work.groups)) == ("digest", 1, 1)


def test_groups_may_differ_by_a_reference_alone() -> None:
    known = rollout("c", sample=2).model_copy(update={"reference": True, "logprobs": ()})
    other = [rollout("a", uid="q"), rollout("b", sample=1, uid="q")]
    rows = [*scored([*ROWS, known], [0.0, 0.0, 1.0]), *scored(other, [0.0, 1.0])]
    problems = {uid: problem(uid) for uid in "pq"}
    work = plan(rows, problems, "digest", 2)
    assert [len(group.rollouts) for group in work.groups] == [3, 2] and work.starts == (0, 3, 5)
    with pytest.raises(BadRollouts, match="groups of different sizes"):
        plan([row.model_copy(update={"reference": False}) for row in rows], problems, "digest", 2)


def test_a_group_without_a_token_gives_no_signal() -> None:
    """Its captions may differ in reward, and have no log-probs to move."""
    empty = [row.model_copy(update={"completion_ids": (), "logprobs": (), "uid": "q"}) for row in ROWS]
    work = plan([*ROWS, *empty], {uid: problem(uid) for uid in "pq"}, "digest", 1)
    assert [group.problem.uid for group in work.groups] == ["p"] and work.zero_variance == 1


@pytest.mark.parametrize(
    ("policy", "writer", "says"),
    [
        ("newer", None, "rollouts of policy digest, but the policy to update is newer"),
        ("digest", "older", "rollouts of policy digest, but the policy that should have written them is older"),
    ],
)
def test_captions_of_another_policy_are_refused(policy: str, writer: str | None, says: str) -> None:
    with pytest.raises(BadRollouts, match=says):
        plan(ROWS, {"p": problem()}, policy, 1, writer=writer)
