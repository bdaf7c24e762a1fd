"""`make screenshots`: a training started by the API, and what the two UIs show of it, in docs/*.png. Needs Chromium.

python -m tests.bench.screenshots [FOLDER]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1]

from tests.support.workplace import Workplace, opened, tiny  # noqa: E402

SIZE = "1440,800"
PATIENCE = 60_000
"""Milliseconds of the page's own time for it to load what it shows."""


def main(folder: Path) -> None:
    """Train, and look."""
    with tempfile.TemporaryDirectory() as work:
        for place in opened(Path(work) / "up"):
            run = place.wait(place.start("train", recipe=tiny("iterations=3", "evaluation.every=1"), run="first"))
            for name, url in pages(place, run["id"]).items():
                shoot(url, folder / f"{name}.png", Path(work))


def pages(place: Workplace, run: str) -> dict[str, str]:
    """Name -> address of what is shown."""
    summary = place.summary("first")
    prefect = place.api.removesuffix("/api")
    return {
        "prefect-form": f"{prefect}/deployments/deployment/{place.deployment('train')['id']}/run",
        "prefect-run": f"{prefect}/runs/flow-run/{run}",
        "mlflow-run": f"{place.mlflow}/#/experiments/1/runs/{summary['mlflow_run_id']}",
    }


def shoot(url: str, file: Path, work: Path) -> None:
    """A picture of a page. Raises where there is no Chromium."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("screenshots need Chromium: apt-get install chromium")
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={work}/chromium",
    ]
    options += [f"--window-size={SIZE}", f"--virtual-time-budget={PATIENCE}", f"--screenshot={file}"]
    subprocess.run([browser, *options, url], check=True, capture_output=True, timeout=180)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TESTS.parent / "docs")
