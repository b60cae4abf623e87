// What a driver is told, and what it answers; the rules stand in `src/lib.rs`.

import { createInterface } from "node:readline";

export const BATCH = 100;

/** Nanoseconds of the monotonic clock, which all processes of a host share. A number is exact enough to a microsecond. */
const now = () => Number(process.hrtime.bigint());

/** What each job carries. */
export const payload = (number) => ({
  path: `/srv/pictures/2026/11/26/DSC_${String(number).padStart(7, "0")}.JPG`,
  width: 320,
  sent: now(),
});

/** As a job of `consume` starts. */
export const started = ({ sent }) => console.log(`latency ${now() - sent}`);

/** Answers the harness, until it closes the standard input; then ends the process. */
const ready = () => {
  console.log("ready");
  const lines = createInterface({ input: process.stdin });
  lines.on("line", () => console.log("statements -"));
  lines.on("close", () => process.exit(0));
};

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Counts to `jobs`. */
const counter = (jobs) => {
  let run = 0;
  let resolve;
  const reached = new Promise((done) => (resolve = done));
  const add = (more) => {
    const before = run;
    run += more;
    if (before < jobs && run >= jobs) resolve();
  };
  return { add, reached };
};

const took = (begun) => {
  console.log(`took ${(performance.now() - begun) / 1000}`);
  process.exit(0);
};

/**
 * Does what the command line says with a queue, which is
 *
 * - `setup()`;
 * - `connect()`: for a producer, all that is made before the first enqueue;
 * - `enqueue(payload)`, `enqueueMany(payloads)`;
 * - `work(workers, handled)`: starts them (a number, or "best"); `handled(count)` as jobs were run;
 * - `isAnyLeft()`: whether the store has a job that is not done;
 * - `consume(started)`: starts an idle consumer.
 */
export const run = async (queue) => {
  const [command, ...words] = process.argv.slice(2);
  if (command === "setup") {
    await queue.setup();
    process.exit(0);
  }
  if (command === "enqueue") {
    const jobs = Number(words[0]);
    await queue.connect();
    const begun = performance.now();
    if (words[1] === "batch") {
      for (let first = 0; first < jobs; first += BATCH) {
        const length = Math.min(BATCH, jobs - first);
        await queue.enqueueMany(Array.from({ length }, (_, at) => payload(first + at)));
      }
    } else {
      for (let number = 0; number < jobs; number += 1) await queue.enqueue(payload(number));
    }
    took(begun);
  }
  if (command === "work") {
    const { add, reached } = counter(Number(words[0]));
    await queue.connect();
    const begun = performance.now();
    await queue.work(words[1] === "best" ? "best" : Number(words[1]), add);
    await reached;
    while (await queue.isAnyLeft()) await sleep(1);
    took(begun);
  }
  if (command === "consume") {
    await queue.connect();
    await queue.consume(started);
    ready();
    return;
  }
  if (command === "produce") {
    await queue.connect();
    for (let number = 0; number < Number(words[0]); number += 1) {
      await sleep(Number(words[1]) * (0.5 + Math.random()));
      await queue.enqueue(payload(number));
    }
    process.exit(0);
  }
  console.error(`no such command: ${process.argv.slice(2).join(" ")}`);
  process.exit(2);
};
