"""Do engines in other processes work? Real vLLM, real servers, real workers."""
