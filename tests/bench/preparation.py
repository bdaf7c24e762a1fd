"""Memory and rate of preparing a data set of ViRL39K's size: `python -m tests.bench.preparation [ROWS | FOLDER]`.

Makes ROWS rows (39,000) in the published schema in a temporary folder (45 KB a row), each with an image of its own of
photographic size, and prepares the training problems in a process of its own; or those of a FOLDER that is there,
which stays as it is. What is prepared goes to another temporary folder.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageFilter

from racro.config import Virl39kProblems
from racro.data.lengths import Fit
from racro.data.problems import load
from racro.models.folders import EMBEDDED
from racro.schema import Fingerprint, Problem, PromptReader
from racro.storage import artifacts
from tests.support.virl39k import SCHEMA, drawing, encoded, good

PICTURES = 64
"""Different ones; some bytes behind the end make each row's another file, which is decoded like any."""
BENCHMARK_QUESTIONS = 16_000
"""About as many as the seven benchmarks have."""


def make(folder: Path, rows: int) -> None:
    """The data set."""
    pictures = []
    for i in range(PICTURES):
        noise = Image.effect_noise((640, 480), 40).convert("RGB").filter(ImageFilter.GaussianBlur(1))
        pictures.append(encoded(Image.blend(drawing(i, (640, 480)), noise, 0.2), "JPEG", quality=80))
    (folder / "images").mkdir()
    table = []
    for i in range(rows):
        row, _ = good(i)
        (folder / row["image"][0]).write_bytes(pictures[i % PICTURES] + i.to_bytes(8, "big"))
        table.append(row)
    pq.write_table(pa.Table.from_pylist(table, SCHEMA), folder / "39Krelease.parquet")


def prepare(folder: Path) -> None:
    """What the stage does, in a temporary folder, with as many fingerprints as the benchmarks have."""
    draw = random.Random(0)
    marks = [
        Fingerprint(
            benchmark="made", uid=str(i), sha256=(f"{i:064x}",), look=(draw.randbytes(32).hex(),), text=f"q {i}"
        )
        for i in range(BENCHMARK_QUESTIONS)
    ]
    start = time.monotonic()
    places = (str(EMBEDDED / role) for role in ("captioner", "reasoner"))
    readers = (PromptReader(uri=place, rows=0, digest="", room=2000) for place in places)
    with tempfile.TemporaryDirectory(prefix="racro-bench-") as out:
        prepared = load(Virl39kProblems(source=str(folder)), out, 0, fingerprints=marks, fit=Fit(*readers))
        artifacts.write_table(out, prepared.problems, Problem)
        digest = prepared.digest()
        seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rows = prepared.statistics.rows
    print(
        f"{rows} rows, {len(prepared.problems)} problems ({digest[:8]}): {seconds:.0f} s, {rows / seconds:.0f} rows/s"
    )
    print(f"peak of resident memory: {peak:.2f} GiB")


def main() -> None:
    if len(sys.argv) > 1 and not sys.argv[1].isdigit():
        prepare(Path(sys.argv[1]))
        return
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 39_000
    with tempfile.TemporaryDirectory(prefix="racro-bench-") as folder:
        make(Path(folder), rows)
        subprocess.run([sys.executable, "-m", "tests.bench.preparation", folder], check=True)


if __name__ == "__main__":
    main()
