"""In which order do stages run? One Prefect flow per file."""

import racro  # noqa: F401  # sets the environment that Prefect and MLflow read when they are imported
