"""README, docs and the other Markdown pages: their code blocks, headings and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\S*)")
NOT_RUN = re.compile(r"^<!-- not run: (.+) -->$")
FIRST_HOUR = ("README.md", "docs/start.md")
"""What a newcomer reads first."""
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    page: str
    line: int
    """Of its first line of code, counted from 1."""
    language: str
    text: str
    not_run: str | None
    """Why it is not run, as the line before it says; None: it is run."""

    def __str__(self) -> str:
        return f"{self.page}, line {self.line}"


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    name: str
    """Path from the repository's root."""
    prose: str
    """Everything outside of code blocks."""
    blocks: tuple[Block, ...]

    @property
    def links(self) -> list[tuple[Path, str]]:
        """Targets inside the repository: file or folder, and anchor (empty: none)."""
        found = []
        for target in LINK.findall(self.prose):
            path, _, anchor = target.partition("#")
            found.append(((REPOSITORY / self.name).parent / path if path else REPOSITORY / self.name, anchor))
        return found

    @property
    def anchors(self) -> set[str]:
        """The anchors that GitHub gives to the headings."""
        return {
            re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)).strip().lower().replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", self.prose, re.MULTILINE)
        }


def read(name: str) -> Page:
    """A page by its path from the repository's root. Raises ValueError where a block does not end."""
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    prose: list[str] = []
    blocks: list[Block] = []
    opened: int | None = None
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if opened is None and fence:
            opened = number
        elif opened is not None and line == "```":
            mark = NOT_RUN.match(lines[opened - 1]) if opened else None
            language = lines[opened].removeprefix("```").strip()
            text = "\n".join(lines[opened + 1 : number]) + "\n"
            blocks.append(Block(name, opened + 2, language, text, mark and mark[1]))
            opened = None
        elif opened is None:
            prose.append(line)
    if opened is not None:
        raise ValueError(f"{name}, line {opened + 1}: a block of code that does not end")
    return Page(name, "\n".join(prose), tuple(blocks))


def reachable() -> list[Page]:
    """README, then every page that links lead to, in the order in which a reader meets them."""
    found = [read("README.md")]
    names = {"README.md"}
    for page in found:  # grows while it is walked through
        for target, _ in page.links:
            target = target.resolve()
            name = target.relative_to(REPOSITORY).as_posix() if target.is_relative_to(REPOSITORY) else ""
            if target.suffix == ".md" and target.exists() and name not in names:
                names.add(name)
                found.append(read(name))
    return found


PAGES = reachable()
TYPED = [page for page in PAGES if page.name == "README.md" or page.name.startswith("docs/")]
"""Pages for users. What the others (for contributors) show changes the clone itself."""


def typed(page: Page, *languages: str) -> list[Block]:
    """The blocks of a page in these languages that are run."""
    return [block for block in page.blocks if block.language in languages and not block.not_run]


def having(*languages: str) -> list[Page]:
    """The pages for users on which a block in one of these languages is run."""
    return [page for page in TYPED if typed(page, *languages)]
