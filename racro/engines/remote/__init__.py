"""How is text generated behind a URL? By a client of OpenAI-compatible servers."""
