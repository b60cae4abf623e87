-- The tables of the queues, version 1. Everything is in the schema `anthill`, or in the one that the program names instead.
--
-- Anybody may read them; only the functions of this schema may change them, because what follows from a change (a unique
-- key that is free, a parked job that has room) is in those. Times are of the server's clock, see anthill_now().

CREATE TABLE anthill.versions (
    version int PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    identity uuid NOT NULL DEFAULT gen_random_uuid()
);

-- One row for each queue, which operators change, and nobody else: no job of a queue without limits waits for another one.
CREATE TABLE anthill.queues (
    queue int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    paused boolean NOT NULL DEFAULT false,
    most_running bigint,
    most_per_key bigint,
    rate_jobs bigint,
    rate_per bigint,                        -- nanoseconds
    rate_burst bigint,
    most_ready bigint,
    keep_done bigint,                       -- microseconds
    keep_dead bigint,                       -- microseconds
    ahead interval NOT NULL DEFAULT '0',    -- by how much the queue's time is ahead of a clock that was set back
    unpark text COLLATE "C"                 -- the limit per key was changed: keys from here on must be balanced
);

-- Only for queues with a rate limit, whose claims wait for each other here.
CREATE TABLE anthill.rates (
    queue int PRIMARY KEY,
    kept numeric NOT NULL,                  -- nanoseconds since 1970: up to when jobs have been granted
    behind boolean NOT NULL                 -- ready jobs were left when no more were granted
);

-- How far jobs have come. A job's tuple is written when it is enqueued, claimed and settled; what most jobs lack is at the
-- end, where it takes no room.
--
-- Vacuum: each job leaves two dead tuples, so a fixed share of a large table would be too late. It does not truncate the
-- table, which would lock out everybody, only for the file to grow again.
CREATE TABLE anthill.jobs (
    id uuid NOT NULL,
    turn timestamptz NOT NULL,              -- the order within a rank: when it was enqueued, or is due; or when it was over
    place bigint NOT NULL,                  -- the order within a turn
    due timestamptz NOT NULL,               -- when it is ready, or since when
    enqueued timestamptz NOT NULL,
    attempt bigint NOT NULL DEFAULT 0,
    attempts bigint NOT NULL,
    queue int NOT NULL,
    rank int NOT NULL,                      -- the negative of the priority
    state smallint NOT NULL,                -- 0 ready, 1 delayed, 2 parked, 3 running, 4 dead, 5 done
    returned boolean NOT NULL DEFAULT false, -- it is ready again, in an old place
    keeps_place boolean NOT NULL DEFAULT false, -- it is delayed, and goes to its old place when it is due
    together boolean NOT NULL DEFAULT false, -- the newest claim was one of several jobs
    suspect boolean NOT NULL DEFAULT false, -- it lost a lease, and no attempt since has reported its end
    cancel_requested boolean NOT NULL DEFAULT false,
    kind text COLLATE "C" NOT NULL,
    payload bytea NOT NULL,                 -- JSON
    claim uuid,                             -- of the newest claim, which alone may settle the job
    ends timestamptz,                       -- the end of its lease
    consumer text,
    key text COLLATE "C",
    unique_key text COLLATE "C",            -- which it has until it is over
    expires timestamptz,
    keep bigint,                            -- microseconds: how long to keep the result
    until timestamptz,                      -- the end of that
    ended timestamptz,                      -- when it was over
    headers jsonb,
    errors jsonb,                           -- the last ten: attempt, error, at
    progress bytea,                         -- JSON
    result bytea,                           -- JSON
    -- In this order, so that no plan takes this index for the jobs of a queue.
    PRIMARY KEY (id, queue)
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.2,
    autovacuum_analyze_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false
);

-- An index for each state, so that a step costs the same whatever else is stored.
CREATE INDEX jobs_ready ON anthill.jobs (queue, kind, rank, turn, place) WHERE state = 0 AND NOT returned;
CREATE INDEX jobs_returned ON anthill.jobs (queue, kind, rank, turn, place) WHERE state = 0 AND returned;
CREATE INDEX jobs_ready_key ON anthill.jobs (queue, key, rank, turn, place) WHERE state = 0 AND key IS NOT NULL;
CREATE INDEX jobs_delayed ON anthill.jobs (queue, due, place) WHERE state = 1;
CREATE INDEX jobs_parked ON anthill.jobs (queue, key, rank, turn, place) WHERE state = 2;
CREATE INDEX jobs_running ON anthill.jobs (queue, ends) WHERE state = 3;
CREATE INDEX jobs_running_key ON anthill.jobs (queue, key) WHERE state = 3 AND key IS NOT NULL;
CREATE INDEX jobs_dead ON anthill.jobs (queue, turn, place) WHERE state = 4;
CREATE INDEX jobs_done ON anthill.jobs (queue, turn, place) WHERE state = 5;
CREATE INDEX jobs_kept ON anthill.jobs (queue, until) WHERE state = 5 AND until IS NOT NULL;
CREATE INDEX jobs_done_plain ON anthill.jobs (queue, turn, place) WHERE state = 5 AND until IS NULL;
CREATE INDEX jobs_expires ON anthill.jobs (queue, expires) WHERE state < 3 AND expires IS NOT NULL;

CREATE SEQUENCE anthill.places CACHE 1;

CREATE TABLE anthill.uniques (
    queue int NOT NULL,
    key text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    held boolean NOT NULL,                  -- until the job is over
    until timestamptz,                      -- and not before then
    PRIMARY KEY (queue, key)
);
CREATE INDEX uniques_until ON anthill.uniques (queue, until) WHERE until IS NOT NULL;

-- What was counted, as a row for each call, so that no call waits for another one. The sum is what counts; now and then a
-- settlement makes one row of many.
CREATE TABLE anthill.counts (
    queue int NOT NULL,
    gone bigint NOT NULL DEFAULT 0,         -- jobs of which there is no row any more
    duplicates bigint NOT NULL DEFAULT 0,
    done bigint NOT NULL DEFAULT 0,
    retried bigint NOT NULL DEFAULT 0,
    died bigint NOT NULL DEFAULT 0,
    lost_leases bigint NOT NULL DEFAULT 0,
    expired bigint NOT NULL DEFAULT 0,
    removed bigint NOT NULL DEFAULT 0
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, vacuum_truncate = false);

CREATE TABLE anthill.schedules (
    queue int NOT NULL,
    name text COLLATE "C" NOT NULL,
    cron text NOT NULL,
    kind text COLLATE "C" NOT NULL,
    payload bytea NOT NULL,
    next bigint NOT NULL,                   -- seconds since 1970
    missed smallint NOT NULL,               -- what to do about missed times: 0 once, 1 all, 2 skip
    PRIMARY KEY (queue, name)
);

CREATE TABLE anthill.consumers (
    queue int NOT NULL,
    id text COLLATE "C" NOT NULL,
    kinds text[] NOT NULL,
    workers bigint NOT NULL,
    running bigint NOT NULL,
    started timestamptz NOT NULL,
    seen timestamptz NOT NULL,
    until timestamptz NOT NULL,             -- when it is taken for gone
    PRIMARY KEY (queue, id)
);
