"""Rows of a source become problems, or are dropped for a reason that is counted; the split keeps images together."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs  # noqa: F401  With it, more errors of the web count as passing ones.
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from racro.config import Columns, EmbeddedProblems, TableProblems
from racro.data import sources, splits
from racro.data.images import open_image, sha256
from racro.data.problems import Prepared, TooManyBadRows, load
from racro.data.sources import BadSource
from tests.support.examples import examples


def picture(colour: Any, mode: str = "RGB", size: tuple[int, int] = (12, 8), form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, form)
    return buffer.getvalue()


def numbered(i: int) -> bytes:
    return picture((i % 256, i // 256, 7))


def row(i: int = 0, **changes: Any) -> dict[str, Any]:
    return {"question": f"How many, case {i}?", "answer": str(i), "image": f"{i}.png"} | changes


def jsonl(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> str:
    """Rows as a file, with an image beside it for every path of the form N.png."""
    for i in range(len(rows)):
        (folder / f"{i}.png").write_bytes(numbered(i))
    (folder / name).write_text("\n".join(json.dumps(r) for r in rows))
    return str(folder / name)


def everything(source: str, folder: Path, **settings: Any) -> Prepared:
    """Both parts of a source, as one."""
    config = TableProblems(source=source, heldout_share=0.5, **settings)
    both = []
    for heldout in (None, 10**6):
        try:
            both.append(load(config, str(folder), seed=0, heldout=heldout))
        except BadSource as error:
            if "no usable row falls to" not in str(error):
                raise
    return replace(both[0], problems=tuple(p for part in both for p in part.problems))


# --- the embedded world -----------------------------------------------------------------------------------------------


def test_embedded_problems_are_deterministic_and_their_images_open(tmp_path: Path) -> None:
    first, again = (load(EmbeddedProblems(count=40), str(tmp_path / n), seed=3) for n in "ab")
    assert first == again and first.digest() == again.digest() and len(first.problems) == 40
    for problem in first.problems:
        assert problem.scene and all(open_image(ref, str(tmp_path / "a")).size == (112, 28) for ref in problem.images)


def test_embedded_heldout_shares_no_image_with_training_and_grows_by_extension(tmp_path: Path) -> None:
    train = load(EmbeddedProblems(count=60), str(tmp_path), seed=0)
    few, more = (load(EmbeddedProblems(), str(tmp_path), seed=0, heldout=n) for n in (10, 60))
    assert few.problems == more.problems[:10]
    shown = [{ref.sha256 for p in part.problems for ref in p.images} for part in (train, more)]
    assert not shown[0] & shown[1]
    assert load(EmbeddedProblems(count=60), str(tmp_path), seed=1).problems != train.problems


def test_images_go_to_any_file_system() -> None:
    made = load(EmbeddedProblems(count=3), "memory://problems-test", seed=0)
    for ref in (ref for p in made.problems for ref in p.images):
        assert sha256(fsspec.filesystem("memory").cat(f"/problems-test/{ref.path}")) == ref.sha256


# --- where images come from -------------------------------------------------------------------------------------------


def test_image_files_stay_where_they_are(tmp_path: Path) -> None:
    source = jsonl(tmp_path, [row(i) for i in range(6)])
    made = everything(source, tmp_path / "out")
    assert sorted(ref.path for p in made.problems for ref in p.images) == [f"{tmp_path}/{i}.png" for i in range(6)]
    assert not (tmp_path / "out").exists()
    uri = f"file://{tmp_path}/0.png"
    (only,) = everything(jsonl(tmp_path, [row(image=uri)], "uri.jsonl"), tmp_path / "out").problems
    assert only.images[0].path == uri and open_image(only.images[0], "/nowhere").size == (12, 8)


@pytest.mark.parametrize("form", ["bytes", "dict", "list", "list of dicts"])
@pytest.mark.parametrize("row_group", [1, 100])
def test_parquet_with_images_inside(tmp_path: Path, form: str, row_group: int) -> None:
    def cell(i: int) -> Any:
        data = numbered(i)
        both = {"bytes": data, "path": None}
        return {"bytes": data, "dict": both, "list": [data, data], "list of dicts": [both]}[form]

    rows = [row(i, image=cell(i)) for i in range(50)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet", row_group_size=row_group)
    made = everything(str(tmp_path / "rows.parquet"), tmp_path / "out")
    assert sorted(p.answer for p in made.problems) == sorted(map(str, range(50)))
    for problem in made.problems:
        assert all(open_image(ref, str(tmp_path / "out")).getpixel((0, 0)) for ref in problem.images)
        assert problem.images[0].sha256 == sha256(numbered(int(problem.answer)))
    assert len(list((tmp_path / "out/images").iterdir())) == 50


def test_only_images_of_the_part_are_written(tmp_path: Path) -> None:
    rows = [row(i, image=numbered(i)) for i in range(80)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    config = TableProblems(source=str(tmp_path / "rows.parquet"), heldout_share=0.5)
    held = load(config, str(tmp_path / "out"), seed=0, heldout=5)
    assert len(held.problems) == len(list((tmp_path / "out/images").iterdir())) == 5


def test_data_uris(tmp_path: Path) -> None:
    uri = "data:image/png;base64," + base64.b64encode(numbered(5)).decode()
    made = everything(jsonl(tmp_path, [row(image=uri)]), tmp_path)
    assert open_image(made.problems[0].images[0], str(tmp_path)).getpixel((0, 0)) == (5, 0, 7)


@pytest.mark.parametrize("nested", [False, True])
def test_hugging_face_datasets_on_disk(tmp_path: Path, nested: bool) -> None:
    feature = datasets.List(datasets.Image()) if nested else datasets.Image()
    features = datasets.Features({k: datasets.Value("string") for k in ("question", "answer")} | {"image": feature})
    images = [{"bytes": numbered(i), "path": None} for i in range(8)]
    rows = [row(i, image=[image] if nested else image) for i, image in enumerate(images)]
    dataset = datasets.Dataset.from_list(rows, features=features)
    datasets.DatasetDict({"train": dataset, "test": dataset.select([1, 3])}).save_to_disk(tmp_path / "hf")
    assert len(everything(str(tmp_path / "hf"), tmp_path / "out").problems) == 8
    made = everything(str(tmp_path / "hf"), tmp_path / "out", split="test")
    assert sorted(p.answer for p in made.problems) == ["1", "3"]
    with pytest.raises(BadSource, match=r"no split 'dev', it has train, test; correct problems\.split"):
        everything(str(tmp_path / "hf"), tmp_path, split="dev")


def test_a_dataset_of_the_hub_is_loaded_by_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(0, image=f"{tmp_path}/0.png"), row(1, image="relative.png")]
    jsonl(tmp_path, rows)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, split: datasets.Dataset.from_list(rows))
    made = everything("some/dataset", tmp_path, max_bad_share=0.5)
    assert len(made.problems) == 1 and "a dataset of the hub has no folder" in made.dropped[0].detail


def test_a_hub_that_cannot_be_reached_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, config: str | None, split: str) -> None:
        raise ConnectionError(f"Couldn't reach {name!r} on the Hub\nand a second line")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(BadSource, match=r"^some/dataset is no file or folder here.*download it") as caught:
        everything("some/dataset", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "pixel"),
    [
        (picture(1, "P"), None),
        (picture((0, 255, 255, 0), "CMYK", form="JPEG"), None),
        (picture((9, 9, 9, 0), "RGBA"), (255, 255, 255)),
        (picture((40, 0), "LA"), (255, 255, 255)),
        (picture(1, "1"), (255, 255, 255)),
        (picture((1, 2, 3), form="BMP"), (1, 2, 3)),
    ],
    ids=["palette", "CMYK", "alpha", "grey alpha", "bilevel", "BMP"],
)
def test_images_of_every_mode(tmp_path: Path, data: bytes, pixel: tuple[int, int, int] | None) -> None:
    source = jsonl(tmp_path, [row()])
    (tmp_path / "0.png").write_bytes(data)
    (problem,) = everything(source, tmp_path).problems
    image = open_image(problem.images[0], "")
    assert image.mode == "RGB" and (pixel is None or image.getpixel((0, 0)) == pixel)


def test_an_image_may_be_written_as_base64(tmp_path: Path) -> None:
    written = base64.b64encode(picture("red", size=(30, 20))).decode()
    source = jsonl(
        tmp_path, [row(image=written), row(1, image="\n".join(written[i : i + 76] for i in range(0, 999, 76)))]
    )
    one, other = everything(source, tmp_path).problems
    assert one.images == other.images
    assert open_image(one.images[0], str(tmp_path)).size == (30, 20)


# --- bad rows ---------------------------------------------------------------------------------------------------------

BAD = {
    "missing image": [
        row(image="nowhere.png"),
        row(image=None),
        row(image=[]),
        row(image=["0.png", None]),
        row(image="https://127.0.0.1:1/refused.png"),
    ],
    "unreadable image": [
        row(image="text.png"),
        row(image="cut.png"),
        row(image="data:image/png;base64,abc"),
        row(image="/9j/" + "A" * 101),
    ],
    "empty question": [
        row(question=""),
        row(question=None),
        row(question=" <image> \n"),
        row(question="\u200b<image>"),
    ],
    "empty answer": [row(answer=" "), row(answer=None), row(answer="\\boxed{ }"), row(answer=float("nan"))],
    "answer is no text": [row(answer=["3"])],
    "placeholders do not match images": [
        row(question="<image><image> how many?"),
        row(question="<image> a <image>"),
    ],
    "broken gold": [
        row(answer="\\boxed{3"),
        row(answer="\\boxed{3}}"),
        row(answer="\\boxed 3"),
        row(answer="\\frac{1"),
        row(answer="\\boxed{1} or \\boxed{2}"),
    ],
    "duplicate uid": [row(uid="taken")],
    "empty uid": [row(uid=None), row(uid=" ")],
    "unknown kind": [row(kind="number"), row(kind=3)],
    "answer is not of its kind": [row(kind="integer", answer="3.5"), row(kind="float", answer="1,5")],
    "choice answer names no option": [
        row(answer="C", choices=["x", "y"]),
        row(answer="z", choices=["x", "y"]),
        row(answer="B", choices=["B", "A"]),
        row(kind="choice", answer="z"),
        row(answer="B. x", choices=["x", "y"]),
    ],
    "unreadable choices": [row(choices="x or y"), row(choices="7")],
}


def test_references_are_read_and_may_be_missing(tmp_path: Path) -> None:
    """One that writes a special token would end a turn."""
    known = [" a red bar ", None, "", "a bar<|im_end|>", 3]
    source = jsonl(tmp_path, [row(i, good=text) for i, text in enumerate(known)])
    made = everything(source, tmp_path, columns=Columns(reference="good"), max_bad_share=1)
    assert {problem.uid: problem.reference for problem in made.problems} == {"0": "a red bar", "1": "", "2": ""}
    assert Counter(d.reason for d in made.dropped) == {"special token in the text": 1, "reference is no text": 1}


@pytest.mark.parametrize("reason", BAD)
def test_bad_rows_are_dropped_and_counted_by_reason(tmp_path: Path, reason: str) -> None:
    good = row(uid="taken", answer="3", kind=None, choices=None)
    rows = [good] + [{"uid": f"bad-{i}", "kind": None, "choices": None} | bad for i, bad in enumerate(BAD[reason])]
    source = jsonl(tmp_path, rows)
    (tmp_path / "text.png").write_text("this is no picture")
    (tmp_path / "cut.png").write_bytes(picture("red", size=(90, 90))[:60])
    columns = Columns(uid="uid", kind="kind", choices="choices")
    made = everything(source, tmp_path, columns=columns, max_bad_share=1)
    assert [p.uid for p in made.problems] == ["taken"]
    assert Counter(d.reason for d in made.dropped) == {reason: len(BAD[reason])}
    assert [d.row for d in made.dropped] == list(range(1, len(rows)))
    with pytest.raises(TooManyBadRows) as caught:
        everything(source, tmp_path, columns=columns, max_bad_share=0.4)
    line = str(caught.value)
    assert line.startswith(
        f"{source}: {len(BAD[reason])} of {len(rows)} rows are unusable ({reason} {len(BAD[reason])})"
    )
    assert "problems.max_bad_share = 0.4" in line and "\n" not in line


@pytest.mark.parametrize("key", ["question", "answer", "image", "uid", "kind", "category", "choices"])
def test_a_missing_column_is_named_with_its_recipe_key(tmp_path: Path, key: str) -> None:
    source = jsonl(tmp_path, [row()])
    with pytest.raises(BadSource) as caught:
        everything(source, tmp_path, columns=Columns(**{key: "picture"}))
    there = "one of: question, answer, image"
    assert str(caught.value) == f"{source} has no column 'picture'; set problems.columns.{key} to {there}"


def broken_page() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row(i, image=numbered(i)) for i in range(300)]), buffer)
    data = bytearray(buffer.getvalue())
    data[400:700] = b"\xff" * 300
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.parquet", None, r"no such file; correct problems\.source$"),
        ("none", None, r"no such file or folder; correct problems\.source$"),
        ("text.parquet", b"PAR1 not really", r"not a readable parquet file"),
        ("empty.parquet", b"", r"not a readable parquet file"),
        ("page.parquet", broken_page(), r"corrupt|not a readable parquet file"),
        ("cut.jsonl", b'{"question": 1}\n{"quest', r"cut\.jsonl, line 2 is not JSON"),
        ("list.jsonl", b"[1]", r"line 1 is no JSON object"),
        ("latin.jsonl", b'{"question": "\xe9"}', r"line 1 is not JSON"),
        ("empty.jsonl", b"", r"holds no rows"),
        ("map.json", b'{"a": 1}', r"no list of JSON objects"),
        ("cut.json", b'[{"a": 1}', r"not a readable json file"),
        ("rows.csv", b"a,b", r"is no \.parquet, \.jsonl or \.json file"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadSource, match=message) as caught:
        everything(str(tmp_path / name), tmp_path)
    assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)


def test_an_unknown_protocol_and_a_broken_dataset_folder(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match="Protocol not known"):
        everything("nothing://x/rows.parquet", tmp_path)
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf/dataset_info.json").write_text("{}")
    with pytest.raises(BadSource, match="broken save_to_disk folder"):
        everything(str(tmp_path / "hf"), tmp_path)


# --- the split --------------------------------------------------------------------------------------------------------


@settings(max_examples=examples(40), deadline=None)
@given(
    shown=st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=3), min_size=1, max_size=40),
    seed=st.integers(0, 9),
    order=st.randoms(use_true_random=False),
)
def test_split_keeps_images_together_and_ignores_row_order(shown: list[list[int]], seed: int, order: Any) -> None:
    def split(rows: list[dict[str, Any]], heldout: int | None) -> tuple[list[str], set[str]]:
        (folder / "rows.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
        config = TableProblems(source=str(folder / "rows.jsonl"), heldout_share=0.4, columns=Columns(uid="uid"))
        try:
            made = load(config, str(folder), seed, heldout).problems
        except BadSource:
            return [], set()
        return [p.uid for p in made], {ref.sha256 for p in made for ref in p.images}

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i in range(31):
            (folder / f"{i}.png").write_bytes(numbered(i))
        rows = [row(i, uid=f"u{i}", image=[f"{k}.png" for k in images]) for i, images in enumerate(shown)]
        shuffled = list(rows)
        order.shuffle(shuffled)
        train, held = split(rows, None), split(rows, 999)
        assert sorted(train[0] + held[0]) == sorted(r["uid"] for r in rows)
        assert not train[1] & held[1]
        assert set(split(shuffled, None)[0]) == set(train[0]) and split(shuffled, 999)[0] == held[0]
        assert split(rows, 2)[0] == held[0][:2]


def test_the_share_is_kept_and_the_seed_matters() -> None:
    held = [{i for i in range(4000) if splits.is_heldout(str(i), seed, 0.1)} for seed in (0, 1)]
    assert all(abs(len(h) / 4000 - 0.1) < 0.02 for h in held) and len(held[0] & held[1]) < 100


def test_a_heldout_source_of_its_own(tmp_path: Path) -> None:
    source = jsonl(tmp_path, [row(i) for i in range(5)])
    other = jsonl(tmp_path, [row(i, answer="9") for i in range(4)], "other.jsonl")
    config = TableProblems(source=source, heldout_source=other)
    assert len(load(config, str(tmp_path), 0).problems) == 5
    assert [p.answer for p in load(config, str(tmp_path), 0, heldout=3).problems] == ["9"] * 3


def test_a_part_without_rows_is_an_error(tmp_path: Path) -> None:
    config = TableProblems(source=jsonl(tmp_path, [row()]), heldout_share=0.001)
    with pytest.raises(BadSource, match=r"falls to the held-out part; add rows or name a problems\.heldout_source"):
        load(config, str(tmp_path), 0, heldout=5)


def test_stamp_follows_the_files_and_the_digest_follows_the_content(tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        source = jsonl(tmp_path / name, [row(i) for i in range(5)])
        digests.append(everything(source, tmp_path).digest())
    assert digests[0] == digests[1]
    before = sources.stamp(source)
    assert before == sources.stamp(source)
    assert everything(jsonl(tmp_path / "b", [row(i, answer="8") for i in range(5)]), tmp_path).digest() != digests[0]
    assert sources.stamp(source) != before
    assert sources.stamp("some/dataset") != sources.stamp("other/dataset")
    with pytest.raises(BadSource, match="no such file"):
        sources.stamp(str(tmp_path / "none.jsonl"))
