"""Where do results go? MLflow, Prefect artifacts, reports and `summary.json`."""
