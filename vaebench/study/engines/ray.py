"""Stages as tasks of a Ray cluster (extra ``vaebench[ray]``).

Ray finds a node with the cores, GPUs and memory that a stage takes. The nodes see the study's folder, or inputs and
results are copied (`vaebench.study.engines.copying`). A stage whose worker or node is lost is started again by the
study and goes on from its last checkpoint, wherever it lands; in a shared folder the lock of the lost one is taken over
once its heartbeat has stopped. When the process that runs the study dies, Ray ends its tasks, and the same command goes
on.
"""

import os
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vaebench.core.errors import ConfigError, VaebenchError, import_optional
from vaebench.core.packing import pack
from vaebench.study.engines.job import Job, Needs, Outcome, carry_out
from vaebench.study.engines.together import carry_out_together

# Tasks handed to Ray at a time; it queues them, and a study may have many more.
IN_FLIGHT = 256
# Packed inputs that stay in Ray's memory for further tasks; one that is needed again later is packed again.
INPUTS_KEPT = 16


@dataclass(frozen=True)
class Share:
    """What a process of a stage takes unless its kind takes something else: cores, GPUs, bytes (None: no bound)."""

    threads: int
    gpus: float
    memory: int | None

    def of(self, job: Job, any_gpu: bool) -> dict[str, Any]:
        """What Ray shall set aside for a job."""
        gpus = self.gpus if job.gpus is None else job.gpus
        memory = self.memory if job.memory is None else job.memory
        return {
            "num_cpus": (job.threads or self.threads) * job.processes,
            "num_gpus": gpus * job.processes if job.accelerated and any_gpu else 0,
            "memory": None if memory is None else memory * job.processes,
        }


class RayEngine:
    """Carries out jobs as Ray tasks.

    Args:
        ray: the module, connected to a cluster.
        share: what a job takes.
        any_gpu: whether the cluster has GPUs.
        copied: send inputs and results through the object store.
    """

    name = "ray"

    def __init__(self, ray: Any, share: Share, any_gpu: bool, copied: bool = False) -> None:
        self._ray, self._share, self._any_gpu = ray, share, any_gpu
        # Retries are the study's, which knows a user's mistake from a lost node and waits between them.
        self._task = ray.remote(max_retries=0)(carry_out_copied if copied else carry_out_plain)
        self._running: dict[Any, Job] = {}
        self._inputs: dict[Path, Any] = {}
        self._keeper = _start_keeper(ray) if copied else None

    @property
    def full(self) -> bool:
        """Whether Ray has enough to choose from."""
        return len(self._running) >= IN_FLIGHT

    def start(self, job: Job) -> bool:
        """Hand the job to Ray, which starts it where there is room; always true."""
        task = self._task.options(name=job.id, **self._share.of(job, self._any_gpu))
        more = () if self._keeper is None else self._travelling(job)
        self._running[task.remote(job.plain(), *more)] = job
        return True

    def _travelling(self, job: Job) -> Sequence[Any]:
        """What else a copied job is given: keeper, seconds between copies, roles, begun work, and the inputs."""
        from vaebench.study.engines.copying import SECONDS_BETWEEN_COPIES, packed_inputs, partial_of

        inputs, partial = packed_inputs(job), partial_of(job)
        begun = self._ray.put(pack(partial)) if partial.exists() else None
        return (
            self._keeper, SECONDS_BETWEEN_COPIES, list(inputs), begun, *(self._packed(p) for p in inputs.values())
        )  # fmt: skip

    def _packed(self, path: Path) -> Any:
        if path not in self._inputs:
            if len(self._inputs) >= INPUTS_KEPT:
                del self._inputs[next(iter(self._inputs))]
            self._inputs[path] = self._ray.put(pack(path))
        return self._inputs[path]

    def wait(self, seconds: float | None = None) -> list[Outcome]:
        """Outcomes of tasks that ended; waits for at least one, or for so many seconds."""
        if not self._running:
            time.sleep(seconds or 0)
            return []
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [self._outcome(reference, self._running.pop(reference)) for reference in ended]

    def stop(self) -> None:
        """End the tasks that run, and the cluster if it was started here."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._ray.shutdown()

    def _outcome(self, reference: Any, job: Job) -> Outcome:
        try:
            told = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            # Worker killed, node lost, out of memory: none of them the stage's own fault.
            first = str(error).strip().splitlines()[0] if str(error).strip() else ""
            return Outcome(job.id, f"{type(error).__name__}: {first}", 1, again=True)
        if self._keeper is None:
            return Outcome(**told)
        from vaebench.study.engines.copying import received

        return received(job, told)


def _start_keeper(ray: Any) -> Any:
    """An actor beside this process, which writes to the study's folder."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from vaebench.study.engines.copying import Keeper

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Keeper).remote()


def _made_here(job: Mapping[str, Any]) -> Job:
    """The job, in a Ray worker: with the modules and the folder of the process that asks."""
    made = Job(**job)
    sys.path += [entry for entry in made.path if entry not in sys.path]
    if Path(made.cwd).is_dir():
        os.chdir(made.cwd)
    return made


def carry_out_plain(job: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out a job in the folder that all nodes see."""
    made = _made_here(job)
    return asdict(carry_out_together(made) if made.processes > 1 else carry_out(made))


def carry_out_copied(
    job: Mapping[str, Any], keeper: Any, every: float, roles: Sequence[str], begun: bytes | None, *inputs: bytes
) -> dict[str, Any]:
    """Carry out a job whose inputs travelled here, and whose result travels back."""
    from vaebench.study.engines.copying import carry_out_elsewhere

    return carry_out_elsewhere(_made_here(job), keeper, every, roles, inputs, begun)


def make_ray_engine(options: Any) -> tuple[RayEngine, int]:
    """Connect to the cluster that the options name, or start one on this machine; the engine and threads a job.

    Raises:
        MissingDependency: ray is not installed.
        VaebenchError: no cluster answers at the address.
        ConfigError: no node of it can ever hold a stage.
    """
    ray = import_optional("ray", "ray")
    ours = options.address is None
    limits = {"num_cpus": options.jobs * (options.threads or 1)} if ours and options.jobs else {}
    # "local": without an address, Ray would join whatever cluster somebody else has started on this machine.
    settings = {"address": "local", "include_dashboard": False, **limits} if ours else {"address": options.address}
    try:
        ray.init(log_to_driver=False, logging_level="warning", **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise VaebenchError(
            f"No Ray cluster answers at '{options.address}': {error}.", "Start one: ray start --head"
        ) from error
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    any_gpu = any(node.get("GPU", 0) for node in nodes)
    gpus = options.gpus if any_gpu else 0.0
    share = Share(options.threads or _share_of_cores(nodes, gpus), gpus, options.memory)
    for wanted in (_wanted(share, needs, any_gpu) for needs in (Needs(), *options.needs.values())):
        if not any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
            ray.shutdown()
            raise ConfigError(f"No node of the Ray cluster has what a stage takes: {wanted}.", "Ask for less.")
    return RayEngine(ray, share, any_gpu, options.copied), share.threads


def _wanted(share: Share, needs: Needs, any_gpu: bool) -> dict[str, float]:
    """What a node must have for a stage with these needs."""
    job = Job("", "", "", {}, {}, "", "", threads=needs.threads, processes=needs.processes or 1, gpus=needs.gpus,
              memory=needs.memory)  # fmt: skip
    asked = share.of(job, any_gpu)
    return {"CPU": asked["num_cpus"], "GPU": asked["num_gpus"], "memory": asked["memory"] or 0}


def _share_of_cores(nodes: Collection[Mapping[str, float]], gpus: float) -> int:
    """Cores a stage takes unless told: those that fall to its GPUs, and one without GPUs."""
    shares = [node["CPU"] * gpus / node["GPU"] for node in nodes if gpus and node.get("GPU") and node.get("CPU")]
    return max(1, int(min(shares))) if shares else 1
