"""The page's elements in Gradio, and which of them show what. Imports Gradio on use.

What is asked and answered is `racro.serving.visit`; the look is `page.css`. Called by `racro.serving.page`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from racro.serving import cards
from racro.serving.errors import ApiError
from racro.serving.visit import View, Visit, title
from racro.serving.votes import Ballot, Vote, Votes

ICONS = Path(__file__).parent / "icons"
CHOICE: tuple[tuple[Vote, str], ...] = (("up", "Good answer"), ("down", "Bad answer"))
COMPARE = "Compare with the captioner before training"
NOTHING_TO_COMPARE = "Compare: there is no trained captioner here yet"

ASKED = """() => {
  if (window.innerWidth < 800) document.querySelector("#racro-answer-0").scrollIntoView({behavior: "smooth"});
}"""
"""On a phone the answer stands below the question: who asks is taken there."""


@dataclass(frozen=True)
class Example:
    """A question that visitors may begin with."""

    image: Image.Image
    question: str


@dataclass(frozen=True)
class Content:
    """What the page shows besides the models' names."""

    examples: Sequence[Example] = ()
    note: str = ""
    """HTML of one line about the models; empty: none."""


@dataclass(frozen=True)
class _Side:
    """One answer's elements."""

    column: Any
    card: Any
    row: Any
    said: Any
    ballot: Any
    buttons: list[Any]

    @property
    def outputs(self) -> list[Any]:
        """Those that an answer changes."""
        return [self.column, self.card, self.row, self.said, self.ballot]


class Panes:
    """The elements."""

    def __init__(self, visit: Visit, votes: Votes, content: Content, folder: Path) -> None:
        """`folder`: for the images of examples."""
        self.visit, self.votes, self.content, self.folder = visit, votes, content, folder

    def blocks(self) -> Any:
        """The page as Gradio has it."""
        import gradio as gr

        private = {"show_progress": "hidden", "api_visibility": "private"}
        with gr.Blocks(title="RACRO", analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
            gr.HTML(cards.HEAD)
            with gr.Row():
                with gr.Column(scale=5, min_width=320):
                    inputs = self._inputs(gr)
                    *_, captioner, _, compare = inputs
                with gr.Column(scale=7, min_width=360):
                    with gr.Row():
                        sides = [self._side(gr, number) for number in range(2)]
                    self._examples(gr, [inputs[0], self.question])
            outputs = [element for side in sides for element in side.outputs]
            ask = self._asking(gr)
            for event in (self.button.click, self.question.submit):
                event(ask, inputs, outputs, concurrency_limit=None, **private)
                event(None, None, None, js=ASKED)
            self.stop.click(self._stopping(gr), None, None, queue=False, **private)
            for side in sides:
                for button, (vote, _) in zip(side.buttons, CHOICE, strict=True):
                    button.click(self._voting(vote), [side.ballot], [side.said], **private)
            blocks.load(self._names, None, [captioner, compare], **private)
        return blocks.queue(max_size=self.visit.service.limits.queue)

    def _inputs(self, gr: Any) -> list[Any]:
        """Image, link, question, captioner, reasoner, compare; with the buttons between them."""
        reasoners = self.visit.reasoners
        image = gr.Image(
            label="Image: drop, choose or paste one",
            sources=["upload", "clipboard"],
            type="filepath",
            format="png",
            height=220,
            buttons=["fullscreen"],
            elem_id="racro-image",
        )
        # The file as it was uploaded: what it is worth is decided where all images are decoded.
        image.preprocess = lambda upload: None if upload is None else upload.path
        said = gr.HTML("", visible=False, elem_id="racro-image-said")
        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        image.change(self._look, [image], [image, said], **quiet)
        image.clear(lambda: gr.HTML("", visible=False), None, [said], **quiet)
        hint = "... or a link to an image: https://"
        link = gr.Textbox(show_label=False, placeholder=hint, max_lines=1, elem_id="racro-link")
        hint = "What do you want to know about the image?"
        self.question = gr.Textbox(label="Question", placeholder=hint, lines=2, elem_id="racro-question")
        with gr.Row():
            self.button = gr.Button("Ask", variant="primary", elem_id="racro-ask", scale=4)
            self.stop = gr.Button("Stop", elem_id="racro-stop", scale=1, min_width=80)
        compare = gr.Checkbox(False, label=COMPARE, elem_id="racro-compare")
        if self.content.note:
            gr.HTML(f'<p class="racro-note">{self.content.note}</p>')
        with gr.Accordion("Models", open=len(reasoners) > 1, elem_id="racro-models"):
            captioner = gr.Dropdown([(title(""), "")], value="", label="Captioner", elem_id="racro-captioner")
            reasoner = gr.Dropdown(
                list(reasoners), value=reasoners[0], label="Reasoner", elem_id="racro-reasoner", interactive=True
            )
        return [image, link, self.question, captioner, reasoner, compare]

    def _side(self, gr: Any, number: int) -> _Side:
        """An answer and its votes; the second one is there in comparisons only."""
        with gr.Column(visible=number == 0, min_width=300) as column:
            card = gr.HTML(cards.EMPTY if number == 0 else "", elem_id=f"racro-answer-{number}")
            with gr.Row(visible=False, elem_classes="racro-vote") as row:
                buttons = [
                    gr.Button(text, icon=ICONS / f"{vote}.svg", size="sm", elem_id=f"racro-{vote}-{number}")
                    for vote, text in CHOICE
                ]
            said = gr.HTML("", elem_classes="racro-vote-said", elem_id=f"racro-said-{number}")
        return _Side(column, card, row, said, gr.State(None, time_to_live=3600), buttons)

    def _examples(self, gr: Any, inputs: list[Any]) -> None:
        """A table of examples; a click fills the inputs."""
        rows = []
        for number, example in enumerate(self.content.examples):
            file = self.folder / f"example-{number}.png"
            example.image.save(file)
            rows.append([str(file), example.question])
        if rows:
            label = "Examples: click one, then press Ask"
            table = gr.Dataset(
                label=label, components=inputs, headers=["Image", "Question"], samples=rows, elem_id="racro-examples"
            )
            table.click(lambda row: row, table, inputs, show_progress="hidden", api_visibility="private")

    async def _names(self) -> tuple[Any, Any]:
        """The captioners that there are when the page is opened."""
        import gradio as gr

        names = await asyncio.to_thread(self.visit.captioners)
        more = len(names) > 1
        choices = gr.Dropdown([(title(name), name) for name in names], value="")
        return choices, gr.Checkbox(False, label=COMPARE if more else NOTHING_TO_COMPARE, interactive=more)

    async def _look(self, image: str | None) -> tuple[Any, Any]:
        """An upload that is no image is taken away again, with one line why, which stays until the next image."""
        import gradio as gr

        if image is None:
            return gr.skip(), gr.skip()
        said = await self.visit.looked_at(image)
        return (None if said else gr.skip()), gr.HTML(said, visible=bool(said))

    def _asking(self, gr: Any) -> Callable[..., AsyncIterator[list[Any]]]:
        async def ask(request: Any, *given: Any) -> AsyncIterator[list[Any]]:
            client = request.client.host if request.client else ""
            async for views in self.visit.ask(client, request.session_hash, *given):
                yield [update for number in range(2) for update in _updates(views[number : number + 1])]

        ask.__annotations__["request"] = gr.Request  # by which Gradio knows what to hand over
        return ask

    def _stopping(self, gr: Any) -> Callable[..., Awaitable[None]]:
        async def stop(request: Any) -> None:  # in the event loop of the questions
            self.visit.stop(request.session_hash)

        stop.__annotations__["request"] = gr.Request
        return stop

    def _voting(self, vote: Vote) -> Callable[[Ballot | None], str]:
        def voted(ballot: Ballot | None) -> str:
            if ballot is None:
                return ""
            try:
                self.votes.add(ballot, vote)
            except ApiError as error:
                said = str(error)
                return f"{said[0].upper()}{said[1:]}."
            self.visit.service.metrics.votes.labels(vote).inc()
            return "Thank you. Your vote is saved."

        return voted


def _updates(view: list[View]) -> list[Any]:
    """The outputs of one side; empty: it is not there."""
    import gradio as gr

    if not view:
        return [gr.Column(visible=False), "", gr.Row(visible=False), "", None]
    [one] = view
    return [gr.Column(visible=True), one.html, gr.Row(visible=one.ballot is not None), "", one.ballot]
