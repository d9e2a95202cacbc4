"""What every verb asks of the process that it runs in: signals, standard output, logging."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

DONE, FAILED, WRONG = 0, 1, 2
"""Exit codes: done, it failed while running, what you gave it is wrong."""


async def until_signal(job: Coroutine[None, None, None]) -> None:
    """Run the job to its end, or until SIGTERM or SIGINT; either way it cleans up before this returns."""
    task = asyncio.ensure_future(job)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def on_hangup(reload: Callable[[], None]) -> None:
    """Call ``reload`` at each SIGHUP from now on, unless the terminal has gone: then the running task is cancelled.

    A service manager means by SIGHUP that the config is to be read again; a terminal that was closed means that nobody
    is there any more, and a camera must not stay on behind it.
    """
    task, terminal = asyncio.current_task(), _on_terminal()

    def hung_up() -> None:
        if terminal and not _on_terminal() and task:
            task.cancel()
        else:
            reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)


def _on_terminal() -> bool:
    """Whether standard input is a terminal, and that is still there."""
    try:
        return os.isatty(0) and bool(os.ttyname(0))
    except OSError:
        return False


@contextmanager
def writer(path: Path | None) -> Iterator[Callable[[bytes], object]]:
    """What takes the lines for ``--out``: a file, standard output for ``-``, or nothing."""
    if path is None:
        yield len
    elif path == Path("-"):
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
    else:
        with path.open("wb") as stream:
            yield stream.write


def log_to(terminal: Console | None, level: str) -> None:
    """Log lines above the live table on a terminal; elsewhere plain ones on stderr, for a service manager or a file."""
    handler: logging.Handler = logging.StreamHandler()
    layout = "%(asctime)s %(levelname)s %(message)s"
    if terminal:
        handler, layout = RichHandler(console=terminal, show_path=False, log_time_format="%H:%M:%S"), "%(message)s"
    logging.basicConfig(level=level, format=layout, handlers=[handler])


def set_level(level: str) -> None:
    """Log lines of that level and above, from now on."""
    logging.getLogger().setLevel(level)


def leave(code: int) -> int:
    """Write out what is still buffered here, where a reader that has gone is no error, and not in the interpreter.

    Does not return where a thread is left that nobody waits for, such as one in an engine that hangs: the interpreter
    would tear down under it what its native code stands on. Whoever asks for an end once more has it already.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if any(thread.daemon for thread in threading.enumerate()):
        logging.shutdown()
        os._exit(code)
    return code
