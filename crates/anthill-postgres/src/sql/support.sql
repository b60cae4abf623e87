-- What the other functions are made of: the clock, locks, keys and counts.
--
-- Locks are taken in this order, so that nobody waits in a circle:
--
-- 1. of a queue: its row in `rates`, its schedule, and the locks 'running' and 'waiting', where it has such a limit;
-- 2. of its keys (try_key, lock_keys), the smallest number first; a function that needs several takes them all at once;
-- 3. unique keys: rows of `uniques`, in their order;
-- 4. jobs: rows of `jobs`, in the order of their ids.
--
-- Who already has a lock of a later level only tries to get one of an earlier level, and rows behind SKIP LOCKED. So claims and
-- sweeps, which find jobs first, wait for nobody.

-- The clock of all queues, in one place, so that tests can move it.
CREATE FUNCTION anthill.anthill_now() RETURNS timestamptz
LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

-- Makes the time of a queue go on where the clock was set back: it is at least that from now on. Who comes later finds it so.
CREATE FUNCTION anthill.go_on(p_queue int, p_least timestamptz) RETURNS void
LANGUAGE sql VOLATILE AS $$
    UPDATE anthill.queues SET ahead = p_least - anthill.anthill_now()
        WHERE queue = p_queue AND p_least > anthill.anthill_now() + ahead + interval '1 second'
$$;

-- Some microseconds later; 250 years later is never.
CREATE FUNCTION anthill.later(p_time timestamptz, p_micros bigint) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_micros >= 7884000000000000 THEN 'infinity'
        ELSE p_time + p_micros * interval '1 microsecond' END
$$;

-- Makes this transaction wait for the disk, also where transactions do not by default. (A setting of a function ends before the
-- commit.)
CREATE FUNCTION anthill.wait_for_disk() RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END
$$;

-- The channel of NOTIFY; the payload is the queue's number, and who changed it.
CREATE FUNCTION anthill.channel() RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT 'anthill.jobs' $$;

CREATE FUNCTION anthill.lock_number(p_queue int, p_name text) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT hashtextextended('anthill.' || p_name, p_queue::bigint + 7046029254386353131) $$;

-- Locks one key, if nobody has it locked.
CREATE FUNCTION anthill.try_key(p_queue int, p_key text) RETURNS boolean
LANGUAGE sql VOLATILE AS $$
    SELECT pg_try_advisory_xact_lock_shared(anthill.lock_number(p_queue, 'keys'))
        AND pg_try_advisory_xact_lock(anthill.lock_number(p_queue, 'key ' || p_key))
$$;

-- Locks keys. Many of them are locked as all of them, for the server's table of locks is small.
CREATE FUNCTION anthill.lock_keys(p_queue int, p_keys text[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_number bigint;
    v_numbers bigint[];
BEGIN
    v_numbers := ARRAY(SELECT DISTINCT anthill.lock_number(p_queue, 'key ' || each.key) FROM unnest(p_keys) AS each (key)
        WHERE each.key IS NOT NULL ORDER BY 1);
    IF cardinality(v_numbers) > 300 THEN
        PERFORM pg_advisory_xact_lock(anthill.lock_number(p_queue, 'keys'));
        RETURN;
    ELSIF cardinality(v_numbers) > 0 THEN
        PERFORM pg_advisory_xact_lock_shared(anthill.lock_number(p_queue, 'keys'));
    END IF;
    FOREACH v_number IN ARRAY v_numbers LOOP
        PERFORM pg_advisory_xact_lock(v_number);
    END LOOP;
END
$$;

-- Locks the unique keys of jobs (3).
CREATE FUNCTION anthill.lock_uniques(p_queue int, p_ids uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_keys text[];
BEGIN
    v_keys := ARRAY(SELECT j.unique_key FROM anthill.jobs j
        WHERE j.queue = p_queue AND j.id = ANY (p_ids) AND j.unique_key IS NOT NULL);
    IF cardinality(v_keys) > 0 THEN
        PERFORM 1 FROM anthill.uniques u WHERE u.queue = p_queue AND u.key = ANY (v_keys) AND u.id = ANY (p_ids)
            ORDER BY u.key FOR UPDATE;
    END IF;
END
$$;

-- Locks all that a change of these jobs may need, except for their rows.
CREATE FUNCTION anthill.lock_for(p_queue anthill.queues, p_ids uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_queue.most_per_key IS NOT NULL THEN
        PERFORM anthill.lock_keys(p_queue.queue, ARRAY(SELECT j.key FROM anthill.jobs j
            WHERE j.queue = p_queue.queue AND j.id = ANY (p_ids) AND j.key IS NOT NULL));
    END IF;
    PERFORM anthill.lock_uniques(p_queue.queue, p_ids);
END
$$;

-- Frees the unique key of a job that is over. Its row is locked, or has another owner by now.
CREATE FUNCTION anthill.free_unique(p_queue int, p_key text, p_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_key IS NULL THEN
        RETURN;
    END IF;
    DELETE FROM anthill.uniques u WHERE u.queue = p_queue AND u.key = p_key AND u.id = p_id AND u.held AND u.until IS NULL;
    IF NOT FOUND THEN
        UPDATE anthill.uniques u SET held = false WHERE u.queue = p_queue AND u.key = p_key AND u.id = p_id AND u.held;
    END IF;
END
$$;

-- Frees it if nobody has its row locked. Returns whether it is free of the job.
CREATE FUNCTION anthill.try_free_unique(p_queue int, p_key text, p_id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_key IS NULL OR NOT EXISTS (SELECT 1 FROM anthill.uniques u
            WHERE u.queue = p_queue AND u.key = p_key AND u.id = p_id AND u.held) THEN
        RETURN true;
    END IF;
    PERFORM 1 FROM anthill.uniques u WHERE u.queue = p_queue AND u.key = p_key AND u.id = p_id FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM anthill.free_unique(p_queue, p_key, p_id);
    RETURN true;
END
$$;

-- The limit per key. With a limit exactly as many jobs with a key are ready as there is room for beside those that run; the
-- others are parked, and the ready ones go before them.
--
-- This restores that after a step of a job with that key, which is locked. It moves at most so many jobs.
CREATE FUNCTION anthill.balance(p_queue anthill.queues, p_key text, p_most int, OUT moves int, OUT woke boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_running bigint;
    v_ready bigint := 0;
    v_room bigint := p_most;
    v_parked record;
    v_last record;
BEGIN
    moves := 0;
    woke := false;
    IF p_queue.most_per_key IS NOT NULL THEN
        -- In one statement, for a claim may turn ready ones into running ones between two.
        SELECT (SELECT count(*) FROM (SELECT 1 FROM anthill.jobs j WHERE j.queue = p_queue.queue AND j.key = p_key
                    AND j.state = 3 LIMIT p_queue.most_per_key) AS found),
               (SELECT count(*) FROM (SELECT 1 FROM anthill.jobs j WHERE j.queue = p_queue.queue AND j.key = p_key
                    AND j.state = 0 LIMIT p_queue.most_per_key + p_most) AS found)
            INTO v_running, v_ready;
        v_room := greatest(p_queue.most_per_key - v_running, 0);
    END IF;
    IF v_ready > v_room THEN
        UPDATE anthill.jobs j SET state = 2 WHERE j.queue = p_queue.queue AND j.id = ANY (ARRAY(
            SELECT r.id FROM anthill.jobs r WHERE r.queue = p_queue.queue AND r.key = p_key AND r.state = 0
            ORDER BY r.rank DESC, r.turn DESC, r.place DESC LIMIT least(v_ready - v_room, p_most) FOR UPDATE SKIP LOCKED));
        GET DIAGNOSTICS moves = ROW_COUNT;
    ELSIF v_ready < v_room THEN
        UPDATE anthill.jobs j SET state = 0, returned = true WHERE j.queue = p_queue.queue AND j.id = ANY (ARRAY(
            SELECT r.id FROM anthill.jobs r WHERE r.queue = p_queue.queue AND r.key = p_key AND r.state = 2
            ORDER BY r.rank, r.turn, r.place LIMIT least(v_room - v_ready, p_most) FOR UPDATE SKIP LOCKED));
        GET DIAGNOSTICS moves = ROW_COUNT;
        woke := moves > 0;
    END IF;
    WHILE moves < p_most LOOP
        SELECT r.id, r.rank, r.turn, r.place INTO v_parked FROM anthill.jobs r
            WHERE r.queue = p_queue.queue AND r.key = p_key AND r.state = 2 ORDER BY r.rank, r.turn, r.place LIMIT 1;
        EXIT WHEN NOT FOUND;
        SELECT r.id, r.rank, r.turn, r.place INTO v_last FROM anthill.jobs r
            WHERE r.queue = p_queue.queue AND r.key = p_key AND r.state = 0
            ORDER BY r.rank DESC, r.turn DESC, r.place DESC LIMIT 1;
        EXIT WHEN NOT FOUND
            OR (v_parked.rank, v_parked.turn, v_parked.place) > (v_last.rank, v_last.turn, v_last.place);
        PERFORM 1 FROM (SELECT 1 FROM anthill.jobs r WHERE r.queue = p_queue.queue AND r.id IN (v_parked.id, v_last.id)
            AND r.state IN (0, 2) FOR UPDATE SKIP LOCKED) AS locked HAVING count(*) = 2;
        EXIT WHEN NOT FOUND;
        UPDATE anthill.jobs j SET state = CASE WHEN j.id = v_parked.id THEN 0 ELSE 2 END, returned = (j.id = v_parked.id)
            WHERE j.queue = p_queue.queue AND j.id IN (v_parked.id, v_last.id);
        moves := moves + 1;
        woke := true;
    END LOOP;
END
$$;

-- Balances keys that are locked. Returns whether a parked job is ready.
CREATE FUNCTION anthill.balance_keys(p_queue anthill.queues, p_keys text[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_key text;
    v_woke boolean := false;
    v_balanced record;
BEGIN
    IF p_queue.most_per_key IS NULL THEN
        RETURN false;
    END IF;
    FOR v_key IN SELECT DISTINCT each.key FROM unnest(p_keys) AS each (key) WHERE each.key IS NOT NULL LOOP
        -- By itself: `… OR v_woke` would not be called once that is known.
        SELECT b.* INTO v_balanced FROM anthill.balance(p_queue, v_key, 500) b;
        v_woke := v_woke OR v_balanced.woke;
    END LOOP;
    RETURN v_woke;
END
$$;

-- Adds an error to those of earlier attempts. The last ten are kept.
CREATE FUNCTION anthill.with_error(p_errors jsonb, p_attempt bigint, p_error text, p_now timestamptz) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_errors IS NULL THEN '[]'::jsonb WHEN jsonb_array_length(p_errors) >= 10 THEN p_errors - 0
        ELSE p_errors END || jsonb_build_array(jsonb_build_object('attempt', p_attempt, 'error', p_error, 'at', p_now))
$$;

-- Makes one row of many in `counts`.
CREATE FUNCTION anthill.sum_counts(p_queue int) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    WITH few AS (
        DELETE FROM anthill.counts c WHERE c.ctid = ANY (ARRAY(
            SELECT s.ctid FROM anthill.counts s WHERE s.queue = p_queue LIMIT 10000 FOR UPDATE SKIP LOCKED))
        RETURNING c.*)
    INSERT INTO anthill.counts
        SELECT p_queue, sum(s.gone), sum(s.duplicates), sum(s.done), sum(s.retried), sum(s.died), sum(s.lost_leases),
            sum(s.expired), sum(s.removed) FROM few s HAVING count(*) > 0;
END
$$;

-- A new id (UUID version 7): ids that are made one after the other are near each other in the index.
CREATE FUNCTION anthill.new_id() RETURNS uuid
LANGUAGE sql VOLATILE AS $$
    SELECT encode(set_byte(overlay(uuid_send(gen_random_uuid())
            PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
        6, (get_byte(uuid_send(gen_random_uuid()), 6) & 15) | 112), 'hex')::uuid
$$;
