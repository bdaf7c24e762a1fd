"""The model card's example for vLLM runs as it stands and says what its example for transformers says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from racro.config import EnginePlacement, loading
from racro.engines.vllm.environment import environment
from racro.models.adapters import Adapter
from racro.models.export import export
from racro.models.folders import EMBEDDED
from racro.processes import child
from racro.reports import card
from tests.conftest import EMBEDDED_RECIPE
from tests.unit.models.test_export import PROBLEM, adapter, blocks, summary

__all__ = ["adapter"]  # a fixture
CUT = "--- vLLM ---"


@pytest.mark.parametrize("kind", ["whole", "adapter"])
def test_the_example_for_vllm_says_what_the_one_for_transformers_says(
    kind: str,
    adapter: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    export(adapter if kind == "adapter" else EMBEDDED / "captioner", out)
    page = card.render("e" * 64, str(out), Adapter.read(out), summary(), loading.load(EMBEDDED_RECIPE))
    first, second = blocks(page)
    (tmp_path / "example.py").write_text(f"{first}\nprint({CUT!r})\n{second}")
    PROBLEM.images()[0].save(tmp_path / "image.png")
    # Nothing is compiled: that takes a minute, and the example does not say so.
    variables = environment(EnginePlacement(cpu_cache=1), cpu=True) | {"VLLM_USE_AOT_COMPILE": "0"}
    site = Path(child.__file__).with_name("site")  # beside a torch for CPUs torchvision needs it
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env=os.environ | variables | {"PYTHONPATH": os.pathsep.join([str(site), *sys.path])},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    transformers, _, vllm = done.stdout.partition(CUT)
    assert vllm.strip().splitlines()[-1] == transformers.strip().splitlines()[-1] != ""
