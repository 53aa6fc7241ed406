"""The `understudy` command: what happens before and after a command runs.

The commands stand in `commands/`, one file for each; this file turns what they raise into one
sentence on stderr and an exit status.
"""

from __future__ import annotations

import sys

from .errors import InvalidRequest, UnderstudyError


def main() -> None:
    """Run the command line and exit.

    The exit status is 0, 1 when something went wrong, 2 when it was asked for wrongly,
    130 after Ctrl-C.
    """
    try:
        from .commands import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == __package__:
            raise
        print(
            f"The command line needs {error.name}, which is not installed: "
            'pip install ./models/toon ".[server]" in a clone of Understudy brings it.',
            file=sys.stderr,
        )
        sys.exit(1)
    try:
        app()
    except UnderstudyError as error:
        print(error.message, file=sys.stderr)
        sys.exit(2 if isinstance(error, InvalidRequest) else 1)
    except OSError as error:
        print(_describe(error), file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _describe(error: OSError) -> str:
    """One sentence for what the system refused."""
    reason = error.strerror or type(error).__name__
    if error.filename is None:
        return f"The system refused: {reason}."
    return f"{str(error.filename)!r} cannot be used: {reason}; choose another file or folder."


if __name__ == "__main__":
    main()
