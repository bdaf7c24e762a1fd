"""MathVision test (Wang et al., arXiv 2402.14804): 3,040 competition problems; accuracy by subject and level."""

from __future__ import annotations

from racro.benchmarks.benchmark import PLACEHOLDER, Benchmark, Item, Part, lettered, place_images
from racro.benchmarks.metrics import simple_scores
from racro.data.golds import read_gold
from racro.data.options import options_text
from racro.data.rows import Draft
from racro.data.sources import Row


def _read_row(number: int, row: Row, split: str) -> Item:
    options = row["options"] or []
    question = row["question"]
    if options and "".join(options) != "ABCDE"[: len(options)]:  # otherwise the options are in the image
        question = f"{question}\n{options_text(options)}"
    image = row.get("decoded_image") or row["image"]
    pictures = set(PLACEHOLDER.findall(question))
    if len(pictures) > 1:  # all of them are in the one image
        question, images = PLACEHOLDER.sub(r"image \1", question), [image]
    else:
        question, images = place_images(question, {int(number): image for number in pictures or "1"})
    draft = Draft(
        uid=str(row["id"]),
        question=question,
        gold=lettered(row["answer"], options) if options else read_gold(row["answer"], None, None, row["question"]),
        images=images,
        category=row["subject"],
    )
    return Item(
        draft,
        labels=[("subject", row["subject"]), ("level", row["level"])],
    )


TEST = Benchmark(
    name="mathvision",
    source="MathLLMs/MathVision",
    parts=(Part("test", ("test.jsonl", "data/test.jsonl")),),
    columns=("id", "question", "options", "image", "answer", "level", "subject"),
    optional=("decoded_image",),
    read_row=_read_row,
    score=simple_scores,
)
