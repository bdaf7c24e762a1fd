"""The pictures of docs/serving.md: the page before a question, after it, and with two captioners side by side.

python -m tests.bench.serving_pictures FOLDER ROOT RUN

RUN is a training of the embedded recipe under ROOT, whose captioner is compared with the one before training: by
captions alone, because the embedded captioner always knows the answer itself.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.support.browser import browser
from tests.support.eventually import eventually
from tests.support.ports import reserve

DEADLINE = 300
EXAMPLE = 3
"""Row of the example that is asked."""
BUSY = ".racro-busy, [data-testid=status-tracker].translucent"


def main(folder: Path, root: str, run: str) -> None:
    """Serve the run, and take the pictures."""
    with tempfile.TemporaryDirectory() as work, browser(Path(work) / "chromium", offline=True) as driver:
        for mode, names in (("joint", ("serve-before", "serve-after")), ("caption", ("serve-compare",))):
            with served(Path(work), root, run, mode) as url:
                for name, png in pictures(driver, url):
                    if name in names:
                        (folder / f"{name}.png").write_bytes(png)


def pictures(driver: webdriver.Chrome, url: str) -> Iterator[tuple[str, bytes]]:
    """Name and PNG of each."""
    wait = WebDriverWait(driver, DEADLINE)

    def there(selector: str, number: int = 1) -> None:
        wait.until(lambda _: len(driver.find_elements(By.CSS_SELECTOR, selector)) >= number, selector)

    def click(selector: str) -> None:
        there(selector)
        driver.execute_script("arguments[0].click()", driver.find_element(By.CSS_SELECTOR, selector))

    def still() -> bytes:
        wait.until(lambda _: not driver.find_elements(By.CSS_SELECTOR, BUSY))
        time.sleep(2)
        return driver.get_screenshot_as_png()

    driver.get(url)
    there("#racro-image input[type=file]")
    there("#racro-examples img", 5)
    yield "serve-before", still()
    click(f"#racro-examples tbody tr:nth-child({EXAMPLE + 1})")
    there("#racro-image img")
    time.sleep(1)
    click("#racro-ask")
    there(".racro-facts")
    yield "serve-after", still()
    click("#racro-compare input")
    click("#racro-ask")
    there(".racro-title", 2)
    there(".racro-facts", 2)
    yield "serve-compare", still()


@contextmanager
def served(work: Path, root: str, run: str, mode: str) -> Iterator[str]:
    """Address of `racro serve` on a run."""
    port = reserve()
    command = [sys.executable, "-P", "-m", "flows.cli.main", "serve", "--port", str(port), "--root", root, "--run", run]
    with subprocess.Popen([*command, "--mode", mode, "--votes", str(work / "votes.jsonl")], cwd=work) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            assert eventually(lambda: answers(f"{url}/health"), DEADLINE)
            yield url
        finally:
            server.terminate()


def answers(url: str) -> bool:
    """Does the server answer?"""
    try:
        return bool(urllib.request.urlopen(url, timeout=5).status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:4])
