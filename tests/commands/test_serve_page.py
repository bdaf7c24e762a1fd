"""The page of `racro serve` in a real browser without internet: upload, ask, compare, error, vote."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from selenium.webdriver.common.by import By

from racro.embedded import world
from racro.serving import cards
from tests.support import debian, forkserver, pages
from tests.support.browser import browser
from tests.support.served import Served
from tests.support.visitor import Page

PROBLEM = next(problem for problem in world.generate("heldout", 3, 40) if problem.category == "value")

COLOURS = """
const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const rgba = colour => {
  context.clearRect(0, 0, 1, 1); context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = context.getImageData(0, 0, 1, 1).data;
  return [red, green, blue, alpha / 255];
};
const style = selector => getComputedStyle(document.querySelector(selector));
const answer = style(".racro-answer");
return [style(".racro-answer strong").color, answer.backgroundColor, style("body").backgroundColor].map(rgba);
"""
"""Colours of an answer's letters, of what is behind them, and of the page behind that."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    debian.chromium(), debian.chromedriver()
    with Served(tmp_path_factory.mktemp("page")) as server:
        yield server


@pytest.fixture(scope="module")
def page(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium"), offline=True) as driver:
        yield Page(driver, served.url)


def test_a_visitor_asks_about_an_upload_and_votes(page: Page, served: Served, tmp_path: Path) -> None:
    PROBLEM.images()[0].save(tmp_path / "bars.png")
    page.upload(tmp_path / "bars.png")
    page.ask(PROBLEM.question)
    assert page.shown(".racro-answer strong") == [PROBLEM.answer]
    caption, attempt, reasoning = page.shown(".racro-done pre", 3)
    assert caption and attempt and PROBLEM.answer in reasoning
    [facts] = page.shown(".racro-facts")
    assert " s " in facts and "captioner" in facts and "reasoner" in facts
    page.click("#racro-up-0")
    page.wait.until(lambda _: "saved" in page.shown("#racro-said-0")[0])
    [line] = (served.folder / "runs" / "votes.jsonl").read_text().splitlines()
    vote = json.loads(line)
    assert (vote["vote"], vote["final"], vote["model"]) == ("up", PROBLEM.answer, "racro")
    assert vote["question"] == PROBLEM.question and len(vote["image_sha256"]) == 64


def test_two_captioners_answer_side_by_side(page: Page) -> None:
    page.click("#racro-compare input")
    page.click("#racro-ask")
    assert page.shown(".racro-answer strong", 2) == [PROBLEM.answer] * 2, "the trained one is a copy"
    assert page.shown(".racro-title", 2) == ["before training", "trained"]
    page.click("#racro-compare input")


def test_an_example_is_one_click(page: Page) -> None:
    page.click("#racro-examples tbody tr")
    page.wait.until(lambda _: page.find("#racro-question textarea").get_attribute("value") != PROBLEM.question)
    page.click("#racro-ask")
    page.wait.until(lambda _: len(page.shown(".racro-answer strong")) == 1)


def test_what_is_no_image_is_one_clear_line(page: Page, tmp_path: Path) -> None:
    page.send("#racro-link textarea, #racro-link input", "http://127.0.0.1:1/a.png")
    page.click("#racro-ask")
    assert "the link leads to an address that is not public" in page.shown(".racro-error")[0]


def test_a_broken_upload_is_said_at_once_until_a_good_one_comes(page: Page, tmp_path: Path) -> None:
    broken, good = tmp_path / "broken.png", tmp_path / "good.png"
    PROBLEM.images()[0].save(good)
    broken.write_bytes(good.read_bytes()[:100])
    page.clear()
    page.send("#racro-image input[type=file]", str(broken))
    page.wait.until(lambda _: "cannot be used: damaged, or cut off" in page.shown("#racro-image-said")[0])
    page.wait.until(lambda driver: not driver.find_elements(By.CSS_SELECTOR, "#racro-image img"))
    page.upload(good)
    page.wait.until(lambda driver: not driver.find_elements(By.CSS_SELECTOR, "#racro-image-said"))
    assert page.driver.find_elements(By.CSS_SELECTOR, "#racro-image img")


def test_curl_openais_client_and_the_page_get_the_same_answer(page: Page, served: Served) -> None:
    """Curl's block is that of the documentation, as it stands there."""
    [block] = [one for one in pages.read("docs/serving.md").blocks if "curl -sN" in one.text]
    programs = served.folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "racro").symlink_to(forkserver.shared().racro)
    command = block.text.replace("http://127.0.0.1:8000", served.url)
    user = {**os.environ, "RACRO_HOME": str(served.folder / ".racro")}
    typed = subprocess.run(["bash", "-ec", command], cwd=served.folder, env=user, capture_output=True, text=True)
    events = [json.loads(line[6:]) for line in typed.stdout.splitlines() if line.startswith("data: {")]
    assert events, typed.stdout + typed.stderr
    curl = events[-1]["racro"]
    said = "".join(event["choices"][0]["delta"].get("content", "") for event in events)

    image = served.folder / ".racro" / "example.png"
    question = re.findall(r'"text": "(.+)"', block.text)[0]
    url = f"data:image/png;base64,{base64.b64encode(image.read_bytes()).decode()}"
    parts: Any = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", timeout=300)
    made = client.chat.completions.create(model="racro", messages=[{"role": "user", "content": parts}])
    whole = made.model_extra["racro"]  # type: ignore[index]
    same = ("caption", "attempt", "final", "finish")
    assert [whole[name] for name in same] == [curl[name] for name in same]
    assert made.choices[0].message.content == said and whole["final"] == "orange"

    page.open()
    page.upload(image)
    page.ask(question)
    assert page.shown(".racro-answer strong") == [whole["final"]]
    texts = [whole["caption"], whole["attempt"], said]
    assert page.shown(".racro-done pre", 3) == [cards.BOX.sub(r"\1", text) for text in texts]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_answer_can_be_read_on_a_light_and_on_a_dark_page(theme: str, page: Page, served: Served) -> None:
    wanted = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
    page.driver.get(f"{served.url}/")
    page.click("#racro-examples tbody tr")
    page.find("#racro-image img")
    page.click("#racro-ask")
    page.shown(".racro-facts")
    letters, wash, behind = page.driver.execute_script(COLOURS)
    assert contrast(letters, mixed(wash, behind)) >= 4.5, "what WCAG 2 asks of text"


def mixed(over: list[float], under: list[float]) -> list[float]:
    """Red, green and blue of a colour with an opacity, over another."""
    return [over[3] * one + (1 - over[3]) * other for one, other in zip(over[:3], under[:3], strict=True)]


def contrast(one: list[float], other: list[float]) -> float:
    """Of two colours, by WCAG 2."""

    def luminance(colour: list[float]) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour[:3])]
        return sum(weight * v for weight, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_nothing_comes_from_elsewhere(page: Page, served: Served) -> None:
    names = page.driver.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    origin = served.url
    assert names and all(name.startswith((origin, "data:", "blob:")) for name in names)
    said = [entry["message"] for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [line for line in said if "127.0.0.1" not in line], said
    assert str(served.folder) not in page.driver.page_source
