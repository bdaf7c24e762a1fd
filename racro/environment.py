"""Environment variables for the libraries that we use: no telemetry, no spinning threads, no proxy to this machine.

Libraries read them when they are imported, so `import racro` sets them, in a command and in a program of your own.
What is set already stays. Not here: where state is kept, which is the command's choice (`flows.station.local`).
"""

from __future__ import annotations

import os

DEFAULTS = {
    # Nothing about a run leaves the machine.
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TOKENIZERS_PARALLELISM": "false",  # forked children would warn
    # OpenMP threads that spin while they wait take the CPU from the server and from each other: three times slower
    # on two shared cores.
    "OMP_WAIT_POLICY": "PASSIVE",
}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def apply() -> None:
    """Set what is not set."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    bypass_proxies()


def bypass_proxies() -> None:
    """Reach servers of this machine directly: a proxy elsewhere cannot, and answers after minutes.

    Both spellings, because libraries differ in which one they prefer.
    """
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in PROXIES):
        return
    given = [host.strip() for name in ("no_proxy", "NO_PROXY") for host in os.environ.get(name, "").split(",")]
    for name in (*PROXIES, *map(str.upper, PROXIES)):
        scheme, there, address = os.environ.get(name, "").partition("://")
        if there and scheme == "socks":  # as desktops write it; httpx knows socks5 alone
            os.environ[name] = f"socks5://{address}"
    hosts = ",".join(dict.fromkeys([*filter(None, given), *LOOPBACK]))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = hosts
