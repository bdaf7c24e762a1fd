"""Which stages are there? Thin Prefect tasks around functions of `racro`."""

import racro  # noqa: F401  # sets the environment that Prefect and MLflow read when they are imported
