"""How do others ask over HTTP? An OpenAI-compatible API and a web page on one port; knows no MLflow and no run."""
