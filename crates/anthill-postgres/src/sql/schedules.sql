-- Schedules, which consumers fire, and the list of live consumers.

CREATE FUNCTION anthill.put_schedule(p_queue int, p_name text, p_cron text, p_kind text, p_payload bytea, p_next bigint,
    p_missed int) RETURNS void
LANGUAGE sql VOLATILE AS $$
    INSERT INTO anthill.schedules AS s (queue, name, cron, kind, payload, next, missed)
        VALUES (p_queue, p_name, p_cron, p_kind, p_payload, p_next, p_missed)
        ON CONFLICT (queue, name) DO UPDATE SET kind = excluded.kind, payload = excluded.payload,
            next = CASE WHEN s.cron = excluded.cron THEN least(s.next, excluded.next) ELSE excluded.next END,
            cron = excluded.cron, missed = excluded.missed
$$;

CREATE FUNCTION anthill.drop_schedule(p_queue int, p_name text) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    DELETE FROM anthill.schedules s WHERE s.queue = p_queue AND s.name = p_name;
    RETURN FOUND;
END
$$;

-- All schedules, and the seconds since 1970 by the wall clock. The first row has the time alone.
CREATE FUNCTION anthill.schedules(p_queue int)
RETURNS TABLE (o_name text, o_cron text, o_kind text, o_payload bytea, o_next bigint, o_missed int)
LANGUAGE sql STABLE AS $$
    SELECT NULL::text, NULL::text, NULL::text, NULL::bytea, floor(extract(epoch FROM anthill.anthill_now()))::bigint, 0
    UNION ALL (SELECT s.name, s.cron, s.kind, s.payload, s.next, s.missed::int FROM anthill.schedules s
        WHERE s.queue = p_queue ORDER BY s.name)
$$;

-- Stores the next time of a schedule, unless another one has by now, and enqueues its job, if there is one. Returns 0 if it did, 1
-- if the queue is paused, 2 if the schedule has changed. Limits do not apply.
CREATE FUNCTION anthill.fire(p_queue int, p_name text, p_from bigint, p_next bigint, p_ids uuid[], p_kinds text[],
    p_payloads bytea[], p_ranks int[], p_delays bigint[], p_attempts bigint[], p_expires bigint[], p_keeps bigint[],
    p_keys text[], p_uniques text[], p_once_keys text[], p_once_periods bigint[], p_debounces boolean[], p_headers jsonb[])
RETURNS int
LANGUAGE plpgsql VOLATILE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    q anthill.queues;
BEGIN
    SELECT * INTO STRICT q FROM anthill.queues WHERE queue = p_queue;
    IF q.paused THEN
        RETURN 1;
    END IF;
    UPDATE anthill.schedules s SET next = p_next WHERE s.queue = p_queue AND s.name = p_name AND s.next = p_from;
    IF NOT FOUND THEN
        RETURN 2;
    END IF;
    IF cardinality(p_ids) > 0 THEN
        q.most_ready := NULL;
        PERFORM anthill.add_jobs(q, false, p_ids, p_kinds, p_payloads, p_ranks, p_delays, p_attempts, p_expires, p_keeps,
            p_keys, p_uniques, p_once_keys, p_once_periods, p_debounces, p_headers);
    END IF;
    RETURN 0;
END
$$;

CREATE FUNCTION anthill.announce(p_queue int, p_id text, p_kinds text[], p_workers bigint, p_running bigint, p_age bigint,
    p_time bigint) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz := anthill.anthill_now();
BEGIN
    INSERT INTO anthill.consumers (queue, id, kinds, workers, running, started, seen, until)
        VALUES (p_queue, p_id, p_kinds, p_workers, p_running, v_now - p_age * interval '1 microsecond', v_now,
            anthill.later(v_now, p_time))
        ON CONFLICT (queue, id) DO UPDATE SET kinds = excluded.kinds, workers = excluded.workers, running = excluded.running,
            started = excluded.started, seen = excluded.seen, until = excluded.until;
    -- Those that did not say farewell.
    DELETE FROM anthill.consumers c WHERE c.queue = p_queue AND c.id = ANY (ARRAY(SELECT o.id FROM anthill.consumers o
        WHERE o.queue = p_queue AND o.until <= v_now LIMIT 100 FOR UPDATE SKIP LOCKED));
END
$$;

CREATE FUNCTION anthill.withdraw(p_queue int, p_id text) RETURNS void
LANGUAGE sql VOLATILE AS $$ DELETE FROM anthill.consumers WHERE queue = p_queue AND id = p_id $$;

CREATE FUNCTION anthill.live_consumers(p_queue int)
RETURNS TABLE (o_id text, o_kinds text[], o_workers bigint, o_running bigint, o_age bigint, o_seen bigint)
LANGUAGE sql STABLE AS $$
    SELECT c.id, c.kinds, c.workers, c.running, (extract(epoch FROM n.now - c.started) * 1000000)::bigint,
        (extract(epoch FROM n.now - c.seen) * 1000000)::bigint
    FROM anthill.consumers c, (SELECT anthill.anthill_now() AS now) AS n
    WHERE c.queue = p_queue AND c.until > n.now ORDER BY c.started, c.id
$$;
