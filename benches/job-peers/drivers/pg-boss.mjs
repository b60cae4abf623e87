// The driver of pg-boss.
//
// What it is given, and where that is from (its pages "Workers", "Queues" and "Constructor"):
//
// - many at once by `insert`, a statement for all of them;
// - batches of 500 for a handler (`batchSize`), and the next fetch at once while batches come full
//   (`burstWhenBatchFull`); as many workers as the row says (`localConcurrency`). Where it may choose, two, and batches
//   of 2,000;
// - notifications (`notify`, `useListenNotify`), and beside them a poll every half minute, as by default.
//
// A batch goes to its handler as a whole and is completed by one statement.

import { PgBoss } from "pg-boss";
import pg from "pg";

import { run } from "./common.mjs";

const BEST = { localConcurrency: 2, batchSize: 2_000 };
const QUEUE = "thumbnail";
const options = { batchSize: 500, burstWhenBatchFull: true };

const boss = new PgBoss({ connectionString: process.env.DATABASE_URL, useListenNotify: true });
boss.on("error", (error) => console.error(error));
let store;

await run({
  setup: async () => {
    await boss.start();
    await boss.createQueue(QUEUE, { notify: true });
  },
  connect: async () => {
    await boss.start();
    store = new pg.Pool({ connectionString: process.env.DATABASE_URL });
    await store.query("SELECT 1");
  },
  enqueue: (job) => boss.send(QUEUE, job),
  enqueueMany: (jobs) => boss.insert(QUEUE, jobs.map((data) => ({ data }))),
  work: async (workers, handled) => {
    const chosen = workers === "best" ? BEST : { localConcurrency: workers };
    await boss.work(QUEUE, { ...options, ...chosen }, async (jobs) => handled(jobs.length));
  },
  isAnyLeft: async () => {
    const { rows } = await store.query("SELECT EXISTS(SELECT 1 FROM pgboss.job WHERE state < 'completed') AS any");
    return rows[0].any;
  },
  consume: (started) => boss.work(QUEUE, options, async (jobs) => jobs.forEach((job) => started(job.data))),
});
