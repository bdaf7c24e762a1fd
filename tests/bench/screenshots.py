"""`make screenshots`: docs/*.png, which show a tiny training in Prefect and MLflow. Needs Chromium and its driver.

python -m tests.bench.screenshots [FOLDER]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import visibility_of_element_located
from selenium.webdriver.support.wait import WebDriverWait

TESTS = Path(__file__).parents[1]

from tests.support.workplace import Workplace, opened, tiny  # noqa: E402

WIDTH, HEIGHT = 1440, 800
DEADLINE = 120
"""Seconds for a page to show what the picture is for."""
STILL = 2
"""Seconds without a change after which a page is drawn."""
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    # A mouse is said to be there: without one, charts show their buttons all the time, over the curves.
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4",
)
CHARTS = "heldout/(accuracy|truthful|states_asked)$|reward_mean|captions_distinct|reason/groups_informative"
"""The metrics that say how a training goes, as a pattern."""
ASSISTANT_SEEN = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
"""A browser that has this set does not open MLflow's assistant on the first visit."""


class Page(NamedTuple):
    """What a picture is taken of."""

    url: str
    shows: str
    """CSS selector of an element that is visible once the page has loaded."""
    sought: str = ""
    """What is typed into the page's search box."""


def main(folder: Path) -> None:
    """Train, and take a picture of each page."""
    with tempfile.TemporaryDirectory() as work, chromium(Path(work) / "chromium") as browser:
        for place in opened(Path(work) / "up"):
            run = place.wait(place.start("train", recipe=tiny("iterations=3", "evaluation.every=1"), run="first"))
            for name, page in pages(place, run["id"]).items():
                (folder / f"{name}.png").write_bytes(picture(browser, page))


def pages(place: Workplace, run: str) -> dict[str, Page]:
    """Name of a picture -> page."""
    prefect, deployment = place.api.removesuffix("/api"), place.deployment("train")["id"]
    mlflow_run = place.summary("first")["mlflow_run_id"]
    return {
        "prefect-form": Page(f"{prefect}/deployments/deployment/{deployment}/run", ".schema-form-property__label"),
        "prefect-run": Page(f"{prefect}/runs/flow-run/{run}", "canvas"),
        "mlflow-run": Page(
            f"{place.mlflow}/#/experiments/1/runs/{mlflow_run}/model-metrics?workflowType=machine_learning",
            ".js-plotly-plot .scatterlayer path",
            CHARTS,
        ),
    }


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """A browser with a new profile. Exits if Chromium or its driver is missing."""
    binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if binary is None or driver is None:
        sys.exit("screenshots need Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    browser = webdriver.Chrome(options, Service(driver))
    try:
        screen = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": ASSISTANT_SEEN})
        yield browser
    finally:
        browser.quit()


def picture(browser: webdriver.Chrome, page: Page) -> bytes:
    """PNG of a page that has loaded and no longer changes.

    Raises selenium's TimeoutException if the page does not show what it should, or never stands still.
    """
    browser.get(page.url)
    wait = WebDriverWait(browser, DEADLINE)
    shown = visibility_of_element_located((By.CSS_SELECTOR, page.shows))
    wait.until(shown, f"{page.url} shows no {page.shows}")
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
