"""Work in several processes: one state per process, results as they come, Ctrl-C and failures told by the parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

T = TypeVar("T")
S = TypeVar("S")
R = TypeVar("R")

IN_FLIGHT = 4  # items handed out per process: enough that none waits, few enough that Ctrl-C ends soon

_state: Any = None
_failure: Exception | None = None


class WorkerDiedError(RuntimeError):
    """A process ended without a word: killed, out of memory, or a crash in a library."""


def start_method() -> str:
    """How processes begin: on Linux as copies of this one (what it has in memory is shared), elsewhere afresh."""
    return "fork" if sys.platform == "linux" else "spawn"


def context() -> BaseContext:
    return multiprocessing.get_context(start_method())


def default_workers() -> int:
    """As many processes as there are cores for this one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def become_worker() -> None:
    """What every worker process does first: Ctrl-C is the parent's affair, and each process uses one thread."""
    import cv2
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(0)  # OpenCV's threads do not outlive a fork
    torch.set_num_threads(1)


def in_processes(
    work: Callable[[S, T], R], items: Iterable[T], make_state: Callable[[], S], workers: int
) -> Iterator[tuple[T, R]]:
    """(item, work(state, item)) for every item, as they are finished.

    Args:
        work: a function at the top of a module.
        make_state: called once in each process; its result is the `state`. A partial of a function at the top of a
            module, so that it can be sent.
        workers: number of processes; with 1 all happens in this one, in order.

    Raises:
        ValueError: workers < 1.
        WorkerDiedError: a process ended unexpectedly. And what `work` and `make_state` raise.
    """
    if workers < 1:
        raise ValueError(f"in_processes(): expected workers to be >= 1, got {workers}")
    if workers == 1:
        state = make_state()
        for item in items:
            yield item, work(state, item)
        return
    remaining = iter(items)
    with ProcessPoolExecutor(workers, context(), _begin, (make_state,)) as pool:
        try:
            waiting: dict[Future[R], T] = {}
            while True:
                for item in islice(remaining, IN_FLIGHT * workers - len(waiting)):
                    waiting[pool.submit(_do, work, item)] = item
                if not waiting:
                    return
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(future), future.result()
        except BrokenProcessPool as error:
            raise WorkerDiedError(
                f"one of {workers} processes ended unexpectedly (out of memory, or killed); try fewer of them"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin(make_state: Callable[[], Any]) -> None:
    global _state, _failure
    become_worker()
    try:
        _state = make_state()
    except Exception as error:  # told with the first item: a pool says nothing of why its processes could not begin
        _failure = error


def _do(work: Callable[[Any, Any], Any], item: Any) -> Any:
    if _failure is not None:
        raise _failure
    return work(_state, item)
