"""How much memory may be used here."""

from pathlib import Path

import psutil

# Linux control groups, version 2 and 1: limit and present use of this container or job.
_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def available_memory() -> int:
    """Bytes free for use, by the machine and by the limit of the container or batch job, whichever is less."""
    available = int(psutil.virtual_memory().available)
    for limit, used in _LIMITS:
        if limit.is_file() and used.is_file() and (text := limit.read_text().strip()).isdigit():
            available = min(available, max(0, int(text) - int(used.read_text())))
    return available
