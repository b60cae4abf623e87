-- Settlements, heartbeats and progress, which only the newest claim of a running job may make (B4).
--
-- The arrays are in the order of the ids, so that all lock the jobs in that order. A token is a random number, so one that is
-- any of those told is the job's own.

-- Settles jobs, each of them once. `p_ends`: 0 done, 1 retry, 2 dead, 3 release. Returns the claims of those whose lease was held,
-- and whether something is claimable. `p_orders`: their order among each other, from 1 on.
--
-- `p_plain`: all are done, and none has a key of any sort, or a result to keep.
CREATE FUNCTION anthill.settle(p_queue int, p_plain boolean, p_ids uuid[], p_claims uuid[], p_orders int[], p_ends int[],
    p_delays bigint[], p_errors text[], p_results bytea[], OUT stored uuid[], OUT woke boolean)
LANGUAGE plpgsql VOLATILE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    q anthill.queues;
    v_now timestamptz;
    v_job record;
    v_keys text[] := '{}';
    v_places bigint[];
    v_delay bigint;
    v_gone int := 0;
    v_done int := 0;
    v_retried int := 0;
    v_died int := 0;
    v_removed int := 0;
    v_balanced boolean;
BEGIN
    SELECT * INTO STRICT q FROM anthill.queues WHERE queue = p_queue;
    woke := false;
    stored := '{}';
    -- See add_jobs.
    PERFORM pg_current_xact_id();

    IF p_plain AND q.keep_done IS NULL THEN
        -- By the primary key, so in the order of the ids.
        WITH gone AS (
            DELETE FROM anthill.jobs j
            WHERE j.queue = p_queue AND j.id = ANY (p_ids) AND j.state + 0 = 3 AND j.claim = ANY (p_claims)
                AND j.keep IS NULL AND j.unique_key IS NULL AND j.key IS NULL
            RETURNING j.claim)
            SELECT array_agg(g.claim) INTO stored FROM gone g;
        stored := coalesce(stored, '{}');
        v_done := cardinality(stored);
        v_gone := v_done;
    ELSE
        PERFORM anthill.lock_for(q, p_ids);
        v_now := anthill.anthill_now() + q.ahead;
        v_places := ARRAY(SELECT nextval('anthill.places') FROM generate_subscripts(p_ids, 1));
        FOR v_job IN
            SELECT e.ord, e.ending, e.delay, e.error, e.result, j.*
            FROM unnest(p_ids, p_claims, p_orders, p_ends, p_delays, p_errors, p_results)
                AS e (id, claim, ord, ending, delay, error, result)
            CROSS JOIN LATERAL (
                SELECT h.id, h.claim, h.attempt, h.attempts, h.keep, h.key, h.unique_key, h.cancel_requested FROM anthill.jobs h
                WHERE h.queue = p_queue AND h.id = e.id AND h.state + 0 = 3 AND h.claim = e.claim FOR UPDATE) AS j
        LOOP
            stored := stored || v_job.claim;
            v_keys := v_keys || v_job.key;
            v_delay := coalesce(v_job.delay, 0);
            IF v_job.ending = 0 THEN
                v_done := v_done + 1;
                PERFORM anthill.free_unique(p_queue, v_job.unique_key, v_job.id);
                IF v_job.keep IS NULL AND q.keep_done IS NULL THEN
                    DELETE FROM anthill.jobs j WHERE j.queue = p_queue AND j.id = v_job.id;
                    v_gone := v_gone + 1;
                ELSE
                    UPDATE anthill.jobs j SET state = 5, turn = v_now, place = v_places[v_job.ord], ended = v_now,
                            suspect = false, cancel_requested = false, consumer = NULL,
                            result = CASE WHEN j.keep IS NOT NULL THEN v_job.result END,
                            until = anthill.later(v_now, greatest(j.keep, CASE WHEN j.keep IS NOT NULL THEN q.keep_done END))
                        WHERE j.queue = p_queue AND j.id = v_job.id;
                END IF;
            ELSIF v_job.ending <> 2 AND v_job.cancel_requested THEN
                PERFORM anthill.free_unique(p_queue, v_job.unique_key, v_job.id);
                DELETE FROM anthill.jobs j WHERE j.queue = p_queue AND j.id = v_job.id;
                v_gone := v_gone + 1;
                v_removed := v_removed + 1;
            ELSIF v_job.ending = 3 THEN
                -- As if it had not been claimed; but a suspect job stays suspect.
                UPDATE anthill.jobs j SET state = CASE WHEN v_delay > 0 THEN 1 ELSE 0 END, returned = v_delay <= 0,
                        attempt = greatest(j.attempt - 1, 0), due = anthill.later(v_now, v_delay), consumer = NULL,
                        turn = CASE WHEN v_delay > 0 THEN anthill.later(v_now, v_delay) ELSE j.turn END,
                        place = CASE WHEN v_delay > 0 THEN v_places[v_job.ord] ELSE j.place END
                    WHERE j.queue = p_queue AND j.id = v_job.id;
                woke := true;
            ELSIF v_job.ending = 1 AND v_job.attempt < v_job.attempts THEN
                v_retried := v_retried + 1;
                UPDATE anthill.jobs j SET state = CASE WHEN v_delay > 0 THEN 1 ELSE 0 END, suspect = false,
                        due = anthill.later(v_now, v_delay), turn = anthill.later(v_now, v_delay),
                        place = v_places[v_job.ord], consumer = NULL,
                        errors = anthill.with_error(j.errors, j.attempt, v_job.error, v_now)
                    WHERE j.queue = p_queue AND j.id = v_job.id;
                woke := true;
            ELSE
                v_died := v_died + 1;
                PERFORM anthill.free_unique(p_queue, v_job.unique_key, v_job.id);
                UPDATE anthill.jobs j SET state = 4, turn = v_now, place = v_places[v_job.ord], ended = v_now,
                        suspect = false, cancel_requested = false, consumer = NULL,
                        errors = anthill.with_error(j.errors, j.attempt, v_job.error, v_now)
                    WHERE j.queue = p_queue AND j.id = v_job.id;
            END IF;
        END LOOP;
        v_balanced := anthill.balance_keys(q, v_keys);
        woke := woke OR v_balanced;
    END IF;
    IF cardinality(stored) > 0 THEN
        INSERT INTO anthill.counts (queue, gone, done, retried, died, removed)
            VALUES (p_queue, v_gone, v_done, v_retried, v_died, v_removed);
        IF random() < 0.001 THEN
            PERFORM anthill.sum_counts(p_queue);
        END IF;
    END IF;
    -- One job less runs.
    woke := woke OR (q.most_running IS NOT NULL AND cardinality(stored) > 0);
END
$$;

-- Extends leases. Returns each job whose lease was held, whether it is to be cancelled, and when the lease ends.
--
-- It waits for nobody: a job that another transaction has locked, which settles it, say, keeps the lease that it has, and the
-- next heartbeat finds it free again, or gone. So no other job loses its lease by that.
CREATE FUNCTION anthill.extend(p_queue int, p_ids uuid[], p_claims uuid[], p_time bigint)
RETURNS TABLE (o_id uuid, o_claim uuid, o_cancelled boolean, o_ends timestamptz)
LANGUAGE plpgsql VOLATILE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    v_now timestamptz;
    v_ends timestamptz;
    v_free uuid[];
BEGIN
    SELECT n.now, anthill.later(n.now, p_time) INTO STRICT v_now, v_ends
        FROM (SELECT anthill.anthill_now() + q.ahead AS now FROM anthill.queues q WHERE q.queue = p_queue) AS n;
    v_free := ARRAY(SELECT j.id FROM anthill.jobs j
        WHERE j.queue = p_queue AND j.id = ANY (p_ids) AND j.state + 0 = 3 AND j.claim = ANY (p_claims)
        FOR NO KEY UPDATE SKIP LOCKED);
    RETURN QUERY UPDATE anthill.jobs j SET ends = v_ends
        WHERE j.queue = p_queue AND j.id = ANY (v_free)
        RETURNING j.id, j.claim, j.cancel_requested, v_ends;
    IF cardinality(v_free) < cardinality(p_ids) THEN
        RETURN QUERY SELECT j.id, j.claim, j.cancel_requested, j.ends FROM anthill.jobs j
            WHERE j.queue = p_queue AND j.id = ANY (p_ids) AND j.state + 0 = 3 AND j.claim = ANY (p_claims)
                AND j.ends > v_now AND j.id <> ALL (v_free);
    END IF;
END
$$;

-- Stores progress, without a wait for the disk where that is the default. Returns whether the lease was held.
CREATE FUNCTION anthill.progress(p_queue int, p_id uuid, p_claim uuid, p_progress bytea) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE anthill.jobs j SET progress = p_progress
        WHERE j.queue = p_queue AND j.id = p_id AND j.state + 0 = 3 AND j.claim = p_claim;
    RETURN FOUND;
END
$$;
