"""The driver of dramatiq on Redis. What a driver is told, and what it answers, stands in `src/lib.rs`.

What it is given, and where that is from (its pages "User Guide" and "API Reference"):

- many at once by `group(..).run()`, its own call for many, which sends one request for each;
- `RedisBroker`, and a `Worker` with as many threads as the row says; where it may choose, as its command has it by
  default: a process for each core with eight threads, connected before what is timed;
- `dramatiq_queue_prefetch=500`, so that it fetches as many messages as the others, and 2,000 where it may choose: by
  default it takes twice as many as it has threads, and sleeps some milliseconds whenever it has them;
- no results, as by default;
- redis-py with its own C parser (`hiredis`).

Nobody wakes it: it polls, and waits longer the longer it found nothing, up to a second. There is no lease for a message,
but a heartbeat of the process, a minute long.
"""

import logging
import os
import random
import sys
import threading
import time

# It reads this as it is imported.
os.environ["dramatiq_queue_prefetch"] = "2000" if sys.argv[-1] == "best" else "500"

import dramatiq
from dramatiq.brokers.redis import RedisBroker

import common

BEST_THREADS = 8
MESSAGES = "dramatiq:default.msgs"

logging.disable(logging.WARNING)


def make_broker() -> RedisBroker:
    broker = RedisBroker(url=os.environ["DATABASE_URL"])
    dramatiq.set_broker(broker)
    return broker


def make_actor(broker: RedisBroker, handled) -> dramatiq.Actor:
    @dramatiq.actor(broker=broker, actor_name="thumbnail")
    def thumbnail(path: str, width: int, sent: int) -> None:
        handled(sent)

    # It learns about the server with its first request.
    broker.do_qsize("default")
    return thumbnail


def enqueue(jobs: int, is_batch: bool) -> None:
    broker = make_broker()
    actor = make_actor(broker, None)
    begun = time.perf_counter()
    if is_batch:
        for numbers in common.batches(jobs):
            messages = [actor.message(**common.payload(number)) for number in numbers]
            dramatiq.group(messages, broker=broker).run()
    else:
        for number in range(jobs):
            actor.send(**common.payload(number))
    common.took(begun)


def work(jobs: int, processes: int, threads: int) -> None:
    def connect(ran):
        broker = make_broker()
        make_actor(broker, lambda _: ran())

        def run() -> None:
            dramatiq.Worker(broker, worker_threads=threads).start()
            threading.Event().wait()

        return run

    fleet = common.Processes(processes, connect)
    store = make_broker().client
    store.ping()
    fleet.run(jobs, lambda: store.hlen(MESSAGES) > 0)


def consume() -> None:
    broker = make_broker()
    make_actor(broker, common.started)
    dramatiq.Worker(broker, worker_threads=BEST_THREADS).start()
    common.ready()
    threading.Event().wait()


def produce(jobs: int, milliseconds: float) -> None:
    actor = make_actor(make_broker(), None)
    for number in range(jobs):
        time.sleep(milliseconds / 1000 * (0.5 + random.random()))
        actor.send(**common.payload(number))


match sys.argv[1:]:
    case ["setup"]:
        pass
    case ["enqueue", jobs, kind]:
        enqueue(int(jobs), kind == "batch")
    case ["work", jobs, "best"]:
        work(int(jobs), os.cpu_count(), BEST_THREADS)
    case ["work", jobs, threads]:
        work(int(jobs), 1, int(threads))
    case ["consume"]:
        consume()
    case ["produce", jobs, milliseconds]:
        produce(int(jobs), float(milliseconds))
    case words:
        sys.exit(f"no such command: {' '.join(words)}")
