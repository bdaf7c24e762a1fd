"""The command `racro`: exit status 0 done, 2 bad input, 1 failure, 130 Ctrl-C, 143 SIGTERM; one line for each mistake.

The commands are in `flows.cli.app`. They are imported late, so that Ctrl-C is handled from the beginning.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator

WINDOWS = "racro: runs on Linux and macOS; on Windows, install it in WSL 2 (`wsl --install`), see docs/start.md"

CLEAR = "\r\x1b[K"
"""Takes back the line that the cursor is in."""


def main() -> None:
    """Entry point of the `racro` command."""
    if sys.platform == "win32":  # before imports of what Windows does not have: signals, locks on files
        print(WINDOWS, file=sys.stderr)
        sys.exit(2)
    from flows import interruption

    interruption.install()
    try:
        _run()
    except BaseException:  # an interruption may arrive here as any exception; all others are raised again
        if interruption.received():
            interruption.end()
        raise
    if interruption.received():  # Prefect or a library kept it to itself
        interruption.end()


def _run() -> None:
    import errno

    from flows import interruption
    from racro import imports

    with _said(), imports.quick():
        from flows.cli.app import app
        from racro.errors import BadInput

    try:
        app(prog_name="racro")  # completion finds its variable by this name, however the command was started
    except BadInput as error:
        print(f"racro: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        words = f"{error}; make room: the same command goes on where it stopped" if full else error
        print(f"racro: failed: {type(error).__name__}: {words}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:  # one line for people; the traceback is in the Prefect logs
        if not interruption.received():
            print(f"racro: failed: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """On a terminal: what is being started, while its modules are imported. They say more themselves."""
    if not sys.stderr.isatty():
        yield
        return
    columns = shutil.get_terminal_size().columns
    sys.stderr.write(f"racro: {' '.join(sys.argv[1:])}"[: columns - 5] + " ...")
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write(CLEAR)


if __name__ == "__main__":
    main()
