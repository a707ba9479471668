"""How the process keeps memory that its arrays have freed, and what it says when there is none left."""

import contextlib
import ctypes
import errno
import sys
from collections.abc import Iterator

from vaebench.core.errors import NoMemory, VaebenchError

# Names of glibc's <malloc.h>.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory for the next array; returns whether it could.

    By default glibc asks the kernel for every array above 32 MiB and gives it back when it is freed, so that each
    new one is zeroed page by page at first touch. Training makes hundreds of such arrays a step, and the same ones in
    the next: `tests/benchmarks/sit_step.py` with and without --same-process tells what keeping them gains. The process
    then holds its peak until it ends. Works on Linux with glibc; elsewhere nothing changes. It concerns the whole
    process, so the command line does it, and a program that uses vaebench as a library may.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))


# What torch says where it cannot allocate, on the CPU, on a GPU, and when it maps a file.
_TOLD = ("not enough memory", "out of memory", "can't allocate memory", "Cannot allocate memory", "std::bad_alloc")


@contextlib.contextmanager
def memory_errors_said(work: str) -> Iterator[None]:
    """Turn a refused allocation into an error with a remedy.

    Args:
        work: what was being done, for the message.

    Raises:
        NoMemory: Python, numpy, torch or the system could not have the memory that they asked for.
    """
    try:
        yield
    except VaebenchError:
        raise
    except Exception as error:
        refused = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        if refused or (isinstance(error, RuntimeError) and any(words in str(error) for words in _TOLD)):
            first = (str(error).strip().splitlines() or ["no memory"])[0]
            raise NoMemory(
                f"There is not enough memory for {work} ({first}).",
                "Use a smaller batch size, fewer --jobs or a machine with more; finished work is kept and taken up.",
            ) from error
        raise
