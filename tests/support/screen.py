"""What is left on a terminal's screen after a program has written to it."""

from __future__ import annotations

import re

CODE = re.compile(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)")
STYLE = re.compile(r"\x1b\[[0-9;]*m")


def lines(output: str) -> list[str]:
    """The lines with their colours as ANSI codes. Knows the few codes that progress bars use."""
    screen: list[list[str]] = [[]]
    row = column = 0
    style = ""
    for part in CODE.split(output):
        if part == "\n":
            row, column = row + 1, 0
            if row == len(screen):
                screen.append([])
        elif part == "\r":
            column = 0
        elif STYLE.fullmatch(part):
            style = part if part in ("\x1b[0m", "\x1b[m") else style + part
        elif part.endswith("A") and part.startswith("\x1b["):
            row = max(0, row - int(part[2:-1] or 1))
        elif part.endswith("K") and part.startswith("\x1b["):
            screen[row] = [] if part == "\x1b[2K" else screen[row][:column]
        elif not part.startswith("\x1b"):
            for character in part:
                cells = screen[row]
                cells.extend([" "] * (column + 1 - len(cells)))
                cells[column] = f"{style}{character}\x1b[0m" if style not in ("", "\x1b[0m", "\x1b[m") else character
                column += 1
    return ["".join(cells) for cells in screen]


def plain(output: str) -> list[str]:
    """The lines without colours, those with nothing on them left out."""
    found = (re.sub(STYLE, "", line).rstrip() for line in lines(output))
    return [line for line in found if line]
