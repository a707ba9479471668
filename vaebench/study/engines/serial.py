"""One stage after the other, in this process."""

from vaebench.study.engines.job import Job, Outcome, carry_out


class SerialEngine:
    """Carries out one job at a time, when its outcome is waited for."""

    name = "serial"

    def __init__(self) -> None:
        self._job: Job | None = None

    @property
    def full(self) -> bool:
        """Whether a job waits to be carried out."""
        return self._job is not None

    def start(self, job: Job) -> bool:
        """Take the job; always true."""
        self._job = job
        return True

    def wait(self, seconds: float | None = None) -> list[Outcome]:
        """Carry out the job that was started."""
        job, self._job = self._job, None
        return [carry_out(job)] if job is not None else []

    def stop(self) -> None:
        """Nothing runs on."""
