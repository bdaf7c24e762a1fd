"""Another name for a run that has ended: its folder moves, and its files say the new name."""

from __future__ import annotations

import json

from racro.storage import layout, runs
from racro.storage.artifacts import create_file, read_file, to_json, write_file
from racro.storage.files import opened, remove_folder, with_retries
from racro.storage.overview import Run

PLACES = ("results", "table")
"""Keys of summaries with places in the run's folder."""


def rename(root: str, run: Run, new: str) -> None:
    """Give a run another name. Raises BadName, and NameTaken if another run has it.

    The new folder is complete before the old one goes. If this is killed before, both are there: remove one.
    """
    owner = runs.holder(root, run.name)
    if owner is None or runs.holder(root, new) or not create_file(layout.owner(root, new), to_json(owner).encode()):
        raise runs.NameTaken(f"{new}: {root} has such a run already; choose another name, or remove that one")
    before, after = layout.run(root, run.name), layout.run(root, new)
    fs, path = opened(before)
    for file in with_retries(lambda: fs.find(path)):
        name = file.removeprefix(path).strip("/")
        if name not in ("run.json", "summary.json"):
            write_file(f"{after}/{name}", read_file(f"{before}/{name}"))
    if run.finished:
        summary = json.loads(read_file(layout.summary(root, run.name))) | {"run": new}
        moved = {key: summary[key].replace(before, after) for key in PLACES if isinstance(summary.get(key), str)}
        write_file(layout.summary(root, new), f"{json.dumps(summary | moved, indent=2, ensure_ascii=False)}\n".encode())
    remove_folder(before)
