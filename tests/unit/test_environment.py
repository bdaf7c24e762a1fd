"""What `import racro` sets, and only where nothing is set: opt-outs of telemetry, and no proxy to this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from urllib.request import getproxies, proxy_bypass

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from racro import environment
from tests.support.examples import examples


@pytest.mark.parametrize("statement", ["import racro", "import tasks", "import flows", "import racro.schema"])
def test_telemetry_is_off_before_any_library_is_imported(statement: str) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in environment.DEFAULTS}
    program = (
        f"{statement}\nimport os, sys\nprint([os.environ['DO_NOT_TRACK'], os.environ['MLFLOW_DISABLE_TELEMETRY']])"
    )
    program += "\nprint(sorted({'prefect', 'mlflow', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['1', 'true']", "[]"]


def test_what_is_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    environment.apply()
    assert os.environ["DO_NOT_TRACK"] == "0"


HOSTS = st.lists(st.sampled_from(["example.org", "10.0.0.0/8", "127.0.0.1", "localhost"]), max_size=3)


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_lower=HOSTS, given_upper=HOSTS, proxy=st.sampled_from(["http_proxy", "HTTP_PROXY", "ALL_PROXY"]))
def test_loopback_never_goes_through_a_proxy(
    given_lower: list[str], given_upper: list[str], proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", ",".join(given_lower))
    monkeypatch.setenv("NO_PROXY", ",".join(given_upper))
    monkeypatch.setenv(proxy, "http://192.0.2.1:3128")
    environment.bypass_proxies()
    assert all(proxy_bypass(host) for host in environment.LOOPBACK)
    kept = getproxies()["no"].split(",")
    assert {*given_lower, *given_upper} <= {*kept} and len(kept) == len({*kept})


@pytest.mark.parametrize("scheme", ["http", "socks", "socks5", "socks5h"])
@pytest.mark.parametrize("name", ["all_proxy", "ALL_PROXY", "HTTPS_PROXY"])
def test_any_proxy_leaves_clients_of_loopback_working(name: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, f"{scheme}://192.0.2.1:3128/")
    environment.bypass_proxies()
    with httpx.Client() as client:  # Prefect's
        assert client.is_closed is False
