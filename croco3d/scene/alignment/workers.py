"""Threads of an alignment: each takes whole blocks of pixels."""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import torch

MOST = 8  # Python itself runs on one thread at a time, so that more would wait


@contextmanager
def block_workers() -> Iterator[Executor]:
    """Let every operation run on one thread, and blocks of pixels on as many as torch has.

    The operations of the solvers are so small that threads which share one mostly wait for each
    other: on two cores with another program on one of them, 3 to 23 s instead of 0.9 s.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(threads, MOST)) as workers:
            yield workers
    finally:
        torch.set_num_threads(threads)
