"""Recipe section `problems`: where questions, images and gold answers come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from racro.config.base import Config, Share


class EmbeddedProblems(Config):
    """Problems of the embedded world of coloured bars: rendered on demand, exact, any number of them."""

    type: Literal["embedded"] = "embedded"
    count: PositiveInt = 2048
    """Size of the training pool. Iterations walk through it in seeded random order, epoch after epoch."""


class Columns(Config):
    """Which column of the source holds what."""

    question: str = "question"
    """Text of the question; may hold `<image>` placeholders."""
    answer: str = "answer"
    """Gold answer; an enclosing \\boxed{} is removed."""
    image: str = "image"
    """One image or a list of them: a path (relative to the file), a URI, bytes, or a Hugging Face image."""
    uid: str | None = None
    """Unique name of the row; the row number when None."""
    kind: str | None = None
    """integer, float, choice or text; inferred from answer and choices when None."""
    category: str | None = None
    """Name for accuracy by category."""
    origin: str | None = None
    """Name of the collection that the row comes from."""
    pass_rate: str | None = None
    """Share of right answers that some model gave, 0 to 1; null or negative where nobody measured it."""
    choices: str | None = None
    """List of option texts."""


class Virl39kColumns(Columns):
    """The columns of ViRL39K."""

    uid: str | None = "qid"
    """Unique name of the row."""
    category: str | None = "category"
    """Name for accuracy by category."""
    origin: str | None = "source"
    """Collection that the row was taken from."""
    pass_rate: str | None = "PassRate_32BTrained"
    """Share of right answers of a model; `PassRate_7BBase` is the other; half of it was never measured."""


class ForeignProblems(Config):
    """Rows of somebody else's table: where they are, which are used, how they are split."""

    source: str
    """Path or URI of a .parquet, .jsonl or .json file, a folder of parquet files or of `save_to_disk`, or a Hugging
    Face dataset id. Image paths start from the table's folder; `images.zip` there need not be unpacked."""
    heldout_source: str | None = None
    """The same for the held-out problems; None: a share of `source` is held out."""
    split: str | None = "train"
    """Split of a Hugging Face dataset; None: its files as they are published, a table with images beside it."""
    heldout_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share held out when `heldout_source` is None; rows that show the same image stay together."""
    columns: Columns = Columns()
    """Which column holds what."""
    max_bad_share: Share = 0.05
    """Above this share of unusable rows the run stops instead of training on what is left."""
    without_origins: tuple[str, ...] = ()
    """Collections whose rows are left out."""
    categories: tuple[str, ...] = ()
    """Only rows of these; empty: of all."""
    min_pass_rate: Share = 0.0
    """Rows below are left out: hopeless problems, whose groups carry no gradient."""
    max_pass_rate: Share = 1.0
    """Rows above are left out: problems that everybody solves."""
    unrated: bool = True
    """Keep rows whose pass rate nobody measured?"""
    benchmarks: dict[str, str | None] = Field(default_factory=dict)
    """Benchmarks that the rows are held against, by name (mathvista, mathverse-all ...), with a source as for `racro
    evaluate`; null: the authors'. A row overlaps by an image, by one that looks the same, or by its text."""
    overlapping: Literal["drop", "keep"] = "drop"
    """What becomes of rows that overlap; they are listed either way."""

    @model_validator(mode="after")
    def _selects_something(self) -> ForeignProblems:
        if self.min_pass_rate > self.max_pass_rate:
            raise ValueError(f"min_pass_rate {self.min_pass_rate:g} is above max_pass_rate {self.max_pass_rate:g}")
        for wanted, column in (("without_origins", "origin"), ("categories", "category")):
            if getattr(self, wanted) and getattr(self.columns, column) is None:
                raise ValueError(f"{wanted} needs columns.{column}")
        if (self.min_pass_rate, self.max_pass_rate, self.unrated) != (0, 1, True) and self.columns.pass_rate is None:
            raise ValueError("a filter by pass rate needs columns.pass_rate")
        return self


class TableProblems(ForeignProblems):
    """Rows of a parquet or jsonl file, or of a Hugging Face dataset, by a column mapping."""

    type: Literal["table"] = "table"


class Virl39kProblems(ForeignProblems):
    """ViRL39K (TIGER-Lab), as published: a parquet file with images.zip beside it, here or on the hub."""

    type: Literal["virl39k"] = "virl39k"
    source: str = "TIGER-Lab/ViRL39K"
    """The hub id, or a folder with its files."""
    split: str | None = None
    """None: the files as they are published."""
    columns: Virl39kColumns = Virl39kColumns()
    """Which column holds what."""
    without_origins: tuple[str, ...] = ("DeepScaleR",)
    """The official filter: these are text only."""


Problems = Annotated[EmbeddedProblems | TableProblems | Virl39kProblems, Field(discriminator="type")]
