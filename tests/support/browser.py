"""A headless Chromium, driven by selenium."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.support import debian

WIDTH, HEIGHT = 1440, 800
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
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"


@contextmanager
def browser(profile: Path, offline: bool = False) -> Iterator[webdriver.Chrome]:
    """With a new profile. `offline`: it reaches this machine only."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(debian.chromium())
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for option in (*OPTIONS, *([OFFLINE] if offline else []), f"--user-data-dir={profile}"):
        options.add_argument(option)
    driver = webdriver.Chrome(options, Service(str(debian.chromedriver())))
    try:
        resize(driver)
        yield driver
    finally:
        driver.quit()


def resize(driver: webdriver.Chrome, height: int = HEIGHT) -> None:
    """Give the window this height in pixels."""
    screen = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
