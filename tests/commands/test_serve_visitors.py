"""Visitors of the page of `racro serve` in a real browser: what they see on the way, who leaves, who is refused.

The server is in this process, with a reasoner that writes when a test lets it.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from racro.serving.limits import Limits
from racro.serving.rates import Rates
from tests.support import debian
from tests.support.browser import browser
from tests.support.eventually import eventually
from tests.support.gated import CAPTION, WORDS, Served, picture, served
from tests.support.visitor import Page

PASTE = """
const [done] = arguments;
fetch(document.querySelector("#racro-examples img").src).then(one => one.blob())
  .then(blob => navigator.clipboard.write([new ClipboardItem({"image/png": blob})])).then(() => done(""), done);
"""


PLACE = re.compile(r"(?<![\w:.])/(?:[\w.+-]+/)*[\w.+-]+")
"""What may be the path of a file."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    debian.chromium(), debian.chromedriver()
    folder = tmp_path_factory.mktemp("visitors")
    with served(Limits(private_links=True), page=folder / "votes.jsonl", minds=2) as made:
        yield made


@pytest.fixture(scope="module")
def page(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium"), offline=True) as driver:
        yield Page(driver, server.url)


def ask(page: Page) -> None:
    """The example's question."""
    page.click("#racro-examples tbody tr")
    page.find("#racro-image img")
    page.click("#racro-ask")


def writing(page: Page, said: str) -> None:
    """Wait until the reasoner's part has so much."""
    page.wait.until(lambda _: page.shown(".racro-now[data-part=answer] pre") == [said])


def test_an_answer_is_seen_while_it_is_written(page: Page, server: Served) -> None:
    page.open()
    ask(page)
    said = ""
    for word in WORDS[:-1]:
        server.write(1)
        said += word
        writing(page, said.strip())
        assert page.shown(".racro-done[data-part=caption] pre") == [CAPTION]
        assert server.engine.done == 0 and not page.driver.find_elements("css selector", ".racro-answer")
    server.write(1)
    assert page.shown(".racro-answer strong") == ["9"]
    assert server.idle()


def test_one_stops_one_leaves_and_the_third_gets_the_answer(page: Page, server: Served, tmp_path: Path) -> None:
    """Each with a browser: one browser opens six connections to a server, and each of its tabs takes two."""
    with browser(tmp_path / "one", offline=True) as one, browser(tmp_path / "two", offline=True) as two:
        stops, leaves, stays = Page(one, server.url), Page(two, server.url), page
        stays.open()
        for number, visitor in enumerate((stops, leaves, stays), start=1):
            ask(visitor)
            assert eventually(lambda wanted=number: server.service.running == wanted, 60, 0.05)
        writing(stops, "")
        stops.click("#racro-stop")
        assert eventually(lambda: server.service.running == 2, 60, 0.05)
        stops.wait.until(lambda _: stops.shown(".racro-facts") == ["Stopped before its end."])
        assert stops.shown(".racro-done[data-part=caption] pre") == [CAPTION]
        assert not stops.driver.find_elements("css selector", ".racro-now"), "nothing is said to be written any more"
        leaves.driver.close()
        assert eventually(lambda: server.service.running == 1, 60, 0.05)
        server.write()
        assert stays.shown(".racro-answer strong") == ["9"]
        assert server.idle()
        ask(stops)
        server.write()
        assert stops.shown(".racro-answer strong") == ["9"]


def test_the_reasoner_can_be_chosen(page: Page, server: Served) -> None:
    page.open()
    page.send("#racro-reasoner input", "other\n", clear=True)
    ask(page)
    server.write()
    page.shown(".racro-facts")
    page.click("#racro-up-0")
    page.wait.until(lambda _: "saved" in page.shown("#racro-said-0")[0])
    assert json.loads(server.votes.file.read_text().splitlines()[-1])["model"] == "racro@other"


def test_a_link_is_as_good_as_a_file(page: Page, server: Served, tmp_path: Path) -> None:
    picture().save(tmp_path / "bar.png")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        page.open()
        page.send("#racro-link textarea, #racro-link input", f"http://127.0.0.1:{elsewhere.server_port}/bar.png")
        page.ask("How tall is it?")
        server.write()
        assert page.shown(".racro-answer strong") == ["9"]
        elsewhere.shutdown()


def test_an_image_can_be_pasted(page: Page, server: Served) -> None:
    page.open()
    page.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    page.find("#racro-examples img")
    assert page.driver.execute_async_script(PASTE) == ""
    page.click("#racro-image button[aria-label='Paste from clipboard']")
    page.find("#racro-image img")
    page.ask("How tall is it?")
    server.write()
    assert page.shown(".racro-answer strong") == ["9"]


def test_who_asks_too_often_reads_so(page: Page, server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.service, "rates", Rates(1))
    page.open()
    ask(page)
    server.write()
    assert page.shown(".racro-answer strong") == ["9"]
    page.click("#racro-ask")
    [said] = page.shown(".racro-error")
    assert said.startswith("No answer. at most 1 a minute from one address; try again in ")


def test_a_vote_that_cannot_be_saved_is_said(page: Page, server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    page.open()
    ask(page)
    server.write()
    page.shown(".racro-facts")
    monkeypatch.setattr(server.votes, "file", Path("/dev/full"))
    page.click("#racro-up-0")
    page.wait.until(
        lambda _: page.shown("#racro-said-0") == ["The vote could not be saved; the server's log says why."]
    )


def test_the_page_names_no_place_of_this_machine_but_the_folder_of_uploads(server: Served) -> None:
    upload = {"files": ("../../bar.png", b"no image")}
    said = [
        *(httpx.get(f"{server.url}{place}").text for place in ("/", "/config", "/gradio_api/file=/etc", "/nothing")),
        httpx.post(f"{server.url}/gradio_api/upload", files=upload).text,
    ]
    named = {place for text in said for place in PLACE.findall(text) if Path(place).exists()} - {"/etc"}
    folder = os.environ["GRADIO_TEMP_DIR"]
    assert named and all(place.startswith(f"{folder}/") for place in named)
    assert Path(folder).name.startswith("racro-page-") and str(Path.cwd()) not in "".join(said)


def test_half_an_upload_is_refused_in_time_and_leaves_no_file(tmp_path: Path) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="bar.png"\r\n\r\nno ima'
    head = b"POST /gradio_api/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n"
    head += b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    with served(Limits(upload=0.5), page=tmp_path / "votes.jsonl") as made:
        before = [*Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*.png")]
        with socket.create_connection(("127.0.0.1", made.port), timeout=60) as connection:
            connection.sendall(head + part)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 408 ") and b"did not arrive within 0.5 s" in answer
        assert [*Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*.png")] == before
