"""Gives memory back to the system."""

import ctypes
from functools import cache


@cache
def _trim() -> object:
    # glibc alone keeps what threads allocated and freed; there are other allocators without it.
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None


def return_freed_memory() -> None:
    """Returns freed memory to the system, where the allocator would keep it."""
    trim = _trim()
    if callable(trim):
        trim(0)
