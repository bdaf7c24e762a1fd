"""The command `racro`: exit status 0 done, 2 bad input, 1 failure, 130 Ctrl-C, 143 SIGTERM; one line for each mistake.

The commands are in `flows.cli.app`. They are imported late, so that Ctrl-C is handled from the beginning.
"""

from __future__ import annotations

import sys

from flows import interruption


def main() -> None:
    """Entry point of the `racro` command."""
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

    from racro import imports

    with imports.quick():
        from flows.cli.app import app
        from racro.errors import BadInput

    try:
        app()
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


if __name__ == "__main__":
    main()
