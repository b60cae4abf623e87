-- What time does to jobs: a lease is over, a job is due or has expired, a result or a dead letter was kept long enough. Each
-- sweep does at most so much of each, so that no call is long; it waits for nobody, and leaves what another one has locked.

-- Makes jobs ready or dead whose leases are over (B5).
--
-- A job that was claimed together with others has its attempt back, for nobody knows which of them had begun.
CREATE FUNCTION anthill.sweep_leases(p_queue anthill.queues, p_now timestamptz, OUT seen int, OUT moved int, OUT woke boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_job record;
    v_attempt bigint;
    v_errors jsonb;
    v_died int := 0;
    v_removed int := 0;
    v_balanced boolean;
BEGIN
    seen := 0;
    moved := 0;
    woke := false;
    FOR v_job IN
        SELECT j.id, j.key, j.unique_key, j.attempt, j.attempts, j.together, j.cancel_requested, j.errors
        FROM anthill.jobs j WHERE j.queue = p_queue.queue AND j.state = 3 AND j.ends <= p_now
        ORDER BY j.ends LIMIT 500 FOR UPDATE SKIP LOCKED
    LOOP
        seen := seen + 1;
        IF p_queue.most_per_key IS NOT NULL AND v_job.key IS NOT NULL AND NOT anthill.try_key(p_queue.queue, v_job.key) THEN
            CONTINUE;
        END IF;
        v_attempt := v_job.attempt - v_job.together::int;
        v_errors := anthill.with_error(v_job.errors, v_job.attempt,
            format('the lease of attempt %s ended before the job did', v_job.attempt), p_now);
        IF v_job.cancel_requested THEN
            CONTINUE WHEN NOT anthill.try_free_unique(p_queue.queue, v_job.unique_key, v_job.id);
            DELETE FROM anthill.jobs j WHERE j.queue = p_queue.queue AND j.id = v_job.id;
            v_removed := v_removed + 1;
        ELSIF v_attempt >= v_job.attempts THEN
            CONTINUE WHEN NOT anthill.try_free_unique(p_queue.queue, v_job.unique_key, v_job.id);
            UPDATE anthill.jobs j SET state = 4, turn = p_now, place = nextval('anthill.places'), ended = p_now,
                    suspect = false, attempt = v_attempt, errors = v_errors, consumer = NULL
                WHERE j.queue = p_queue.queue AND j.id = v_job.id;
            v_died := v_died + 1;
        ELSE
            UPDATE anthill.jobs j SET state = 0, returned = true, due = p_now, suspect = true, attempt = v_attempt,
                    errors = v_errors, consumer = NULL
                WHERE j.queue = p_queue.queue AND j.id = v_job.id;
            woke := true;
        END IF;
        moved := moved + 1;
        v_balanced := anthill.balance_keys(p_queue, ARRAY[v_job.key]);
        woke := woke OR v_balanced;
    END LOOP;
    IF moved > 0 THEN
        INSERT INTO anthill.counts (queue, lost_leases, died, removed, gone)
            VALUES (p_queue.queue, moved, v_died, v_removed, v_removed);
    END IF;
END
$$;

-- Makes jobs ready that are due, the first ones first.
CREATE FUNCTION anthill.sweep_due(p_queue anthill.queues, p_now timestamptz, p_from timestamptz, OUT moved int)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_ids uuid[];
    v_keys text[];
BEGIN
    SELECT array_agg(d.id), array_agg(d.key) INTO v_ids, v_keys FROM (
        SELECT j.id, j.key FROM anthill.jobs j
        WHERE j.queue = p_queue.queue AND j.state = 1 AND j.due <= p_now AND j.due > p_from
        ORDER BY j.due, j.place LIMIT 1000 FOR UPDATE SKIP LOCKED) AS d
        WHERE p_queue.most_per_key IS NULL OR d.key IS NULL OR anthill.try_key(p_queue.queue, d.key);
    UPDATE anthill.jobs j SET returned = j.keeps_place, keeps_place = false,
            state = CASE WHEN p_queue.most_per_key IS NOT NULL AND j.key IS NOT NULL THEN 2 ELSE 0 END
        WHERE j.queue = p_queue.queue AND j.id = ANY (v_ids);
    GET DIAGNOSTICS moved = ROW_COUNT;
    PERFORM anthill.balance_keys(p_queue, v_keys);
END
$$;

-- Removes a job that has expired, and is locked. Returns whether it could.
CREATE FUNCTION anthill.expire(p_queue anthill.queues, p_id uuid, p_key text, p_unique text, OUT done boolean, OUT woke boolean)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    done := (p_queue.most_per_key IS NULL OR p_key IS NULL OR anthill.try_key(p_queue.queue, p_key))
        AND anthill.try_free_unique(p_queue.queue, p_unique, p_id);
    woke := false;
    IF done THEN
        DELETE FROM anthill.jobs j WHERE j.queue = p_queue.queue AND j.id = p_id;
        woke := anthill.balance_keys(p_queue, ARRAY[p_key]);
    END IF;
END
$$;

CREATE FUNCTION anthill.sweep_expired(p_queue anthill.queues, p_now timestamptz, OUT seen int, OUT moved int, OUT woke boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_job record;
    v_expired record;
BEGIN
    seen := 0;
    moved := 0;
    woke := false;
    FOR v_job IN
        SELECT j.id, j.key, j.unique_key FROM anthill.jobs j
        WHERE j.queue = p_queue.queue AND j.state < 3 AND j.expires <= p_now ORDER BY j.expires LIMIT 500
        FOR UPDATE SKIP LOCKED
    LOOP
        seen := seen + 1;
        SELECT e.* INTO v_expired FROM anthill.expire(p_queue, v_job.id, v_job.key, v_job.unique_key) e;
        moved := moved + v_expired.done::int;
        woke := woke OR v_expired.woke;
    END LOOP;
    IF moved > 0 THEN
        INSERT INTO anthill.counts (queue, expired, gone) VALUES (p_queue.queue, moved, moved);
    END IF;
END
$$;

-- Removes what was kept long enough.
CREATE FUNCTION anthill.sweep_kept(p_queue anthill.queues, p_now timestamptz, OUT moved int)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_ids uuid[];
BEGIN
    v_ids := ARRAY(
        (SELECT j.id FROM anthill.jobs j WHERE j.queue = p_queue.queue AND j.state = 5 AND j.until <= p_now
            ORDER BY j.until LIMIT 500 FOR UPDATE SKIP LOCKED));
    -- The first one is the oldest. One that is not old enough ends the look.
    IF EXISTS (SELECT 1 FROM (SELECT j.ended FROM anthill.jobs j WHERE j.queue = p_queue.queue AND j.state = 5
            AND j.until IS NULL ORDER BY j.turn, j.place LIMIT 1) AS oldest
        WHERE p_queue.keep_done IS NULL OR anthill.later(oldest.ended, p_queue.keep_done) <= p_now)
    THEN
        v_ids := v_ids || ARRAY(SELECT found.id FROM (
            SELECT j.id, j.ended FROM anthill.jobs j WHERE j.queue = p_queue.queue AND j.state = 5 AND j.until IS NULL
            ORDER BY j.turn, j.place LIMIT 500 FOR UPDATE SKIP LOCKED) AS found
            WHERE p_queue.keep_done IS NULL OR anthill.later(found.ended, p_queue.keep_done) <= p_now);
    END IF;
    IF p_queue.keep_dead IS NOT NULL AND EXISTS (SELECT 1 FROM (SELECT j.ended FROM anthill.jobs j
            WHERE j.queue = p_queue.queue AND j.state = 4 ORDER BY j.turn, j.place LIMIT 1) AS oldest
        WHERE anthill.later(oldest.ended, p_queue.keep_dead) <= p_now)
    THEN
        v_ids := v_ids || ARRAY(SELECT found.id FROM (
            SELECT j.id, j.ended FROM anthill.jobs j WHERE j.queue = p_queue.queue AND j.state = 4
            ORDER BY j.turn, j.place LIMIT 500 FOR UPDATE SKIP LOCKED) AS found
            WHERE anthill.later(found.ended, p_queue.keep_dead) <= p_now);
    END IF;
    moved := 0;
    IF cardinality(v_ids) > 0 THEN
        DELETE FROM anthill.jobs j WHERE j.queue = p_queue.queue AND j.id = ANY (v_ids);
        GET DIAGNOSTICS moved = ROW_COUNT;
        INSERT INTO anthill.counts (queue, gone) VALUES (p_queue.queue, moved);
    END IF;
END
$$;

-- Frees unique keys whose period is over.
CREATE FUNCTION anthill.sweep_periods(p_queue anthill.queues, p_now timestamptz, OUT moved int)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_keys text[];
BEGIN
    moved := 0;
    v_keys := ARRAY(SELECT u.key FROM anthill.uniques u WHERE u.queue = p_queue.queue AND u.until <= p_now
        ORDER BY u.until LIMIT 500 FOR UPDATE SKIP LOCKED);
    IF cardinality(v_keys) > 0 THEN
        DELETE FROM anthill.uniques u WHERE u.queue = p_queue.queue AND u.key = ANY (v_keys) AND NOT u.held;
        -- The others are held until their jobs are over.
        UPDATE anthill.uniques u SET until = NULL WHERE u.queue = p_queue.queue AND u.key = ANY (v_keys);
        moved := cardinality(v_keys);
    END IF;
END
$$;

-- After a change of the limit per key: balances the keys of all parked and ready jobs, some at a time, by one session.
CREATE FUNCTION anthill.sweep_keys(p_queue anthill.queues, OUT moved int, OUT woke boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_key text;
    v_from text;
    v_balanced record;
    q anthill.queues;
BEGIN
    moved := 0;
    woke := false;
    IF NOT pg_try_advisory_xact_lock(anthill.lock_number(p_queue.queue, 'unpark')) THEN
        RETURN;
    END IF;
    -- Another one may have come to the end meanwhile.
    SELECT * INTO q FROM anthill.queues WHERE queue = p_queue.queue;
    v_from := q.unpark;
    IF v_from IS NULL THEN
        RETURN;
    END IF;
    LOOP
        SELECT min(next.key) INTO v_key FROM (
            (SELECT j.key FROM anthill.jobs j WHERE j.queue = q.queue AND j.state = 2 AND j.key >= v_from
                ORDER BY j.key LIMIT 1)
            UNION ALL
            (SELECT j.key FROM anthill.jobs j WHERE j.queue = q.queue AND j.state = 0 AND j.key IS NOT NULL
                AND j.key >= v_from ORDER BY j.key LIMIT 1)) AS next;
        v_from := v_key;
        EXIT WHEN v_key IS NULL OR moved >= 500;
        EXIT WHEN NOT anthill.try_key(q.queue, v_key);
        SELECT b.* INTO v_balanced FROM anthill.balance(q, v_key, 500 - moved) b;
        woke := woke OR v_balanced.woke;
        moved := moved + v_balanced.moves + 1;
        EXIT WHEN moved >= 500;
        -- The next possible key.
        v_from := v_key || chr(1);
    END LOOP;
    UPDATE anthill.queues SET unpark = v_from WHERE queue = q.queue AND unpark = q.unpark;
END
$$;

-- Looks at some keys of parked jobs, from `p_from` on, whether each has as many ready ones as it has room for. That is so,
-- unless somebody was killed, or rolled back, while he had a parked job locked. Returns where to go on.
CREATE FUNCTION anthill.check_parked(p_queue anthill.queues, p_from text, OUT next text, OUT woke boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_key text;
    v_balanced record;
BEGIN
    woke := false;
    next := p_from;
    FOR i IN 1..20 LOOP
        SELECT j.key INTO v_key FROM anthill.jobs j WHERE j.queue = p_queue.queue AND j.state = 2 AND j.key > next
            ORDER BY j.key LIMIT 1;
        IF NOT FOUND THEN
            next := '';
            RETURN;
        END IF;
        next := v_key;
        IF p_queue.most_per_key IS NULL OR (
                SELECT count(*) FROM (SELECT 1 FROM anthill.jobs j WHERE j.queue = p_queue.queue AND j.key = v_key
                    AND j.state = 3 UNION ALL SELECT 1 FROM anthill.jobs j WHERE j.queue = p_queue.queue AND j.key = v_key
                    AND j.state = 0 LIMIT p_queue.most_per_key) AS found) < p_queue.most_per_key
        THEN
            IF anthill.try_key(p_queue.queue, v_key) THEN
                SELECT b.* INTO v_balanced FROM anthill.balance(p_queue, v_key, 500) b;
                woke := woke OR v_balanced.woke;
            END IF;
        END IF;
    END LOOP;
END
$$;

-- What no consumer waits for. Returns whether there is more to do, whether something is ready that was not, and where
-- check_parked goes on.
CREATE FUNCTION anthill.sweep_house(p_queue anthill.queues, p_now timestamptz, p_from text, OUT more boolean, OUT woke boolean,
    OUT next text)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_expired record;
    v_parked record;
    v_kept int;
    v_periods int;
BEGIN
    SELECT s.* INTO v_expired FROM anthill.sweep_expired(p_queue, p_now) s;
    v_kept := anthill.sweep_kept(p_queue, p_now);
    v_periods := anthill.sweep_periods(p_queue, p_now);
    SELECT c.* INTO v_parked FROM anthill.check_parked(p_queue, p_from) c;
    more := v_expired.moved >= 500 OR v_kept >= 500 OR v_periods >= 500;
    woke := v_expired.woke OR v_parked.woke;
    next := v_parked.next;
END
$$;

-- All of it, for those who look. Returns whether there is more to do, and whether something is ready that was not.
CREATE FUNCTION anthill.sweep(p_queue int) RETURNS TABLE (o_more boolean, o_woke boolean)
LANGUAGE plpgsql VOLATILE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET jit = off AS $$
DECLARE
    q anthill.queues;
    v_now timestamptz;
    v_leases record;
    v_due int;
    v_house record;
    v_keys record;
BEGIN
    SELECT * INTO STRICT q FROM anthill.queues WHERE queue = p_queue;
    v_now := anthill.anthill_now() + q.ahead;
    SELECT s.* INTO v_leases FROM anthill.sweep_leases(q, v_now) s;
    v_due := anthill.sweep_due(q, v_now, '-infinity');
    SELECT s.* INTO v_house FROM anthill.sweep_house(q, v_now, '') s;
    SELECT s.* INTO v_keys FROM anthill.sweep_keys(q) s;
    RETURN QUERY SELECT v_leases.moved >= 500 OR v_due >= 1000 OR v_house.more OR v_keys.moved >= 500,
        v_leases.woke OR v_due > 0 OR v_house.woke OR v_keys.woke;
END
$$;
