"""Recipe section `problems`: where questions, images and gold answers come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from racro.config.base import Config, NeutralDefault, Share


class EmbeddedProblems(Config):
    """Problems of the embedded world of coloured bars: drawn on demand, with exact answers, in any number."""

    type: Literal["embedded"] = "embedded"
    count: PositiveInt = 2048
    """Number of training problems. Iterations go through them in seeded random order, epoch after epoch."""


class Columns(Config):
    """Names of the columns of the source."""

    question: str = "question"
    """Text of the question; may hold `<image>` placeholders."""
    answer: str = "answer"
    """Gold answer; a \\boxed{} around it is removed."""
    image: str = "image"
    """One image or a list of images: paths (relative to the file), URIs, bytes, or Hugging Face images."""
    uid: str | None = None
    """Unique name of the row. None: the row number is the name."""
    kind: str | None = None
    """Kind of the answer: integer, float, choice, choices, yesno, text, expression, list or set. None: inferred from
    answer and choices."""
    category: str | None = None
    """Category, for accuracy by category and the filter `categories`. None: no categories."""
    origin: str | None = None
    """Name of the collection that the row comes from, for the filter `without_origins`."""
    pass_rate: str | None = None
    """Share of right answers that some model gave, 0 to 1, for filters by pass rate; null or negative: not measured."""
    choices: str | None = None
    """Texts of the options of a choice question."""
    facts: Annotated[str | None, NeutralDefault()] = None
    """Facts about the images, for the reward `facts`: a list of texts, or of {text, weight}; also as JSON."""
    mcq: Annotated[str | None, NeutralDefault()] = None
    """Multiple-choice questions about the images, for the reward `mcq`: a list of {question, options, answer}, where
    answer is a letter or the text of an option; also as JSON."""
    reference: Annotated[str | None, NeutralDefault()] = None
    """A caption that is known to be good, for `rollout.references`; empty where there is none."""


class Virl39kColumns(Columns):
    """The columns of ViRL39K."""

    uid: str | None = "qid"
    """Unique name of the row."""
    category: str | None = "category"
    """Category, for accuracy by category and the filter `categories`."""
    origin: str | None = "source"
    """Name of the collection that the row comes from, for the filter `without_origins`."""
    pass_rate: str | None = "PassRate_32BTrained"
    """Share of right answers of a model. The other choice, `PassRate_7BBase`, is missing for half of the rows."""


class ForeignProblems(Config):
    """Rows of a table: where they are, which are used, how they are split."""

    source: str
    """Path or URI of a .parquet, .jsonl or .json file, of a folder of parquet files or one from `save_to_disk`, or a
    Hugging Face dataset id. Image paths are relative to the table's folder; an `images.zip` there is read as it is."""
    heldout_source: str | None = None
    """Source of the held-out problems, in the same forms. None: a share of `source` is held out."""
    split: str | None = "train"
    """Split of a Hugging Face dataset. None: its files as published, a table with images beside it."""
    heldout_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the rows that is held out if `heldout_source` is None; rows that show the same image stay together."""
    columns: Columns = Columns()
    """Names of the source's columns."""
    max_bad_share: Share = 0.05
    """Largest share of unusable rows; above it the run stops instead of training on the rest."""
    without_origins: tuple[str, ...] = ()
    """Leave out rows from these collections."""
    categories: tuple[str, ...] = ()
    """Use only rows of these categories; empty: all."""
    min_pass_rate: Share = 0.0
    """Leave out rows with a lower pass rate: problems that are never solved carry no gradient."""
    max_pass_rate: Share = 1.0
    """Leave out rows with a higher pass rate: problems that are always solved carry no gradient."""
    unrated: bool = True
    """Keep rows whose pass rate was not measured?"""
    benchmarks: dict[str, str | None] = Field(default_factory=dict)
    """Benchmarks to compare the rows with: name (mathvista, mathverse-all ...) and source, as for `racro evaluate
    --benchmark`; null: the published data. A row overlaps if it has the same image, a similar one, or the same text."""
    overlapping: Literal["drop", "keep"] = "drop"
    """Drop or keep rows that overlap with a benchmark; they are listed in either case."""

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
    """Rows of a parquet or jsonl file, or of a Hugging Face dataset, whose columns are named in `columns`."""

    type: Literal["table"] = "table"


class Virl39kProblems(ForeignProblems):
    """ViRL39K (TIGER-Lab) as published: a parquet file with images.zip beside it, local or on Hugging Face."""

    type: Literal["virl39k"] = "virl39k"
    source: str = "TIGER-Lab/ViRL39K"
    """Hugging Face id, or a folder with its files."""
    split: str | None = None
    """None: the files as published."""
    columns: Virl39kColumns = Virl39kColumns()
    """Names of the source's columns."""
    without_origins: tuple[str, ...] = ("DeepScaleR",)
    """Leave out rows from these collections. The default is the authors' filter: DeepScaleR has no images."""


Problems = Annotated[EmbeddedProblems | TableProblems | Virl39kProblems, Field(discriminator="type")]
