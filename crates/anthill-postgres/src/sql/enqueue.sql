-- Enqueues: of many jobs at once, and of one by any client in its own transaction.
--
-- They run with the rights of the schema's owner, so that a role that may only enqueue needs no right on a table.

-- The job that has a unique key. One that has expired does not have it, even if no sweep has removed it yet.
CREATE FUNCTION anthill.unique_owner(p_queue int, p_key text, p_now timestamptz)
RETURNS TABLE (id uuid, held boolean, until timestamptz, is_held boolean, waits boolean)
LANGUAGE sql STABLE AS $$
    SELECT u.id, u.held, u.until, u.held AND NOT coalesce(j.expires <= p_now, false), j.id IS NOT NULL
    FROM anthill.uniques u LEFT JOIN anthill.jobs j ON j.queue = u.queue AND j.id = u.id AND j.state < 3
    WHERE u.queue = p_queue AND u.key = p_key
$$;

-- Takes a unique key, unless a job has it other than `p_over`. Returns that job, and whether it has the key until it is over,
-- and waits.
CREATE FUNCTION anthill.take_key(p_queue int, p_key text, p_id uuid, p_held boolean, p_until timestamptz, p_over uuid,
    p_now timestamptz, OUT id uuid, OUT is_held boolean, OUT waits boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_owner record;
BEGIN
    LOOP
        SELECT o.* INTO v_owner FROM anthill.unique_owner(p_queue, p_key, p_now) o;
        IF (v_owner.is_held OR v_owner.until > p_now) AND v_owner.id IS DISTINCT FROM p_over THEN
            id := v_owner.id;
            is_held := v_owner.is_held;
            waits := v_owner.waits;
            RETURN;
        END IF;
        -- Waits for another one that takes it, and then looks again.
        INSERT INTO anthill.uniques AS u (queue, key, id, held, until) VALUES (p_queue, p_key, p_id, p_held, p_until)
            ON CONFLICT (queue, key) DO UPDATE SET id = excluded.id, held = excluded.held, until = excluded.until
            WHERE u.id = v_owner.id AND u.held = v_owner.held AND u.until IS NOT DISTINCT FROM v_owner.until;
        IF FOUND THEN
            RETURN;
        END IF;
    END LOOP;
END
$$;

-- Decides which jobs of a batch are duplicates because of their unique keys, and takes the keys for the others. Returns for
-- each job the one that it is a duplicate of, or NULL; and for each the job of the batch whose data it gets, because that
-- one debounced it.
--
-- The keys that nobody has are taken first, in their order, for the first job of the batch that has them.
CREATE FUNCTION anthill.take_uniques(p_queue anthill.queues, p_now timestamptz, p_within boolean, p_ids uuid[],
    p_kinds text[], p_payloads bytea[], p_delays bigint[], p_places bigint[], p_uniques text[], p_once_keys text[],
    p_once_periods bigint[], p_debounces boolean[], OUT owners uuid[], OUT sources int[])
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_keys text[];
    v_other uuid[];     -- by key: the job that has it, and is not of the batch
    v_is_held boolean[];
    v_taker int[];      -- by key: the job of the batch that has it; 0 if it is taken and none has it yet
    v_first record;
    v_job record;
    v_owner record;
    v_at int;
BEGIN
    owners := array_fill(NULL::uuid, ARRAY[cardinality(p_ids)]);
    v_keys := ARRAY(SELECT DISTINCT each.key FROM (SELECT unnest(p_uniques) UNION ALL SELECT unnest(p_once_keys)) AS each (key)
        WHERE each.key IS NOT NULL ORDER BY each.key);
    v_other := array_fill(NULL::uuid, ARRAY[cardinality(v_keys)]);
    v_is_held := array_fill(NULL::boolean, ARRAY[cardinality(v_keys)]);
    v_taker := array_fill(NULL::int, ARRAY[cardinality(v_keys)]);
    FOR v_first IN
        SELECT k.key, k.at, j.id, j.unique_key IS NOT DISTINCT FROM k.key AS held,
            CASE WHEN j.once_key = k.key THEN anthill.later(p_now, j.once_period) END AS until, j.debounces
        FROM unnest(v_keys) WITH ORDINALITY AS k (key, at)
        JOIN (SELECT DISTINCT ON (each.key) each.key, e.*,
                bool_or(coalesce(e.debounce, false)) OVER (PARTITION BY each.key) AS debounces
            FROM unnest(p_ids, p_uniques, p_once_keys, p_once_periods, p_debounces)
                WITH ORDINALITY AS e (id, unique_key, once_key, once_period, debounce, ord)
            CROSS JOIN LATERAL (VALUES (e.unique_key), (e.once_key)) AS each (key)
            WHERE each.key IS NOT NULL ORDER BY each.key, e.ord) AS j ON j.key = k.key
        ORDER BY k.at
    LOOP
        SELECT t.* INTO v_owner FROM anthill.take_key(p_queue.queue, v_first.key, v_first.id, v_first.held, v_first.until,
            NULL, p_now) t;
        IF v_owner.id IS NULL THEN
            v_taker[v_first.at] := 0;
            CONTINUE;
        END IF;
        IF v_first.debounces AND NOT v_owner.waits THEN
            -- A job of the batch may take it over.
            PERFORM 1 FROM anthill.uniques u WHERE u.queue = p_queue.queue AND u.key = v_first.key FOR UPDATE;
        END IF;
        v_other[v_first.at] := v_owner.id;
        v_is_held[v_first.at] := v_owner.is_held;
    END LOOP;

    FOR v_job IN
        SELECT e.ord, e.id, e.unique_key, e.once_key, e.once_period, e.delay, coalesce(e.debounce, false) AS debounce,
            u.at AS unique_at, o.at AS once_at, e.once_key IS NOT DISTINCT FROM e.unique_key AS is_one_key
        FROM unnest(p_ids, p_uniques, p_once_keys, p_once_periods, p_debounces, p_delays)
            WITH ORDINALITY AS e (id, unique_key, once_key, once_period, debounce, delay, ord)
        LEFT JOIN unnest(v_keys) WITH ORDINALITY AS u (key, at) ON u.key = e.unique_key
        LEFT JOIN unnest(v_keys) WITH ORDINALITY AS o (key, at) ON o.key = e.once_key
        WHERE e.unique_key IS NOT NULL OR e.once_key IS NOT NULL ORDER BY e.ord
    LOOP
        IF EXISTS (SELECT 1 FROM anthill.jobs j WHERE j.queue = p_queue.queue AND j.id = v_job.id) THEN
            owners[v_job.ord] := v_job.id;
            CONTINUE;
        END IF;
        v_at := v_job.once_at;
        -- A debounced job debounces itself, whatever its period is.
        IF v_at IS NOT NULL AND NOT (v_job.debounce AND v_job.is_one_key) AND v_taker[v_at] IS DISTINCT FROM 0 THEN
            owners[v_job.ord] := coalesce(p_ids[v_taker[v_at]], v_other[v_at]);
            CONTINUE;
        END IF;
        v_at := v_job.unique_at;
        IF v_taker[v_at] > 0 THEN
            IF v_job.debounce AND p_uniques[v_taker[v_at]] IS NOT DISTINCT FROM v_job.unique_key THEN
                -- One of this batch gets the data.
                sources := coalesce(sources, array_fill(NULL::int, ARRAY[cardinality(p_ids)]));
                sources[v_taker[v_at]] := v_job.ord;
            END IF;
            owners[v_job.ord] := p_ids[v_taker[v_at]];
            CONTINUE;
        ELSIF v_at IS NOT NULL AND v_taker[v_at] IS NULL THEN
            owners[v_job.ord] := v_other[v_at];
            WHILE v_job.debounce AND v_is_held[v_at] AND owners[v_job.ord] IS NOT NULL LOOP
                EXIT WHEN anthill.debounce_onto(p_queue, owners[v_job.ord], p_kinds[v_job.ord], p_payloads[v_job.ord],
                    v_job.delay, p_places[v_job.ord], p_now, p_within);
                -- If it runs, the new job comes after it.
                SELECT t.id, t.is_held INTO v_owner FROM anthill.take_key(p_queue.queue, v_job.unique_key, v_job.id, true,
                    NULL, owners[v_job.ord], p_now) t;
                owners[v_job.ord] := v_owner.id;
                v_is_held[v_at] := v_owner.is_held;
                v_other[v_at] := v_owner.id;
            END LOOP;
            IF owners[v_job.ord] IS NOT NULL THEN
                CONTINUE;
            END IF;
        END IF;
        -- It is added. The rows of its keys are locked.
        IF v_job.once_key IS NOT NULL THEN
            PERFORM anthill.own(p_queue.queue, v_job.once_key, v_job.id, v_job.is_one_key,
                anthill.later(p_now, v_job.once_period));
            v_taker[v_job.once_at] := v_job.ord;
        END IF;
        IF v_job.unique_key IS NOT NULL AND NOT v_job.is_one_key THEN
            PERFORM anthill.own(p_queue.queue, v_job.unique_key, v_job.id, true, NULL);
            v_taker[v_job.unique_at] := v_job.ord;
        END IF;
    END LOOP;
    IF 0 = ANY (v_taker) THEN
        DELETE FROM anthill.uniques u USING unnest(v_keys, v_taker) AS k (key, taker)
            WHERE u.queue = p_queue.queue AND u.key = k.key AND k.taker = 0;
    END IF;
END
$$;

CREATE FUNCTION anthill.own(p_queue int, p_key text, p_id uuid, p_held boolean, p_until timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE anthill.uniques u SET id = p_id, held = p_held, until = p_until WHERE u.queue = p_queue AND u.key = p_key
        AND ((u.id, u.held) <> (p_id, p_held) OR u.until IS DISTINCT FROM p_until);
END
$$;

-- Gives a waiting job the data of a newer one; it waits anew. Returns whether it waited.
--
-- It is not left parked, for who looks for parked jobs meanwhile does not see it: the next claim decides.
CREATE FUNCTION anthill.debounce_onto(p_queue anthill.queues, p_id uuid, p_kind text, p_payload bytea, p_delay bigint,
    p_place bigint, p_now timestamptz, p_within boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_key text;
BEGIN
    UPDATE anthill.jobs j SET kind = p_kind, payload = p_payload, keeps_place = false, returned = false,
            state = CASE WHEN p_delay > 0 THEN 1 ELSE 0 END, due = anthill.later(p_now, p_delay),
            turn = anthill.later(p_now, p_delay), place = p_place
        WHERE j.queue = p_queue.queue AND j.id = p_id AND j.state + 0 < 3 RETURNING j.key INTO v_key;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF v_key IS NOT NULL AND p_queue.most_per_key IS NOT NULL AND NOT p_within THEN
        IF anthill.try_key(p_queue.queue, v_key) THEN
            PERFORM anthill.balance(p_queue, v_key, 500);
        END IF;
    END IF;
    RETURN true;
END
$$;

-- How many jobs are ready or parked, up to some more than `p_most`: as if time had been seen to.
CREATE FUNCTION anthill.count_waiting(p_queue int, p_now timestamptz, p_most bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_expired bigint;
BEGIN
    SELECT count(*) INTO v_expired FROM anthill.jobs j
        WHERE j.queue = p_queue AND j.state < 3 AND j.expires <= p_now AND (j.state <> 1 OR j.due <= p_now);
    RETURN (SELECT count(*) FROM (
            SELECT 1 FROM anthill.jobs j WHERE j.queue = p_queue AND j.state = 0 AND NOT j.returned
            UNION ALL SELECT 1 FROM anthill.jobs j WHERE j.queue = p_queue AND j.state = 0 AND j.returned
            UNION ALL SELECT 1 FROM anthill.jobs j WHERE j.queue = p_queue AND j.state = 2
            UNION ALL SELECT 1 FROM anthill.jobs j WHERE j.queue = p_queue AND j.state = 1 AND j.due <= p_now
            UNION ALL SELECT 1 FROM anthill.jobs j WHERE j.queue = p_queue AND j.state = 3 AND j.ends <= p_now
                AND j.attempt - j.together::int < j.attempts
            LIMIT p_most + v_expired) AS found) - v_expired;
END
$$;

CREATE FUNCTION anthill.add_jobs(p_queue anthill.queues, p_within boolean, p_ids uuid[], p_kinds text[], p_payloads bytea[],
    p_ranks int[], p_delays bigint[], p_attempts bigint[], p_expires bigint[], p_keeps bigint[], p_keys text[],
    p_uniques text[], p_once_keys text[], p_once_periods bigint[], p_debounces boolean[], p_headers jsonb[])
RETURNS TABLE (o_job int, o_owner uuid)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz;
    v_places bigint[];
    v_parks boolean := p_keys IS NOT NULL AND p_queue.most_per_key IS NOT NULL AND NOT p_within;
    v_owners uuid[];
    v_sources int[];
    v_added uuid[];
    v_ready bigint;
    v_duplicates bigint;
BEGIN
    -- Claims remember up to which turn they have looked, and rely on this: who has a turn had a transaction id before that.
    PERFORM pg_current_xact_id();
    IF v_parks THEN
        PERFORM anthill.lock_keys(p_queue.queue, p_keys);
    END IF;
    v_now := anthill.anthill_now() + p_queue.ahead;
    v_places := ARRAY(SELECT nextval('anthill.places') FROM generate_subscripts(p_ids, 1));
    IF p_uniques IS NOT NULL OR p_once_keys IS NOT NULL THEN
        SELECT u.owners, u.sources INTO v_owners, v_sources FROM anthill.take_uniques(p_queue, v_now, p_within, p_ids,
            p_kinds, p_payloads, p_delays, v_places, p_uniques, p_once_keys, p_once_periods, p_debounces) u;
    END IF;
    IF v_sources IS NOT NULL THEN
        SELECT array_agg(s.kind ORDER BY e.ord), array_agg(s.payload ORDER BY e.ord), array_agg(s.delay ORDER BY e.ord),
                array_agg(s.place ORDER BY e.ord)
            INTO p_kinds, p_payloads, p_delays, v_places
            FROM unnest(v_sources) WITH ORDINALITY AS e (source, ord)
            JOIN unnest(p_kinds, p_payloads, p_delays, v_places) WITH ORDINALITY AS s (kind, payload, delay, place, ord)
                ON s.ord = coalesce(e.source, e.ord);
    END IF;
    WITH inserted AS (
        INSERT INTO anthill.jobs AS j (queue, id, state, rank, turn, place, due, enqueued, attempts, kind, payload, key,
                unique_key, expires, keep, headers)
            SELECT p_queue.queue, e.id,
                CASE WHEN e.delay > 0 THEN 1 WHEN v_parks AND e.key IS NOT NULL THEN 2 ELSE 0 END,
                e.rank, e.due, e.place, e.due, v_now, e.attempts, e.kind, e.payload, e.key, e.unique_key,
                anthill.later(v_now, e.expires), e.keep, e.headers
            FROM (SELECT n.*, anthill.later(v_now, n.delay) AS due
                FROM unnest(p_ids, p_kinds, p_payloads, p_ranks, p_delays, p_attempts, p_expires, p_keeps, p_keys, p_uniques,
                    p_headers, v_places, v_owners)
                    WITH ORDINALITY AS n (id, kind, payload, rank, delay, attempts, expires, keep, key, unique_key, headers,
                        place, owner, ord)
                WHERE n.owner IS NULL) AS e
            -- In the order of their ids, so that two who enqueue the same ones do not wait for each other.
            ORDER BY e.id, e.ord
            ON CONFLICT (id, queue) DO NOTHING RETURNING j.id, j.state)
        SELECT array_agg(i.id), count(*) FILTER (WHERE i.state <> 1) INTO v_added, v_ready FROM inserted i;
    IF v_parks THEN
        PERFORM anthill.balance_keys(p_queue, p_keys);
    END IF;
    IF p_queue.most_ready IS NOT NULL AND v_ready > 0
        AND anthill.count_waiting(p_queue.queue, v_now, least(p_queue.most_ready, 1000000000000) + 1) > p_queue.most_ready
    THEN
        RAISE EXCEPTION 'the queue % is full: at most % jobs may be ready', p_queue.name, p_queue.most_ready
            USING ERRCODE = 'AH001';
    END IF;
    IF p_within AND v_added IS NOT NULL THEN
        PERFORM pg_notify(anthill.channel(), p_queue.queue::text);
    END IF;
    IF cardinality(v_added) = cardinality(p_ids) THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT e.ord::int, coalesce(e.owner, e.id)
        FROM unnest(p_ids, v_owners) WITH ORDINALITY AS e (id, owner, ord)
        WHERE e.owner IS NOT NULL OR NOT e.id = ANY (coalesce(v_added, '{}'))
            OR e.ord > (SELECT min(f.ord) FROM unnest(p_ids, v_owners) WITH ORDINALITY AS f (id, owner, ord)
                WHERE f.id = e.id AND f.owner IS NULL);
    GET DIAGNOSTICS v_duplicates = ROW_COUNT;
    INSERT INTO anthill.counts (queue, duplicates) VALUES (p_queue.queue, v_duplicates);
END
$$;

-- Enqueues jobs: all of them, or none. Returns a row for each that is a duplicate: its number, and the job that is there; or
-- one row with the limit, if the queue is full.
--
-- `p_within`: as a part of the caller's own transaction, which others must not wait for.
CREATE FUNCTION anthill.enqueue_jobs(p_queue int, p_within boolean, p_ids uuid[], p_kinds text[], p_payloads bytea[],
    p_ranks int[], p_delays bigint[], p_attempts bigint[], p_expires bigint[], p_keeps bigint[], p_keys text[],
    p_uniques text[], p_once_keys text[], p_once_periods bigint[], p_debounces boolean[], p_headers jsonb[])
RETURNS TABLE (o_job int, o_owner uuid, o_limit bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    q anthill.queues;
BEGIN
    IF NOT p_within THEN
        PERFORM anthill.wait_for_disk();
    END IF;
    -- See add_jobs: first the transaction id, and then the time.
    SELECT s.* INTO STRICT q FROM anthill.queues s WHERE s.queue = p_queue AND pg_current_xact_id() IS NOT NULL;
    IF q.most_ready IS NULL THEN
        RETURN QUERY SELECT a.o_job, a.o_owner, NULL::bigint FROM anthill.add_jobs(q, p_within, p_ids, p_kinds, p_payloads,
            p_ranks, p_delays, p_attempts, p_expires, p_keeps, p_keys, p_uniques, p_once_keys, p_once_periods, p_debounces,
            p_headers) a;
    ELSE
        IF NOT p_within THEN
            PERFORM pg_advisory_xact_lock(anthill.lock_number(p_queue, 'waiting'));
        END IF;
        BEGIN
            RETURN QUERY SELECT a.o_job, a.o_owner, NULL::bigint FROM anthill.add_jobs(q, p_within, p_ids, p_kinds,
                p_payloads, p_ranks, p_delays, p_attempts, p_expires, p_keeps, p_keys, p_uniques, p_once_keys,
                p_once_periods, p_debounces, p_headers) a;
        EXCEPTION WHEN SQLSTATE 'AH001' THEN
            RETURN QUERY SELECT 0, NULL::uuid, q.most_ready;
        END;
    END IF;
END
$$;

-- Enqueues one job that has no unique key, as enqueue_jobs does, in less time. Returns NULL if it is added; -1 if it is there already;
-- and the limit if the queue is full.
CREATE FUNCTION anthill.enqueue_job(p_queue int, p_id uuid, p_kind text, p_payload bytea, p_rank int, p_delay bigint,
    p_attempts bigint, p_expires bigint, p_keep bigint, p_key text, p_headers jsonb)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- As wait_for_disk.
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    INSERT INTO anthill.jobs (queue, id, state, rank, turn, place, due, enqueued, attempts, kind, payload, key, expires, keep,
            headers)
        SELECT p_queue, p_id, CASE WHEN p_delay > 0 THEN 1 ELSE 0 END, p_rank, anthill.later(q.now, p_delay),
            nextval('anthill.places'), anthill.later(q.now, p_delay), q.now, p_attempts, p_kind, p_payload, p_key,
            anthill.later(q.now, p_expires), p_keep, p_headers
        -- See add_jobs: first the transaction id, and then the time.
        FROM (SELECT anthill.anthill_now() + s.ahead AS now FROM anthill.queues s
            WHERE s.queue = p_queue AND s.most_ready IS NULL AND (p_key IS NULL OR s.most_per_key IS NULL)
                AND pg_current_xact_id() IS NOT NULL OFFSET 0) AS q
        ON CONFLICT (id, queue) DO NOTHING;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    -- It is there already, or there are limits.
    RETURN (SELECT coalesce(e.o_limit, -1) FROM anthill.enqueue_jobs(p_queue, false, ARRAY[p_id], ARRAY[p_kind],
        ARRAY[p_payload], ARRAY[p_rank], ARRAY[p_delay], ARRAY[p_attempts], ARRAY[p_expires], ARRAY[p_keep], ARRAY[p_key], NULL,
        NULL, NULL, NULL, ARRAY[p_headers]) e);
END
$$;
