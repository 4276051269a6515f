"""How a command ends: an error that the user can correct is one sentence; a bug keeps its traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

from experiments.errors import UsageError


def stop(message: str, status: int = 2) -> NoReturn:
    """End the program with one sentence on standard error."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(status)


def command(main: Callable[[], None], *user_errors: type[Exception]) -> None:
    """Run a command's main function and turn the errors that a user can correct into one sentence and status 2.

    `user_errors` are such errors besides those of `experiments`, `adapters` and `tasks`. The process is prepared for
    torch before.
    """
    from adapters.errors import AdapterError
    from experiments.process.start import prepare_process
    from experiments.training.signals import Interrupted
    from tasks.errors import TaskError

    prepare_process()
    try:
        main()
    except (UsageError, AdapterError, TaskError, *user_errors) as error:
        stop(str(error))
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        sys.stderr.close()
    except Interrupted as interrupted:
        stop(str(interrupted), interrupted.status)
    except KeyboardInterrupt:
        stop("interrupted; the same command continues with what is on disk", status=130)
