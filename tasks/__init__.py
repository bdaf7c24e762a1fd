"""Which stages are there? Thin Prefect tasks around functions of `racro`."""
