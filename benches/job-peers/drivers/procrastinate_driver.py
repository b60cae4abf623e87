"""The driver of procrastinate. What a driver is told, and what it answers, stands in `src/lib.rs`.

What it is given, and where that is from (its pages "Concurrency", "Deletion" and "Batch defer"):

- many at once by `batch_defer_async`, a statement for all of them;
- `concurrency` as the row says, 10 where it may choose; a pool with a connection for each, and for the worker itself;
- `delete_jobs="always"`, one row and its events less to keep for each job;
- psycopg with its own C code (`psycopg[binary]`);
- notifications, and beside them a poll every five seconds, as by default.

It fetches one job for a statement, and completes one for a statement.
"""

import asyncio
import logging
import os
import random
import sys
import time

import procrastinate

from common import batches, payload, ready, started, took

BEST = 10

logging.disable(logging.WARNING)


def make_app(connections: int) -> procrastinate.App:
    connector = procrastinate.PsycopgConnector(
        conninfo=os.environ["DATABASE_URL"], min_size=connections, max_size=connections
    )
    return procrastinate.App(connector=connector)


async def setup() -> None:
    app = make_app(1)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


def produces(app: procrastinate.App) -> procrastinate.tasks.Task:
    @app.task(name="thumbnail")
    async def thumbnail(path: str, width: int, sent: int) -> None:
        pass

    return thumbnail


async def enqueue(jobs: int, is_batch: bool) -> None:
    app = make_app(1)
    task = produces(app)
    async with app.open_async():
        begun = time.perf_counter()
        if is_batch:
            for numbers in batches(jobs):
                await task.batch_defer_async(*(payload(number) for number in numbers))
        else:
            for number in range(jobs):
                await task.defer_async(**payload(number))
        took(begun)


async def work(jobs: int, workers: int) -> None:
    app = make_app(workers + 2)
    run = 0
    all_run = asyncio.Event()

    @app.task(name="thumbnail")
    async def thumbnail(path: str, width: int, sent: int) -> None:
        nonlocal run
        run += 1
        if run == jobs:
            all_run.set()

    left = "SELECT EXISTS(SELECT 1 FROM procrastinate_jobs WHERE status IN ('todo', 'doing')) AS any"
    async with app.open_async():
        begun = time.perf_counter()
        worker = asyncio.create_task(
            app.run_worker_async(
                concurrency=workers, delete_jobs="always", install_signal_handlers=False
            )
        )
        await all_run.wait()
        while (await app.connector.execute_query_one_async(left))["any"]:
            await asyncio.sleep(0.001)
        assert not worker.done(), "the worker goes on"
        took(begun)


async def consume() -> None:
    app = make_app(10)

    @app.task(name="thumbnail")
    async def thumbnail(path: str, width: int, sent: int) -> None:
        started(sent)

    async with app.open_async():
        ready()
        await app.run_worker_async(
            concurrency=8, delete_jobs="always", install_signal_handlers=False
        )


async def produce(jobs: int, milliseconds: float) -> None:
    app = make_app(1)
    task = produces(app)
    async with app.open_async():
        for number in range(jobs):
            await asyncio.sleep(milliseconds / 1000 * (0.5 + random.random()))
            await task.defer_async(**payload(number))


match sys.argv[1:]:
    case ["setup"]:
        asyncio.run(setup())
    case ["enqueue", jobs, kind]:
        asyncio.run(enqueue(int(jobs), kind == "batch"))
    case ["work", jobs, workers]:
        asyncio.run(work(int(jobs), BEST if workers == "best" else int(workers)))
    case ["consume"]:
        asyncio.run(consume())
    case ["produce", jobs, milliseconds]:
        asyncio.run(produce(int(jobs), float(milliseconds)))
    case words:
        sys.exit(f"no such command: {' '.join(words)}")
