"""Locks among real processes: one works at a time, the dead have one heir, the living of other hosts are left alone."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from vaebench.core import locks
from vaebench.core.errors import MismatchError
from vaebench.core.locks import hold, living_holder, read_holder

COUNT = """
import sys, time
from pathlib import Path
from vaebench.core.locks import hold
lock, counter, times = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
for _ in range(times):
    with hold(lock, "counting", wait=True):
        before = int(counter.read_text())
        time.sleep(0.002)
        counter.write_text(str(before + 1))
"""
KEEP = """
import sys, time
from pathlib import Path
from vaebench.core.locks import hold
with hold(Path(sys.argv[1]), "keeping"):
    print("held", flush=True)
    time.sleep(60)
"""


def keeper(lock):
    process = subprocess.Popen([sys.executable, "-c", KEEP, str(lock)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_processes_take_turns_and_none_is_lost(tmp_path):
    lock, counter = tmp_path / "lock", tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, "-c", COUNT, str(lock), str(counter), "15"]
    workers = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4
    assert counter.read_text() == "60"
    assert [path.name for path in tmp_path.iterdir()] == ["counter"]


def test_many_heirs_of_a_killed_holder_still_take_turns(tmp_path):
    lock, counter = tmp_path / "lock", tmp_path / "counter"
    counter.write_text("0")
    process = keeper(lock)
    process.kill()
    process.wait()
    assert lock.exists()
    command = [sys.executable, "-c", COUNT, str(lock), str(counter), "5"]
    workers = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4
    assert counter.read_text() == "20"


def test_a_living_holder_is_named_and_respected(tmp_path, capsys):
    process = keeper(tmp_path / "lock")
    try:
        holder = read_holder(tmp_path / "lock")
        assert living_holder(tmp_path / "lock") == holder
        with pytest.raises(MismatchError, match=f"Process {process.pid} on .* is working on this"):
            hold(tmp_path / "lock", "this").__enter__()
        assert read_holder(tmp_path / "lock") == holder
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with hold(tmp_path / "lock", "this", wait=True):
        assert read_holder(tmp_path / "lock").pid == os.getpid()
    assert not (tmp_path / "lock").exists()


def test_a_number_that_came_round_again_is_another_process(tmp_path):
    lock = tmp_path / "lock"
    process = keeper(lock)
    try:
        earlier = dataclasses.replace(read_holder(lock), started=read_holder(lock).started - 100)
        lock.write_text(json.dumps(dataclasses.asdict(earlier)))
        assert living_holder(lock) is None
    finally:
        process.kill()
        process.wait()


def test_another_host_is_judged_by_its_heartbeat(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "SETTLE", 0.01)
    lock = tmp_path / "lock"
    far = locks.Holder("elsewhere/boot/pid", os.getpid(), 0.0, "token")
    lock.write_text(json.dumps(dataclasses.asdict(far)))
    with pytest.raises(MismatchError, match="on elsewhere is working"):
        hold(lock, "this").__enter__()
    old = time.time() - locks.STALE - 1
    os.utime(lock, (old, old))
    with hold(lock, "this"):
        assert read_holder(lock).host == locks.host_identity()


def test_the_heartbeat_renews_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "HEARTBEAT", 0.02)
    lock = tmp_path / "lock"
    with hold(lock, "this"):
        os.utime(lock, (1, 1))
        end = time.monotonic() + 5
        while lock.stat().st_mtime < 10 and time.monotonic() < end:
            time.sleep(0.01)
        assert lock.stat().st_mtime > 10


def test_who_lost_its_lock_does_not_remove_the_heirs(tmp_path):
    lock = tmp_path / "lock"
    with hold(lock, "this"):
        heir = dataclasses.replace(read_holder(lock), token="heir")
        lock.write_text(json.dumps(dataclasses.asdict(heir)))
    assert read_holder(lock) == heir


def test_a_disk_without_hard_links_and_file_locks_will_do(tmp_path, monkeypatch):
    import fcntl

    def refuse(*_):
        raise OSError("not on this disk")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(locks, "SETTLE", 0.01)
    lock = tmp_path / "lock"
    with hold(lock, "this"):
        assert living_holder(lock).pid == os.getpid()
        with pytest.raises(MismatchError):
            hold(lock, "this").__enter__()
    lock.write_text("")  # cut off by a kill
    with hold(lock, "this"):
        assert living_holder(lock) is not None
    assert list(tmp_path.iterdir()) == []
