"""What of MLflow's failures is tried again."""

from __future__ import annotations

from typing import Any, cast

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    BAD_REQUEST,
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    RESOURCE_ALREADY_EXISTS,
    TEMPORARILY_UNAVAILABLE,
)

from tasks.recording.track import may_heal


class Ended:
    """The state of a task that failed."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def result(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "heals"),
    [
        (MlflowException("away", TEMPORARILY_UNAVAILABLE), True),
        (MlflowException("a prompt that another run registered meanwhile", RESOURCE_ALREADY_EXISTS), True),
        (
            MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: tags.key, tags.run_uuid", BAD_REQUEST),
            True,
        ),
        (MlflowException("no", BAD_REQUEST), False),
        (ConnectionResetError(), True),
        (MlflowException("no", INVALID_PARAMETER_VALUE), False),
        (MlflowException("no", PERMISSION_DENIED), False),
        (KeyError("a mistake of ours"), False),
    ],
)
def test_what_another_attempt_may_get_past_is_tried_again(error: Exception, heals: bool) -> None:
    unused = cast(Any, None)
    assert may_heal(unused, unused, cast(Any, Ended(error))) is heals
