"""The driver of rq. What a driver is told, and what it answers, stands in `src/lib.rs`.

What it is given, and where that is from (its pages "Queues", "Workers" and "Results"):

- many at once by `enqueue_many`, which sends all of them in one pipeline;
- `SimpleWorker`, which runs a job in its own process and forks none for it ("Performance Notes": most of the time of a
  short job is the fork); a worker runs one job at a time, so N workers are N processes, as its `WorkerPool` has them,
  connected before what is timed, and as many as the machine has cores where it may choose;
- `result_ttl=0`: a job that succeeded is deleted and its result is not kept;
- redis-py with its own C parser (`hiredis`).

It fetches a job by moving its id into another list (`BLMOVE`), and waits there for one. There is no lease: a job of a
worker that died is found by the maintenance of another one, which runs each ten minutes, and has failed then.
"""

import logging
import os
import random
import sys
import time

from redis import Redis
from rq import Queue, SimpleWorker
from rq.intermediate_queue import IntermediateQueue
from rq.registry import StartedJobRegistry

import common

# A worker imports the module of a job by its name.
sys.modules["rq_driver"] = sys.modules[__name__]
QUEUE = "thumbnail"

logging.disable(logging.WARNING)

ran = None


def count(path: str, width: int, sent: int) -> None:
    """Counts, in `work`."""
    ran()


def tell(path: str, width: int, sent: int) -> None:
    """Tells the latency, in `consume`."""
    common.started(sent)


def make_queue() -> Queue:
    queue = Queue(QUEUE, connection=Redis.from_url(os.environ["DATABASE_URL"]))
    queue.connection.ping()
    return queue


def enqueue(jobs: int, is_batch: bool) -> None:
    queue = make_queue()
    begun = time.perf_counter()
    if is_batch:
        for numbers in common.batches(jobs):
            queue.enqueue_many(
                Queue.prepare_data("rq_driver.count", kwargs=common.payload(number), result_ttl=0)
                for number in numbers
            )
    else:
        for number in range(jobs):
            queue.enqueue("rq_driver.count", kwargs=common.payload(number), result_ttl=0)
    common.took(begun)


def work(jobs: int, workers: int) -> None:
    def connect(counted):
        global ran
        ran = counted
        queue = make_queue()
        worker = SimpleWorker([queue], connection=queue.connection)
        return lambda: worker.work(logging_level="ERROR")

    processes = common.Processes(workers, connect)
    queue = make_queue()
    taken = IntermediateQueue(queue.key, queue.connection)
    running = StartedJobRegistry(queue=queue)

    def is_any_left() -> bool:
        with queue.connection.pipeline() as pipeline:
            pipeline.llen(queue.key).llen(taken.key).zcard(running.key)
            return any(pipeline.execute())

    processes.run(jobs, is_any_left)


def consume() -> None:
    queue = make_queue()
    worker = SimpleWorker([queue], connection=queue.connection)
    common.ready()
    worker.work(logging_level="ERROR")


def produce(jobs: int, milliseconds: float) -> None:
    queue = make_queue()
    for number in range(jobs):
        time.sleep(milliseconds / 1000 * (0.5 + random.random()))
        queue.enqueue("rq_driver.tell", kwargs=common.payload(number), result_ttl=0)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["setup"]:
            pass
        case ["enqueue", jobs, kind]:
            enqueue(int(jobs), kind == "batch")
        case ["work", jobs, "best"]:
            work(int(jobs), os.cpu_count())
        case ["work", jobs, workers]:
            work(int(jobs), int(workers))
        case ["consume"]:
            consume()
        case ["produce", jobs, milliseconds]:
            produce(int(jobs), float(milliseconds))
        case words:
            sys.exit(f"no such command: {' '.join(words)}")
