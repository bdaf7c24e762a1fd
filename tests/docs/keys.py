"""Writes docs/keys.md, the reference of all keys of a recipe, from the config classes: `make keys`.

`tests/docs/test_keys_page.py` fails when the page is stale.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from racro.config.keys import Key, Section, sections

PAGE = Path(__file__).parents[2] / "docs" / "keys.md"

INTRODUCTION = """# Keys of a recipe

All keys, with type, default and meaning. `racro recipe explain KEY` prints the same in a terminal, and
`racro recipe schema` prints a JSON schema for editors. How to write a recipe is in [recipes.md](recipes.md), and
[papers.md](papers.md) says which paper's method is which key.

In paths, N is the number of an entry of a list and NAME a name of your choice: `--set rewards.0.weight=0.5`. Everything
but `runtime` and `alarms` changes the result: another value gives another policy, and what depends on it is computed
again. Keys of `runtime` and `alarms` change no result and no cache key. A key without a default is required.

This page is made by `make keys` from the docstrings in racro/config: change those, not this page.
"""


def page() -> str:
    """The text of docs/keys.md."""
    return "\n".join([INTRODUCTION, *(line for section in sections() for line in _section(section))]) + "\n"


def _section(section: Section) -> Iterator[str]:
    first, *others = section.paths
    within = f", type {section.within}" if section.within else ""
    yield f"## {first or 'The recipe'}{within}\n"
    if others:
        yield f"Also {', '.join(f'`{path}`' for path in others)}.\n"
    if section.text:
        yield f"{section.text}\n"
    if section.kinds:
        yield "| `type` | what it is |\n|---|---|"
        for kind, text in section.kinds.items():
            yield f"| `{kind}` | {_cell(text)} |"
        yield ""
    kinds = any(key.kinds for key in section.keys)
    yield f"| key | type | default | {'with `type` | ' if kinds else ''}what it is |\n|---|---|---|{'---|' * kinds}---|"
    yield from (_key(key, kinds) for key in section.keys if not (section.kinds and key.name == "type"))
    yield ""


def _key(key: Key, kinds: bool) -> str:
    kind = _cell(f"{key.type}: {key.allowed}" if key.allowed else key.type)
    default = "" if key.default is None else f"`{_cell(key.default)}`" if key.default != "as below" else "below"
    cells = [f"`{key.name}`", kind, default, *([", ".join(key.kinds)] if kinds else []), _cell(key.text)]
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
