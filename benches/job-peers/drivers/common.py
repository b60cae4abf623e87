"""What a driver is told, and what it answers; the rules stand in `src/lib.rs`."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

BATCH = 100


def payload(number: int) -> dict:
    return {
        "path": f"/srv/pictures/2026/11/26/DSC_{number:07}.JPG",
        "width": 320,
        "sent": time.monotonic_ns(),
    }


def batches(jobs: int):
    """The numbers of the jobs, a batch at a time."""
    return (range(first, min(jobs, first + BATCH)) for first in range(0, jobs, BATCH))


def took(begun: float) -> None:
    print(f"took {time.perf_counter() - begun}", flush=True)
    os._exit(0)


def started(sent: int) -> None:
    """As a job of `consume` starts. In one write, as several threads may tell at once."""
    sys.stdout.write(f"latency {time.monotonic_ns() - sent}\n")
    sys.stdout.flush()


def _answer() -> None:
    for _ in sys.stdin:
        print("statements -", flush=True)
    os._exit(0)


def ready() -> None:
    """Answers the harness, until it closes the standard input; then ends the process."""
    print("ready", flush=True)
    threading.Thread(target=_answer, daemon=True).start()


class Processes:
    """Processes that run jobs, as many as `count`, connected and held until `run`. They end when this one does.

    Each calls `connect(ran)`, where `ran()` is to be called as a job is run; what that returns is called by `run`.
    """

    def __init__(self, count: int, connect: Callable[[Callable[[], None]], Callable[[], None]]):
        fork = multiprocessing.get_context("fork")
        self._jobs = fork.Value("q", 0)
        self._held = fork.Barrier(count + 1)
        self._all = [fork.Process(target=self._work, args=(connect,)) for _ in range(count)]
        for process in self._all:
            process.start()

    def _work(self, connect) -> None:
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        work = connect(self._ran)
        self._held.wait()
        work()

    def _ran(self) -> None:
        with self._jobs.get_lock():
            self._jobs.value += 1

    def run(self, jobs: int, is_any_left: Callable[[], bool]) -> None:
        """Runs so many jobs, until the store has none that is not done."""
        self._held.wait()
        begun = time.perf_counter()
        while self._jobs.value < jobs or is_any_left():
            assert all(process.is_alive() for process in self._all), "the workers go on"
            time.sleep(0.001)
        took(begun)
