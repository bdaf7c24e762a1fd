"""The page of `racro serve` in a browser's tab, as a visitor has it."""

from __future__ import annotations

from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait


class Page:
    """What a visitor does and sees."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver, self.url = driver, url
        self.wait = WebDriverWait(driver, 300, ignored_exceptions=[StaleElementReferenceException])
        self.open()

    def open(self) -> None:
        """Go to the page, in the current tab."""
        self.driver.get(f"{self.url}/")
        self.find("#racro-image input[type=file]")

    def find(self, selector: str) -> WebElement:
        """The element, once it is there."""
        return self.wait.until(lambda driver: driver.find_elements(By.CSS_SELECTOR, selector))[0]

    def shown(self, selector: str, number: int = 1) -> list[str]:
        """The texts of so many elements, once they are there; read at once, because the page replaces elements."""
        script = "return Array.from(document.querySelectorAll(arguments[0]), one => one.innerText.trim())"
        found: list[str] = self.wait.until(
            lambda driver: len(texts := driver.execute_script(script, selector)) >= number and texts
        )
        return found

    def click(self, selector: str) -> None:
        """Whatever lies over it."""
        script = "const found = document.querySelector(arguments[0]); if (found) found.click(); return found !== null"
        self.wait.until(lambda driver: driver.execute_script(script, selector))

    def send(self, selector: str, keys: str, clear: bool = False) -> None:
        """Type into it."""

        def sent(driver: webdriver.Chrome) -> bool:
            box = driver.find_element(By.CSS_SELECTOR, selector)
            if clear:
                box.clear()
            box.send_keys(keys)
            return True

        self.wait.until(sent)

    def upload(self, file: Path) -> None:
        """Choose a file, and wait until it has arrived."""
        self.clear()
        self.send("#racro-image input[type=file]", str(file))
        self.find("#racro-image img")

    def clear(self) -> None:
        """Take the image away, if there is one."""
        if self.driver.find_elements(By.CSS_SELECTOR, "#racro-image img"):
            self.click("#racro-image button[title='Remove Image']")

    def ask(self, question: str) -> None:
        """Type a question and press the button."""
        self.send("#racro-question textarea", question, clear=True)
        self.click("#racro-ask")
