"""`make screenshots`: docs/*.png, a tiny training in Prefect, MLflow and a terminal. Needs Chromium and its driver.

python -m tests.bench.screenshots [FOLDER]
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Literal, NamedTuple

import httpx
from rich.console import Console
from rich.text import Text
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import visibility_of_element_located
from selenium.webdriver.support.wait import WebDriverWait

TESTS = Path(__file__).parents[1]

from racro.config import loading  # noqa: E402
from tests.support import screen  # noqa: E402
from tests.support.browser import HEIGHT, resize  # noqa: E402
from tests.support.browser import browser as chromium  # noqa: E402
from tests.support.eventually import eventually  # noqa: E402
from tests.support.workplace import STATE, Workplace, opened, tiny  # noqa: E402

COLUMNS, ROWS = 100, 4
"""Width of the terminal, and iterations that are over in its picture."""
SHOWN = (
    "iterations=8",
    "problems.count=64",
    "rollout.problems=16",
    "update.mini_batch=8",
    "evaluation.problems=256",
    "evaluation.every=2",
)
"""The training in the terminal."""
OPEN = """
const tab = document.querySelector("[role=tablist] #artifacts");
if (tab) tab.click();
return tab !== null;
"""
"""Opens the tab of a run's page that shows its artifacts."""
LIVE = "[class^=artifact-card]"
"""An artifact on a run's page."""
LIVE_HEIGHT = 1180
"""Of a window that shows the stages above and the artifacts below."""
ROOT = "s3://team/runs"
"""What a person might type into a form for the root."""
TOP = "for (const element of document.querySelectorAll('*')) element.scrollTop = 0"
DEADLINE = 120
"""Seconds for a page to show what the picture is for."""
STILL = 2
"""Seconds without a change after which a page is drawn."""
CHARTS = "heldout/(accuracy|truthful|states_asked)$|reward_mean|captions_distinct|compose/groups_informative"
"""The metrics that say how a training goes, as a pattern."""
VISITED = """
localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
localStorage.setItem('mlflow.workflowType_v1', '"machine_learning"');
"""
"""What MLflow's pages remember of a visitor: the assistant does not open by itself, and the sidebar is the one of
trainings, which pages of models do not take from their address."""

CALM = """
const calm = document.createElement("style");
calm.textContent = "* { animation: none !important; transition: none !important; caret-color: transparent !important }";
document.documentElement.append(calm);
"""
"""Stops what moves for ever: Prefect's pulsing lights, a blinking caret."""


class Page(NamedTuple):
    """What a picture is taken of."""

    url: str
    shows: str
    """CSS selector of an element that is visible once the page has loaded."""
    sought: str = ""
    """What is typed into the page's search box."""
    height: int = HEIGHT
    """Of the window, in pixels."""


def main(folder: Path) -> None:
    """Train, and take a picture of each page."""
    with tempfile.TemporaryDirectory() as work, chromium(Path(work) / "chromium") as browser:
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": VISITED})
        for place in opened(Path(work) / "up"):
            recipe = tiny("iterations=3", "evaluation.every=1", "runtime.renewal=1")
            run = place.wait(place.start("train", recipe=recipe, run="first"))
            for name, page in pages(place, run["id"]).items():
                (folder / f"{name}.png").write_bytes(picture(browser, page))
            (folder / "prefect-live.png").write_bytes(live(browser, place))
            (folder / "site.png").write_bytes(picture(browser, site(Path(work))))
            (folder / "terminal.png").write_bytes(terminal(browser, place, Path(work)))


def pages(place: Workplace, run: str) -> dict[str, Page]:
    """Name of a picture -> page."""
    prefect = place.api.removesuffix("/api")
    mlflow_run = place.summary("first")["mlflow_run_id"]
    search = {"filter": f"run_id = '{mlflow_run}'"}
    versions = httpx.get(f"{place.mlflow}/api/2.0/mlflow/model-versions/search", params=search).json()["model_versions"]
    return {
        "prefect-form": Page(form(place, "train-full"), ".schema-form-property__label"),
        "prefect-short": Page(form(place, "train"), ".schema-form-property__label", height=1180),
        "prefect-run": Page(f"{prefect}/runs/flow-run/{run}", "canvas"),
        "mlflow-run": Page(
            f"{place.mlflow}/#/experiments/1/runs/{mlflow_run}/model-metrics?workflowType=machine_learning",
            ".js-plotly-plot .scatterlayer path",
            CHARTS,
            1080,
        ),
        "mlflow-model": Page(
            f"{place.mlflow}/#/models/{versions[0]['name']}?workflowType=machine_learning",
            "table, [role=table]",
            height=628,  # to the first version's digest; further down are paths of this machine
        ),
    }


def form(place: Workplace, deployment: str) -> str:
    """The address of a deployment's form."""
    return f"{place.api.removesuffix('/api')}/deployments/deployment/{place.deployment(deployment)['id']}/run"


def site(work: Path) -> Page:
    """A page of the documentation's site, which is built for it."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(work / "site")]
    subprocess.run(command, cwd=TESTS.parent, check=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    return Page(f"file://{work}/site/rewards.html", "article h1")


def live(browser: webdriver.Chrome, place: Workplace) -> bytes:
    """The page of a training in its middle, with its artifacts."""
    recipe = tiny("iterations=60", "evaluation.every=1", "runtime.renewal=1", "seed=5")
    run = place.start("train", recipe=recipe, run="under-way")

    def some() -> bool:
        chosen = {"flow_run_id": {"any_": [run]}, "key": {"any_": ["training"]}}
        bars = place.post("/artifacts/filter", artifacts=chosen).json()
        return bool(bars) and bars[0]["data"] >= 5

    assert eventually(some, 900), place.log(run)
    resize(browser, LIVE_HEIGHT)
    browser.get(f"{place.api.removesuffix('/api')}/runs/flow-run/{run}")
    wait = WebDriverWait(browser, DEADLINE)
    # One script, because elements of a page that renews itself are gone before a second command reaches them.
    wait.until(lambda _: browser.execute_script(OPEN), "the page of the run has no tab Artifacts")
    wait.until(visibility_of_element_located((By.CSS_SELECTOR, LIVE)), f"the page of the run shows no {LIVE}")
    time.sleep(STILL)  # while the run goes on, the page never stands still
    found = browser.get_screenshot_as_png()
    place.post(f"/flow_runs/{run}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})
    place.wait(run, "CANCELLED")
    return found


def terminal(browser: webdriver.Chrome, place: Workplace, work: Path) -> bytes:
    """A training in a terminal, in its middle."""
    (place.folder / "small.yaml").write_text(loading.dump(loading.load("embedded", SHOWN)))
    command = ["train", "small.yaml", "--run", "shown"]
    drawn = screen.lines(in_terminal([str(Path(sys.executable).with_name("racro")), *command], place.folder))
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    for line in (line for line in drawn if "server.log" not in line):  # a path of this machine
        console.print(Text.from_ansi(line))
    page = work / "terminal.html"
    page.write_text(f"<body style='margin:0'>{console.export_svg(title='racro train small.yaml')}</body>")
    browser.get(f"file://{page}")
    wait = WebDriverWait(browser, DEADLINE)
    svg = wait.until(visibility_of_element_located((By.TAG_NAME, "svg")))
    return bytes(svg.screenshot_as_png)


def in_terminal(command: list[str], folder: Path) -> str:
    """What a command draws until a good part of its lines is there. It is then interrupted."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(STATE)}
        os.execve(command[0], command, clean | {"TERM": "xterm-256color"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    output = b""
    with contextlib.suppress(OSError):  # EIO: it has ended
        while piece := os.read(terminal, 65536):
            output += piece
            if output.count(b"caption %d" % ROWS) > 1:  # the bar of the next one was drawn, and once more
                break
    os.kill(process, signal.SIGINT)
    drawn = output.decode(errors="replace")
    with contextlib.suppress(OSError):
        while os.read(terminal, 65536):
            pass
    os.waitpid(process, 0)
    return drawn


def picture(browser: webdriver.Chrome, page: Page) -> bytes:
    """PNG of a page that has loaded and no longer changes.

    Raises selenium's TimeoutException if the page does not show what it should, or never stands still.
    """
    resize(browser, page.height)
    browser.get(page.url)
    wait = WebDriverWait(browser, DEADLINE)
    shown = visibility_of_element_located((By.CSS_SELECTOR, page.shows))
    wait.until(shown, f"{page.url} shows no {page.shows}")
    browser.execute_script(CALM)
    for field in browser.find_elements(By.TAG_NAME, "textarea"):
        if (field.get_attribute("value") or "").startswith(tempfile.gettempdir()):  # the root of this training
            field.clear()
            field.send_keys(ROOT)
            browser.execute_script(TOP)  # typing has scrolled to the field
    if page.sought:
        browser.find_element(By.CSS_SELECTOR, "input[role=searchbox]").send_keys(page.sought)
        wait.until(still, f"{page.url} does not stand still")
        wait.until(shown, f"{page.url} shows no {page.shows} for {page.sought}")
    return wait.until(still, f"{page.url} does not stand still")


def still(browser: webdriver.Chrome) -> bytes | Literal[False]:
    """The picture, if the page looks the same for a while."""
    before = browser.get_screenshot_as_png()
    time.sleep(STILL)
    return before if browser.get_screenshot_as_png() == before else False


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TESTS.parent / "docs")
