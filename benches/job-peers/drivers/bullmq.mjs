// The driver of BullMQ.
//
// What it is given, and where that is from (its pages "Adding jobs in bulk", "Parallelism and Concurrency" and
// "Auto-removal of jobs"):
//
// - many at once by `addBulk`, all of them in one pipeline;
// - `removeOnComplete: true`: otherwise it keeps all jobs that are done;
// - a `Worker` with as much `concurrency` as the row says, in one process. Where it may choose, a worker with a hundred
//   in a process for each core ("between 100 and 300 is a quite standard setting"; a worker for each CPU), connected before
//   what is timed;
// - `drainDelay` and the check for stalled jobs as by default: it waits five seconds for a job in a blocking pop of a
//   marker, and fetches the job with the script that ends the one before.

import { fork } from "node:child_process";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";

import { Queue, Worker } from "bullmq";

import { run } from "./common.mjs";

const BEST = 100;
const QUEUE = "thumbnail";
const LEFT = ["wait", "active", "delayed", "prioritized", "failed"];

const { hostname: host, port } = new URL(process.env.DATABASE_URL);
const connection = { host, port: Number(port), maxRetriesPerRequest: null };
const lasting = { removeOnComplete: true };

/** Starts a worker. */
const start = async (handler, concurrency, options = {}) => {
  const worker = new Worker(QUEUE, async (job) => handler(job), { connection, concurrency, ...options });
  worker.on("error", (error) => console.error(error));
  await worker.waitUntilReady();
  return worker;
};

/** A process of its own with a worker, which is connected and waits to be told; then it says how many jobs were run. */
const asWorker = async () => {
  let run = 0;
  const tell = () => {
    process.send(run);
    run = 0;
  };
  const count = () => {
    if (run === 0) setTimeout(tell, 1);
    run += 1;
  };
  process.on("disconnect", () => process.exit(0));
  const worker = await start(count, BEST, { autorun: false });
  process.on("message", () => worker.run());
  process.send(0);
};

/** As many of them as there are cores. They end when this process does. */
const forked = () =>
  Promise.all(
    cpus().map(async () => {
      const child = fork(fileURLToPath(import.meta.url), ["worker"], { stdio: ["ignore", "ignore", "inherit", "ipc"] });
      process.on("exit", () => child.kill("SIGKILL"));
      await new Promise((resolve) => child.once("message", resolve));
      return child;
    }),
  );

let queue;
let children = [];

const asDriver = () =>
  run({
    setup: async () => {
      queue = new Queue(QUEUE, { connection });
      await queue.waitUntilReady();
    },
    connect: async () => {
      const [command, , workers] = process.argv.slice(2);
      queue = new Queue(QUEUE, { connection });
      await queue.waitUntilReady();
      if (command === "work" && workers === "best") children = await forked();
    },
    enqueue: (job) => queue.add(QUEUE, job, lasting),
    enqueueMany: (jobs) => queue.addBulk(jobs.map((data) => ({ name: QUEUE, data, opts: lasting }))),
    work: async (workers, handled) => {
      if (workers !== "best") return start(() => handled(1), workers);
      for (const child of children) {
        child.on("message", handled);
        child.send("run");
      }
    },
    isAnyLeft: async () => (await queue.getJobCountByTypes(...LEFT)) > 0,
    consume: (started) => start((job) => started(job.data), 8),
  });

await (process.argv[2] === "worker" ? asWorker() : asDriver());
