"""Files and folders that are there completely or not at all, whatever interrupts the program."""

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a file through a temporary one beside it; a failure leaves the old file, or none. Text is UTF-8."""
    path = Path(path)
    if isinstance(data, str):
        data = data.encode("utf-8", "replace")
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def staged_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives an empty folder to write to; its files move to `folder` when the block ends well, and vanish otherwise.

    Files of the same names are replaced, others in `folder` stay.
    """
    folder = Path(folder)
    stage = folder.with_name(f".{folder.name[:100]}.{os.getpid()}.tmp")
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    try:
        yield stage
        with _interrupts_wait():
            if not folder.exists():
                stage.replace(folder)
                return
            for path in sorted(stage.iterdir()):
                path.replace(folder / path.name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Holds back Ctrl-C until the block ends."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    received: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: received.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if received and callable(before):
            before(*received[0])
