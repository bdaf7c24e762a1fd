"""Images that lie in a zip file beside their table, as ViRL39K is published.

When `images.zip` lies beside a table and there is no folder `images`, rows get the bytes of its members instead of the
paths. After that they are like images inside the table. Called by `racro.data.problems`.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from racro.data.sources import BadSource, Row, Source
from racro.storage.files import opened

FOLDER = "images"


def unpacked(source: Source, column: str) -> Source:
    """The source with the images of `column` read from the zip file beside it; unchanged when there is no zip file."""
    if source.base is None:
        return source
    location = f"{source.base}/{FOLDER}.zip"
    fs, path = opened(location)
    if not fs.exists(path) or fs.exists(path.removesuffix(".zip")):
        return source

    def rows(columns: Sequence[str]) -> Iterator[Row]:
        with fs.open(path, "rb") as stream, _Archive(stream, location) as archive:
            for row in source.rows(columns):
                yield row | {column: archive.unpack(row[column])} if column in row else row

    return replace(source, rows=rows)


class _Archive:
    """A zip file's members, found with or without the folder's name in front."""

    def __init__(self, stream: Any, name: str) -> None:
        self.name = name
        try:
            self.zip = zipfile.ZipFile(stream)
        except zipfile.BadZipFile as error:
            raise BadSource(f"{name} is no zip file ({error}); fetch it again") from error
        self.members = {member.removeprefix(f"{FOLDER}/"): member for member in self.zip.namelist()}

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.zip.close()

    def unpack(self, cell: Any) -> Any:
        """A cell with bytes instead of paths; a path that is no member stays. Raises BadSource."""
        if isinstance(cell, list):
            return [self.unpack(item) for item in cell]
        if not isinstance(cell, str):
            return cell
        member = self.members.get(cell.removeprefix("./").removeprefix(f"{FOLDER}/"))
        if member is None:
            return cell
        try:
            return self.zip.read(member)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise BadSource(f"{self.name} is corrupt at {member} ({error}); fetch it again") from error
