# SPDX-License-Identifier: Apache-2.0
"""Processes that do the work of a sweep: on this machine, or on a Dask cluster.

Both do the jobs of `hwgen.jobs` in any order, do a job again whose worker was lost, and give up a job
that takes its workers with it.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import multiprocessing
import os
import signal
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from designs.errors import DesignError
from hwgen import jobs
from sim.errors import ToolError

if TYPE_CHECKING:
    import distributed

__all__ = ["LocalWorkers", "Workers", "cores", "open_workers"]

LIVES = 3
"""Workers that a job may lose."""

QUEUES = {"slurm": "SLURMCluster", "lsf": "LSFCluster"}
"""What dask-jobqueue has for each batch system."""

PATIENCE = 10.0
"""Seconds for a scheduler to answer."""

QUEUED = 600.0
"""Seconds for the first worker of a batch system to start; of a scheduler that runs, a tenth of it."""

Job = Mapping[str, Any]
Result = dict[str, Any]


class Workers(Protocol):
    """Whoever does jobs."""

    @property
    def name(self) -> str:
        """What it is, for people."""
        ...

    def run(self, work: Sequence[Job]) -> Iterator[tuple[int, Result]]:
        """Do jobs; the index and the result of each, as they are done."""
        ...


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def open_workers(
    scheduler: str | None, count: int | None
) -> AbstractContextManager[LocalWorkers | DaskWorkers]:
    """Workers of this machine, or of a cluster.

    Parameters
    ----------
    scheduler : address of a Dask scheduler (``tcp://host:8786``), or ``slurm`` or ``lsf``; None: this machine.
    count : processes, or jobs of Slurm or LSF; None: as many as there are processors.

    Raises
    ------
    DesignError
        If the scheduler is not an address, or workers of a running cluster are counted.
    ToolError
        If there is no such scheduler, or what is needed for it.
    """
    if scheduler is None:
        return LocalWorkers(count or cores())
    if scheduler not in QUEUES and not scheduler.startswith(("tcp://", "tls://", "ucx://")):
        raise DesignError(
            f"--scheduler {scheduler} is not an address like tcp://host:8786, and none of {', '.join(QUEUES)}"
        )
    if scheduler not in QUEUES and count is not None:
        raise DesignError(f"--workers is of this machine and of queues; {scheduler} has its own")
    return DaskWorkers(scheduler, count or 1)


# This machine.


@dataclass
class _Worker:
    """A process, our end of its pipe, and what it is at work on."""

    process: SpawnProcess
    pipe: Connection
    job: int | None = None


class LocalWorkers(AbstractContextManager["LocalWorkers"]):
    """Processes of this machine; they end with whoever started them.

    Parameters
    ----------
    count : int
        Processes.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._context = multiprocessing.get_context("spawn")
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []

    @property
    def name(self) -> str:
        return f"{self._count} process{'es' if self._count > 1 else ''}"

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [w.process.pid or 0 for w in (*self._idle, *self._busy)]

    def run(self, work: Sequence[Job]) -> Iterator[tuple[int, Result]]:
        """Do jobs; the index and the result of each, as they are done."""
        waiting, lost = deque(range(len(work))), [0] * len(work)
        while waiting or self._busy:
            while waiting and len(self._busy) < self._count:
                self._give(waiting.popleft(), work)
            ready = wait([w.pipe for w in self._busy])
            for worker in [w for w in self._busy if w.pipe in ready]:
                self._busy.remove(worker)
                index = worker.job
                assert index is not None
                try:
                    result = worker.pipe.recv()
                except (EOFError, OSError):
                    _end(worker)
                    lost[index] += 1
                    if lost[index] < LIVES:
                        waiting.appendleft(index)
                        continue
                    result = _gave_up()
                else:
                    self._idle.append(worker)
                yield index, result

    def _give(self, index: int, work: Sequence[Job]) -> None:
        """Give a job to a worker that waits, or to a new one."""
        while True:
            worker = self._idle.pop() if self._idle else self._start()
            worker.job = index
            try:
                worker.pipe.send(dict(work[index]))
            except OSError:  # it died while it waited
                _end(worker)
                continue
            self._busy.append(worker)
            return

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, os.getpid()), daemon=False)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def __exit__(self, *error: object) -> None:
        for worker in (*self._busy, *self._idle):
            _end(worker)
        self._busy, self._idle = [], []


def _end(worker: _Worker) -> None:
    """End a worker, which ends what it started."""
    worker.pipe.close()
    worker.process.terminate()
    worker.process.join(5)
    worker.process.kill()
    worker.process.join()


def _work(pipe: Connection, master: int) -> None:
    """Do jobs until nobody gives any, or the master is dead: a job is then broken off, and tidied up behind."""
    warnings.simplefilter("ignore")  # as the command does; of Python, for developers
    os.setsid()  # a Ctrl-C is the master's, who ends its workers
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError, KeyboardInterrupt):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        while os.getppid() == master:
            pipe.send(jobs.run(pipe.recv()))


_PR_SET_PDEATHSIG = 1
"""Of Linux: a signal that a process gets when its parent ends."""


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _gave_up() -> Result:
    return {"failed": f"{LIVES} workers died over it (killed, or out of memory)"}


# A cluster.


class DaskWorkers(AbstractContextManager["DaskWorkers"]):
    """Workers of a Dask scheduler, or jobs of a batch system that become such workers.

    Parameters
    ----------
    scheduler : str
        An address, or a name of `QUEUES`.
    count : int
        Jobs of the batch system.

    Raises
    ------
    ToolError
        If nobody answers, there is no worker, or a package or a program is missing.
    """

    def __init__(self, scheduler: str, count: int) -> None:
        self._scheduler = scheduler
        self._stack = ExitStack()
        with self._stack:
            self._client = self._connect(count)
            self._check()
            self._open = self._stack.pop_all()

    @property
    def name(self) -> str:
        workers = len(self._client.scheduler_info(n_workers=-1)["workers"])
        return f"{self._scheduler}, {workers} worker{'s' if workers != 1 else ''}"

    def _connect(self, count: int) -> distributed.Client:
        try:
            import distributed
        except ModuleNotFoundError as error:
            raise ToolError(
                f"--scheduler needs the package {error.name}: pip install 'hwgen[cluster]'"
            ) from None
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # it would talk into our lines
        target: Any = self._scheduler
        if self._scheduler in QUEUES:
            target = self._stack.enter_context(_queue(self._scheduler))
            target.scale(jobs=count)
        try:
            return self._stack.enter_context(
                distributed.Client(target, timeout=PATIENCE, set_as_default=False)
            )
        except (OSError, TimeoutError, ValueError) as error:
            raise ToolError(
                f"--scheduler {self._scheduler}: no Dask scheduler answers there within {PATIENCE:g} s "
                f"({type(error).__name__}); start one by `dask scheduler`"
            ) from None

    def _check(self) -> None:
        """There is a worker, and all workers compute what we do."""
        patience = QUEUED if self._scheduler in QUEUES else QUEUED / 10
        try:
            self._client.wait_for_workers(1, timeout=patience)
        except TimeoutError:
            raise ToolError(
                f"--scheduler {self._scheduler} has no worker after {patience:g} s; start one by `dask worker ADDRESS`"
            ) from None
        ours = jobs.sources()
        try:
            theirs: Any = self._client.run(jobs.sources)
        except ModuleNotFoundError as error:
            raise ToolError(
                f"a worker of {self._scheduler} lacks the package {error.name}: install the same hwgen there"
            ) from None
        other = [where for where, digest in theirs.items() if digest != ours]
        if other:
            raise ToolError(
                f"{other[0]}, a worker of {self._scheduler}, has another version of hwgen: install the same there"
            )

    def run(self, work: Sequence[Job]) -> Iterator[tuple[int, Result]]:
        """Do jobs; the index and the result of each, as they are done."""
        import distributed

        futures = {
            self._client.submit(jobs.run, dict(job), pure=False): index
            for index, job in enumerate(work)
        }
        for future in distributed.as_completed(futures, loop=self._client.loop):
            if future.status == "finished":
                yield futures[future], future.result()
            elif isinstance(future.exception(), distributed.KilledWorker):
                yield futures[future], _gave_up()
            else:
                raise ToolError(
                    f"the connection to {self._scheduler} is lost ({future.status}); what is finished is kept: "
                    "the same command goes on"
                )

    def __exit__(self, *error: object) -> None:
        self._open.close()


def _queue(name: str) -> Any:
    """A cluster of a batch system, as ``~/.config/dask/jobqueue.yaml`` describes it."""
    try:
        jobqueue = importlib.import_module("dask_jobqueue")
    except ModuleNotFoundError as error:
        raise ToolError(
            f"--scheduler {name} needs the package {error.name}: pip install 'hwgen[cluster]'"
        ) from None
    try:
        return getattr(jobqueue, QUEUES[name])()
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ToolError(
            f"--scheduler {name}: {reason} (jobqueue.{name} in ~/.config/dask/jobqueue.yaml)"
        ) from None
