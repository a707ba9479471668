"""Short forms: kills, engines that agree to the last bit, tortured files, broken input, disks and memory that end."""

import contextlib
import importlib
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from vaebench.api import prepare_data
from vaebench.core.errors import DataError, NoMemory, NoSpace, NotWritable
from vaebench.core.memory import memory_errors_said
from vaebench.stages import STAGES
from vaebench.stages.base import Context, execute

CPU = Context(device="cpu")
WORDS = ["--device", "cpu", "--threads", "1"]


sys.path.insert(0, str(Path(__file__).parent))  # where commands find each other too
agreement, fuzz, kills, torture = map(importlib.import_module, ("agreement", "fuzz", "kills", "torture"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tiny study as a file, its artefacts when left alone, and the seconds that took."""
    folder = tmp_path_factory.mktemp("tiny")
    study = kills.write_tiny(folder / "tiny.yaml")
    seconds = kills.run_whole(study, folder / "alone", WORDS)
    return study, folder / "alone", seconds


@pytest.mark.slow
def test_three_kills_change_nothing(tiny, tmp_path):
    study, alone, seconds = tiny
    root = tmp_path / "killed"
    assert kills.run_killed(study, root, WORDS, 0.8 * seconds, random.Random(1), 3) > 0
    subprocess.run(kills.command(study, root, action="clean"), check=True, capture_output=True)
    assert kills.differences(root, kills.artefacts(alone)) == []
    assert kills.left_over(root) == []


@pytest.mark.slow
@pytest.mark.parametrize("words", [["local"], ["ray"], ["ray", "--copied"]], ids=["local", "ray", "copied"])
def test_engines_agree_to_the_last_bit(tiny, tmp_path, words):
    if "ray" in words:
        pytest.importorskip("ray")
    study, alone, _ = tiny
    kills.run_whole(study, tmp_path / "run", [*WORDS, "--jobs", "2", "--engine", *words])
    assert kills.differences(tmp_path / "run", kills.artefacts(alone)) == []
    assert kills.left_over(tmp_path / "run") == []


@pytest.mark.slow
def test_tensorboard_finds_the_runs_of_a_study(tiny):
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    runs = EventMultiplexer().AddRunsFromDirectory(str(tiny[1])).Reload()
    tags = {name.split("/")[1].rpartition("-")[0]: found["scalars"] for name, found in runs.Runs().items()}
    assert tags.keys() == {"train-kl-vae-s0", "sit-kl-vae-s0"}
    assert all("loss" in scalars for scalars in tags.values())


def data(folder):
    return execute(STAGES.get("data")(), {"name": "avatars", "options": kills.TINY["data"]["options"]}, {}, folder, CPU)


def train(folder, images):
    training = {"steps": 1, "batch_size": 4, "seed": 0, "tensorboard": False}
    config = {"method": "kl-vae", "network": "nano", "training": training}
    return execute(STAGES.get("train")(), config, {"data": images}, folder, CPU)


@contextlib.contextmanager
def files_up_to(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_when_files_cannot_grow_it_is_said_and_the_next_run_goes_on(tmp_path):
    with files_up_to(100_000), pytest.raises(NoSpace, match="largest file size allowed"):
        data(tmp_path / "data")
    assert not (tmp_path / "data").exists()
    images = data(tmp_path / "data").folder
    before = {path: path.read_bytes() for path in images.rglob("*") if path.is_file()}
    with files_up_to(100_000), pytest.raises(NoSpace, match="largest file size allowed"):
        train(tmp_path / "train", images)  # whose weights are written by other libraries
    assert {path: path.read_bytes() for path in images.rglob("*") if path.is_file()} == before
    made = train(tmp_path / "train", images).folder
    assert (made / "tokenizer" / "diffusion_pytorch_model.safetensors").stat().st_size > 100_000
    assert not list(tmp_path.rglob(".*"))


def test_a_folder_that_may_not_be_written_is_named():
    STAGES.get("data")  # what is not imported yet, the other user may not be able to read
    with tempfile.TemporaryDirectory() as name:
        forbidden = Path(name) / "forbidden"
        forbidden.mkdir()
        Path(name).chmod(0o755)
        forbidden.chmod(0o555)
        root = os.geteuid() == 0  # who may write everywhere, so another user tries
        try:
            if root:
                os.seteuid(65534)
            with pytest.raises(NotWritable, match=r"refuses access to .*forbidden"):
                data(forbidden / "data")
        finally:
            if root:
                os.seteuid(0)
            forbidden.chmod(0o755)


@contextlib.contextmanager
def mounted(folder, *options):
    """A file system of its own, where this user may mount one."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("this user may not mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # arrays may still be mapped


def test_a_full_disk_is_said_and_with_room_it_goes_on(tmp_path):
    with mounted(tmp_path / "small", "-o", "size=36m") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(3 * 2**20))
        images = data(disk / "data").folder
        ballast.write_bytes(bytes(5 * 2**20))
        with pytest.raises(NoSpace, match="MiB free"):
            train(disk / "train", images)
        ballast.unlink()
        assert (train(disk / "train", images).folder / "stage.json").is_file()
        assert not list(disk.rglob(".*"))


def test_a_disk_that_is_mounted_read_only_is_named(tmp_path):
    with mounted(tmp_path / "fixed") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(NotWritable, match=r"refuses access to .*fixed"):
            data(disk / "data")


def in_child(work):
    """What ``work`` returns, of a forked child whose limits are its own."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(sender, "w") as told:
            told.write(str(work()))
            told.flush()
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as heard:
        text = heard.read()
    os.waitpid(child, 0)
    return text


def test_too_little_memory_is_said_and_with_enough_it_goes_on(tmp_path):
    def draw():
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20,) * 2)
        options = {"image_size": 512, "train": 400, "validation": 0, "test": 0}
        try:
            stage = STAGES.get("data")()
            execute(stage, {"name": "avatars", "options": options}, {}, tmp_path / "data", Context("cpu", 1))
        except NoMemory as error:
            return error
        return "it was enough"

    assert "There is not enough memory for 'data'" in in_child(draw)
    assert not (tmp_path / "data").exists()
    assert data(tmp_path / "other").folder.is_dir()


def test_what_torch_and_numpy_say_of_memory_is_understood():
    import numpy as np
    import torch

    for ask in (lambda: np.empty(2**60, np.uint8), lambda: torch.empty(2**60, dtype=torch.uint8)):
        with pytest.raises(NoMemory, match=r"not enough memory for this.*smaller batch"), memory_errors_said("this"):
            ask()
    with pytest.raises(ZeroDivisionError), memory_errors_said("this"):
        1 / 0  # noqa: B018


def test_an_input_that_the_disk_changed_is_refused_before_it_is_used(tmp_path):
    images = data(tmp_path / "data").folder
    with (images / "data.h5").open("r+b") as handle:
        handle.seek(-5000, os.SEEK_END)
        handle.write(b"!")
    with pytest.raises(DataError, match=r"data\.h5 differs between bytes 0 and .*Remove that folder and run again"):
        train(tmp_path / "train", images)
    assert not (tmp_path / "train").exists()


def test_files_that_are_damaged_or_fought_over_are_never_read_wrong():
    found = torture.run(60)
    assert torture.problems(found) == []
    assert all(sum(tally.values()) > 0 for tally in found.values())


def test_broken_input_ends_with_our_errors():
    counted, findings = fuzz.run(150, first=random.SystemRandom().randrange(10**9))
    assert findings == []
    assert counted["inputs"] > 140


def test_two_studies_on_one_cache_wait_for_each_other_and_inherit_from_the_dead(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEBENCH_CACHE", str(tmp_path / "cache"))
    options = {**kills.TINY["data"]["options"], "train": 1500}

    def start():
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            with contextlib.suppress(BaseException):
                prepare_data("avatars", options=options, context=CPU)
                os._exit(0)
            os._exit(1)
        return child

    first = start()
    end = time.monotonic() + 60
    while not list((tmp_path / "cache").rglob(".*.partial/data.h5")):
        assert time.monotonic() < end
        time.sleep(0.002)
    os.kill(first, signal.SIGSTOP)  # or it would end before the others begin, on a busy machine
    second, third = start(), start()
    time.sleep(0.3)
    os.kill(first, signal.SIGKILL)
    ended = {child: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in (first, second, third)}
    assert ended == {first: -signal.SIGKILL, second: 0, third: 0}
    made = prepare_data("avatars", options=options, context=CPU)
    assert [path.name for path in made.parent.iterdir()] == [made.name]
    alone = execute(STAGES.get("data")(), {"name": "avatars", "options": options}, {}, tmp_path / "alone", CPU).folder
    assert (made / "data.h5").read_bytes() == (alone / "data.h5").read_bytes()


@pytest.mark.slow
def test_batches_change_numbers_by_rounding_only(tmp_path):
    lines, fine = agreement.table(tmp_path, {way: agreement.WAYS[way] for way in ("batches of 7",)})
    assert fine, lines
