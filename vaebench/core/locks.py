"""Locks that name who holds them, on one machine and on a folder that several machines share.

A lock is a small file. It is made by a hard link and taken over by a rename, so it is there whole or not at all. Who
holds it is known by host, process number and start time (numbers come round again, in containers at once); while it is
held, a thread renews its time stamp. A holder on this host is dead when its process is gone, one on another host when
the time stamp has not moved for ``STALE`` seconds by the clock of the disk that both see.
"""

import contextlib
import dataclasses
import functools
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from vaebench.core.errors import MismatchError

HEARTBEAT = 10.0
STALE = 120.0
# How long a lock that was taken over must stay ours before we believe it, where claimants cannot take turns.
SETTLE = 1.0
SECONDS_BETWEEN_LOOKS = 0.1

_held: set[str] = set()


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds a lock: a process, known by its start time too, and a token of this one holding."""

    host: str
    pid: int
    started: float
    token: str

    def __str__(self) -> str:
        return f"Process {self.pid} on {self.host.partition('/')[0]}"


@functools.cache
def host_identity() -> str:
    """Host name, boot and process-number space: where a process number means the same."""
    boot, numbers = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()}/{boot.read_text().strip()}/{os.readlink(numbers)}"
    return socket.gethostname()


def read_holder(lock: Path) -> Holder | None:
    """Who holds the lock, or None where there is none; a file that is no lock counts as one of a dead process."""
    try:
        return Holder(**json.loads(lock.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return Holder("", 0, 0.0, "")


def alive(lock: Path, holder: Holder) -> bool:
    """Whether the holder of a lock still lives."""
    import psutil

    if not holder.token:
        return False
    if holder.host == host_identity():
        if holder.pid == os.getpid():
            return holder.token in _held
        try:
            process = psutil.Process(holder.pid)
            return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - holder.started) < 1
        except psutil.NoSuchProcess:
            return False
    # Another machine's clock may be wrong, but the disk stamps its files and ours by one clock.
    probe = lock.with_name(f".{lock.name}.{secrets.token_hex(6)}.tmp")
    try:
        probe.touch()
        return probe.stat().st_mtime - lock.stat().st_mtime < STALE
    except FileNotFoundError:
        return False
    finally:
        probe.unlink(missing_ok=True)


def living_holder(lock: Path) -> Holder | None:
    """Who holds the lock and lives, or None."""
    holder = read_holder(lock)
    return holder if holder is not None and alive(lock, holder) else None


@contextlib.contextmanager
def hold(lock: Path, work: str, wait: bool = False) -> Iterator[None]:
    """Hold a lock file; one that a dead process left is taken over.

    Args:
        lock: the file.
        work: what it protects, for messages.
        wait: for a living holder rather than fail; said once on standard error.

    Raises:
        MismatchError: a living process holds the lock, and ``wait`` is false.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    mine, said = _me(), False
    while not _claim(lock, mine):
        holder = living_holder(lock)
        if holder is None:
            continue
        if not wait:
            raise MismatchError(f"{holder} is working on {work}.", "Wait for it, or stop it first.")
        if not said:
            print(f"{holder} is working on {work}; waiting for it.", file=sys.stderr, flush=True)
        said = True
        time.sleep(SECONDS_BETWEEN_LOOKS)
    _held.add(mine.token)
    over = threading.Event()
    threading.Thread(target=_beat, args=(lock, mine, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        _held.discard(mine.token)
        if read_holder(lock) == mine:
            lock.unlink(missing_ok=True)


def _me() -> Holder:
    import psutil

    return Holder(host_identity(), os.getpid(), psutil.Process().create_time(), secrets.token_hex(8))


def _claim(lock: Path, mine: Holder) -> bool:
    """Try once to take the lock; whether it is ours now."""
    claim = lock.with_name(f".{lock.name}.{mine.token}.tmp")
    claim.write_text(json.dumps(dataclasses.asdict(mine)))
    try:
        with _in_turn(lock.parent) as ordered:
            holder = read_holder(lock)
            if holder is None:
                return _link(claim, lock)
            if alive(lock, holder):
                return False
            claim.replace(lock)
            if ordered and holder.host in {"", host_identity()}:
                return True
        # Another host may have taken it over in the same moment; the later rename is the one that stays.
        time.sleep(SETTLE)
        return read_holder(lock) == mine
    finally:
        claim.unlink(missing_ok=True)


def _link(claim: Path, lock: Path) -> bool:
    """Put the claim in the lock's place if nothing is there; whether that succeeded."""
    try:
        os.link(claim, lock)
    except FileExistsError:
        return False
    except OSError:  # a disk without hard links
        try:
            with lock.open("x") as handle:
                handle.write(claim.read_text())
        except FileExistsError:
            return False
    return True


@contextlib.contextmanager
def _in_turn(folder: Path) -> Iterator[bool]:
    """Let the claimants on this host go one after the other, where system and disk can; whether they could."""
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            ordered = True
        except OSError:
            ordered = False
        yield ordered
    finally:
        os.close(descriptor)


def _beat(lock: Path, mine: Holder, over: threading.Event) -> None:
    while not over.wait(HEARTBEAT):
        with contextlib.suppress(OSError):
            if read_holder(lock) == mine:
                os.utime(lock)
