"""A person's word before a champion changes: the run is paused, and its page in Prefect's UI shows a form."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import get_run_logger
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.settings import PREFECT_API_URL
from pydantic import Field

from racro.errors import BadInput
from tasks.recording.registry import Move
from tasks.running.engines import release_all


class NobodyToAsk(BadInput):
    """There is no server on which people could answer."""


class Approval(RunInput):
    """What the form asks."""

    approved: bool = Field(default=False, description="May the better policy become champion?")
    note: str = Field(default="", description="Why; for the log.")


def require() -> None:
    """Raises NobodyToAsk if flows of this process use a temporary server."""
    if PREFECT_API_URL.value() is None:
        raise NobodyToAsk("approve: nobody can answer without a Prefect server; set PREFECT_API_URL, or see racro up")


def granted(moves: Sequence[Move], timeout: float) -> bool:
    """May the champion change? Asks only if it would. No answer within `timeout` seconds is a no. Called by flows.

    Engines are closed first: an answer may take a night, and their memory is wanted elsewhere.
    """
    if not moves:
        return True
    release_all()
    logger = get_run_logger()
    text = "\n".join(f"- {move.line}" for move in moves)
    form = Approval.with_initial_data(description=f"A better policy was trained:\n\n{text}\n\nMay it become champion?")
    try:
        answer = pause_flow_run(wait_for_input=form, timeout=int(timeout), key="champion")
    except FlowPauseTimeout:
        logger.warning("nobody said within %.0f s whether the champion may change: it stays", timeout)
        return False
    word = "approved" if answer.approved else "denied: the champion stays"
    logger.info("the change of the champion was %s%s", word, f" ({answer.note})" if answer.note else "")
    return bool(answer.approved)
