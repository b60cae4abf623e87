-- Operations on request: jobs removed, retried, made due or purged; cancel requests; pause, limits and retention.

-- Removes jobs, which are locked for by lock_for, if they are in one of these states, and have that kind and data where such are
-- told. Returns those that were removed, and whether a parked job has room, which is ready then: now, or by a later sweep.
CREATE FUNCTION anthill.remove_jobs(p_queue anthill.queues, p_ids uuid[], p_states int[], p_kinds text[], p_payloads bytea[],
    p_balance boolean, OUT removed uuid[], OUT woke boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_job record;
    v_keys text[] := '{}';
BEGIN
    removed := '{}';
    woke := false;
    FOR v_job IN
        SELECT j.* FROM unnest(p_ids, p_kinds, p_payloads) AS e (id, kind, payload)
        CROSS JOIN LATERAL (
            SELECT h.id, h.key, h.unique_key FROM anthill.jobs h
            WHERE h.queue = p_queue.queue AND h.id = e.id AND h.state + 0 = ANY (p_states)
                AND (e.kind IS NULL OR (h.kind = e.kind AND h.payload = e.payload)) FOR UPDATE) AS j
    LOOP
        PERFORM anthill.free_unique(p_queue.queue, v_job.unique_key, v_job.id);
        DELETE FROM anthill.jobs j WHERE j.queue = p_queue.queue AND j.id = v_job.id;
        removed := removed || v_job.id;
        v_keys := v_keys || v_job.key;
    END LOOP;
    IF p_balance THEN
        woke := anthill.balance_keys(p_queue, v_keys);
    ELSIF p_queue.most_per_key IS NOT NULL AND array_remove(v_keys, NULL) <> '{}' THEN
        UPDATE anthill.queues SET unpark = '' WHERE queue = p_queue.queue;
        woke := true;
    END IF;
    IF cardinality(removed) > 0 THEN
        INSERT INTO anthill.counts (queue, removed, gone)
            VALUES (p_queue.queue, cardinality(removed), cardinality(removed));
    END IF;
END
$$;

-- Removes jobs in one of these states: of all kinds, or those that are unchanged. The ids are in their order.
CREATE FUNCTION anthill.remove(p_queue int, p_ids uuid[], p_states int[], p_kinds text[], p_payloads bytea[],
    OUT removed uuid[], OUT woke boolean)
LANGUAGE plpgsql VOLATILE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    q anthill.queues;
BEGIN
    SELECT * INTO STRICT q FROM anthill.queues WHERE queue = p_queue;
    PERFORM anthill.lock_for(q, p_ids);
    SELECT r.* INTO removed, woke FROM anthill.remove_jobs(q, p_ids, p_states, p_kinds, p_payloads, true) r;
END
$$;

-- The last place that was given: jobs that come later have a higher one.
CREATE FUNCTION anthill.last_place() RETURNS bigint
LANGUAGE sql VOLATILE AS $$ SELECT last_value FROM anthill.places $$;

-- Removes some of the jobs in a state that were there when `p_last` was the last place. Returns how many, whether there may be
-- more, and whether a parked job has room. (Such a job is not ready before the end of the purge, or it would be purged, too.)
CREATE FUNCTION anthill.purge(p_queue int, p_state int, p_last bigint, OUT removed int, OUT more boolean, OUT woke boolean)
LANGUAGE plpgsql VOLATILE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    q anthill.queues;
    v_ids uuid[];
    v_removed uuid[];
BEGIN
    SELECT * INTO STRICT q FROM anthill.queues WHERE queue = p_queue;
    v_ids := ARRAY(SELECT s.id FROM (
        (SELECT j.id FROM anthill.jobs j WHERE p_state = 0 AND j.queue = p_queue AND j.state = 0 AND NOT j.returned
            AND j.place <= p_last LIMIT 1000)
        UNION ALL (SELECT j.id FROM anthill.jobs j WHERE p_state = 0 AND j.queue = p_queue AND j.state = 0 AND j.returned
            AND j.place <= p_last LIMIT 1000)
        UNION ALL (SELECT j.id FROM anthill.jobs j WHERE p_state = 1 AND j.queue = p_queue AND j.state = 1
            AND j.place <= p_last LIMIT 1000)
        UNION ALL (SELECT j.id FROM anthill.jobs j WHERE p_state = 2 AND j.queue = p_queue AND j.state = 2
            AND j.place <= p_last LIMIT 1000)
        UNION ALL (SELECT j.id FROM anthill.jobs j WHERE p_state = 4 AND j.queue = p_queue AND j.state = 4
            AND j.place <= p_last LIMIT 1000)
        UNION ALL (SELECT j.id FROM anthill.jobs j WHERE p_state = 5 AND j.queue = p_queue AND j.state = 5
            AND j.place <= p_last LIMIT 1000)) AS s ORDER BY s.id);
    more := cardinality(v_ids) > 0;
    PERFORM anthill.lock_for(q, v_ids);
    SELECT r.removed, r.woke INTO v_removed, woke FROM anthill.remove_jobs(q, v_ids, ARRAY[p_state], NULL, NULL,
        p_state <> 0) r;
    removed := cardinality(v_removed);
END
$$;

-- Makes a dead job ready, unless another job has its unique key by now.
CREATE FUNCTION anthill.retry_dead(p_queue int, p_id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    q anthill.queues;
    v_now timestamptz;
    v_job record;
    v_owner record;
BEGIN
    SELECT * INTO STRICT q FROM anthill.queues WHERE queue = p_queue;
    PERFORM pg_current_xact_id();
    PERFORM anthill.lock_for(q, ARRAY[p_id]);
    v_now := anthill.anthill_now() + q.ahead;
    SELECT j.key, j.unique_key INTO v_job FROM anthill.jobs j WHERE j.queue = p_queue AND j.id = p_id AND j.state + 0 = 4;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF v_job.unique_key IS NOT NULL THEN
        SELECT t.id INTO v_owner FROM anthill.take_key(p_queue, v_job.unique_key, p_id, true, NULL, NULL, v_now) t;
        IF v_owner.id = p_id THEN
            -- The job's own period holds it.
            UPDATE anthill.uniques u SET held = true WHERE u.queue = p_queue AND u.key = v_job.unique_key AND u.id = p_id;
        ELSIF v_owner.id IS NOT NULL THEN
            RETURN false;
        END IF;
    END IF;
    -- An operator wants it to run, whenever it expired.
    UPDATE anthill.jobs j SET state = CASE WHEN q.most_per_key IS NOT NULL AND j.key IS NOT NULL THEN 2 ELSE 0 END,
            attempt = 0, expires = NULL, due = v_now, turn = v_now, place = nextval('anthill.places'), ended = NULL,
            returned = false
        WHERE j.queue = p_queue AND j.id = p_id AND j.state + 0 = 4;
    IF NOT FOUND THEN
        PERFORM anthill.free_unique(p_queue, v_job.unique_key, p_id);
        RETURN false;
    END IF;
    PERFORM anthill.balance_keys(q, ARRAY[v_job.key]);
    RETURN true;
END
$$;

-- Makes waiting jobs due so long from now. Returns those that waited. The ids are in their order.
CREATE FUNCTION anthill.set_due(p_queue int, p_ids uuid[], p_delay bigint) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    q anthill.queues;
    v_now timestamptz;
    v_job record;
    v_keys text[] := '{}';
    v_set uuid[] := '{}';
BEGIN
    SELECT * INTO STRICT q FROM anthill.queues WHERE queue = p_queue;
    PERFORM pg_current_xact_id();
    PERFORM anthill.lock_for(q, p_ids);
    v_now := anthill.anthill_now() + q.ahead;
    FOR v_job IN
        SELECT j.* FROM unnest(p_ids) AS e (id)
        CROSS JOIN LATERAL (
            SELECT h.id, h.key, h.state, h.keeps_place FROM anthill.jobs h
            WHERE h.queue = p_queue AND h.id = e.id AND h.state + 0 < 3 FOR UPDATE) AS j
    LOOP
        v_set := v_set || v_job.id;
        CONTINUE WHEN p_delay <= 0 AND v_job.state <> 1;
        v_keys := v_keys || v_job.key;
        -- A job that was delayed from the start gets a turn when it is due; another one keeps its own.
        IF v_job.state <> 1 OR v_job.keeps_place THEN
            UPDATE anthill.jobs j SET due = anthill.later(v_now, p_delay), keeps_place = p_delay > 0,
                    returned = p_delay <= 0, state = CASE WHEN p_delay > 0 THEN 1
                        WHEN q.most_per_key IS NOT NULL AND j.key IS NOT NULL THEN 2 ELSE 0 END
                WHERE j.queue = p_queue AND j.id = v_job.id;
        ELSE
            UPDATE anthill.jobs j SET due = anthill.later(v_now, p_delay), turn = anthill.later(v_now, p_delay),
                    place = nextval('anthill.places'), state = CASE WHEN p_delay > 0 THEN 1
                        WHEN q.most_per_key IS NOT NULL AND j.key IS NOT NULL THEN 2 ELSE 0 END
                WHERE j.queue = p_queue AND j.id = v_job.id;
        END IF;
    END LOOP;
    PERFORM anthill.balance_keys(q, v_keys);
    RETURN v_set;
END
$$;

-- Requests to cancel a job that runs. Returns whether there was one.
CREATE FUNCTION anthill.cancel_running(p_queue int, p_id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE anthill.jobs j SET cancel_requested = true WHERE j.queue = p_queue AND j.id = p_id AND j.state + 0 = 3;
    RETURN FOUND;
END
$$;

CREATE FUNCTION anthill.set_paused(p_queue int, p_paused boolean) RETURNS void
LANGUAGE sql VOLATILE AS $$ UPDATE anthill.queues SET paused = p_paused WHERE queue = p_queue $$;

CREATE FUNCTION anthill.set_retention(p_queue int, p_done bigint, p_dead bigint) RETURNS void
LANGUAGE sql VOLATILE AS $$ UPDATE anthill.queues SET keep_done = p_done, keep_dead = p_dead WHERE queue = p_queue $$;

CREATE FUNCTION anthill.set_limits(p_queue int, p_running bigint, p_per_key bigint, p_rate_jobs bigint, p_rate_per bigint,
    p_rate_burst bigint, p_ready bigint) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    q anthill.queues;
BEGIN
    SELECT * INTO STRICT q FROM anthill.queues WHERE queue = p_queue FOR UPDATE;
    IF p_rate_jobs IS NOT NULL THEN
        INSERT INTO anthill.rates AS r (queue, kept, behind) VALUES (p_queue, 0, false) ON CONFLICT (queue) DO UPDATE
            -- Otherwise a slow rate of before would delay a fast one.
            SET kept = 0, behind = false
            WHERE (q.rate_jobs, q.rate_per, q.rate_burst) IS DISTINCT FROM (p_rate_jobs, p_rate_per, p_rate_burst);
    END IF;
    UPDATE anthill.queues SET most_running = p_running, most_per_key = p_per_key, rate_jobs = p_rate_jobs,
            rate_per = p_rate_per, rate_burst = p_rate_burst, most_ready = p_ready,
            unpark = CASE WHEN q.most_per_key IS DISTINCT FROM p_per_key THEN '' ELSE q.unpark END
        WHERE queue = p_queue;
END
$$;
