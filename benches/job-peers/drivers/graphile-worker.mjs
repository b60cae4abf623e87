// The driver of graphile-worker.
//
// What it is given, and where that is from (its page "Performance", and the settings of its own benchmark):
//
// - many at once by `addJobs`, a statement for all of them;
// - a local queue of 500, so that jobs are fetched in batches, and completions in batches with no wait between them
//   (`completeJobBatchDelay: 0`); `concurrentJobs` as the row says. Where it may choose, 24, and a local queue of 2,000;
// - prepared statements, as by default; notifications, and beside them a poll every two seconds, as by default.

import { Logger } from "@graphile/logger";
import { WorkerPreset, makeWorkerUtils, run as start } from "graphile-worker";
import pg from "pg";

import { run } from "./common.mjs";

const BEST = 24;
const TASK = "thumbnail";

const silent = new Logger(() => (level, message) => {
  if (level === "error" || level === "warning") console.error(message);
});

const preset = (concurrentJobs, size = 500) => ({
  extends: [WorkerPreset],
  worker: {
    connectionString: process.env.DATABASE_URL,
    concurrentJobs,
    maxPoolSize: Math.max(10, concurrentJobs + 2),
    localQueue: { size },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
    logger: silent,
  },
});

let utils;
let store;

await run({
  setup: async () => {
    utils = await makeWorkerUtils({ connectionString: process.env.DATABASE_URL, logger: silent });
    await utils.migrate();
  },
  connect: async () => {
    utils = await makeWorkerUtils({ connectionString: process.env.DATABASE_URL, logger: silent });
    store = new pg.Pool({ connectionString: process.env.DATABASE_URL });
    await Promise.all([utils.withPgClient((client) => client.query("SELECT 1")), store.query("SELECT 1")]);
  },
  enqueue: (job) => utils.addJob(TASK, job),
  enqueueMany: (jobs) => utils.addJobs(jobs.map((job) => ({ identifier: TASK, payload: job }))),
  work: async (workers, handled) => {
    const taskList = { [TASK]: () => handled(1) };
    await start({ preset: workers === "best" ? preset(BEST, 2_000) : preset(workers), taskList });
  },
  isAnyLeft: async () => {
    const { rows } = await store.query("SELECT EXISTS(SELECT 1 FROM graphile_worker._private_jobs) AS any");
    return rows[0].any;
  },
  consume: (started) => start({ preset: preset(8), taskList: { [TASK]: (job) => started(job) } }),
});
