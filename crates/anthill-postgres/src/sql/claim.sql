-- Claims. Whatever else the queue holds, a claim touches only the jobs that it claims, and those that time or a limit puts
-- in its way. It waits for nobody, but for other claims where the queue has a running limit or a rate.
--
-- While some session has an old snapshot, the index entries of jobs that are gone stay, and a look from the beginning of an
-- index passes them all. So a consumer remembers how far it has looked, and says from where on to look: for each kind and
-- rank a turn. A look from the beginning (`p_full`) finds what such a look misses, and the consumer takes care that these
-- are no large part of its time. Jobs that are ready again in an old place have an index of their own.

-- The first ready jobs of these kinds, in order, behind a place in the order: from the beginning, or of these stretches.
CREATE FUNCTION anthill.first_ready(p_queue int, p_kinds text[], p_full boolean, p_from_kinds text[], p_from_ranks int[],
    p_from_turns timestamptz[], p_to_ranks int[], p_rank int, p_turn timestamptz, p_place bigint, p_most int)
RETURNS TABLE (o_id uuid, o_rank int, o_turn timestamptz, o_place bigint)
LANGUAGE sql STABLE AS $$
    SELECT r.id, r.rank, r.turn, r.place FROM (
        SELECT new.* FROM (
            SELECT k.kind, -40000, '-infinity'::timestamptz, 40000 FROM unnest(p_kinds) AS k (kind) WHERE p_full
            UNION ALL SELECT f.* FROM unnest(p_from_kinds, p_from_ranks, p_from_turns, p_to_ranks) AS f WHERE NOT p_full
            ) AS s (kind, rank, turn, to_rank)
        CROSS JOIN LATERAL (
            SELECT j.id, j.rank, j.turn, j.place FROM anthill.jobs j
            WHERE j.queue = p_queue AND j.state = 0 AND NOT j.returned AND j.kind = s.kind
                AND (j.rank, j.turn) > (s.rank, s.turn) AND j.rank < s.to_rank
                AND (j.rank, j.turn, j.place) > (p_rank, p_turn, p_place)
            ORDER BY j.rank, j.turn, j.place LIMIT p_most) AS new
        UNION ALL
        SELECT again.* FROM unnest(p_kinds) AS s (kind)
        CROSS JOIN LATERAL (
            SELECT j.id, j.rank, j.turn, j.place FROM anthill.jobs j
            WHERE j.queue = p_queue AND j.state = 0 AND j.returned AND j.kind = s.kind
                AND (j.rank, j.turn, j.place) > (p_rank, p_turn, p_place)
            ORDER BY j.rank, j.turn, j.place LIMIT p_most) AS again) AS r
    ORDER BY r.rank, r.turn, r.place LIMIT p_most
$$;

-- The kinds of the ready jobs, in as many steps as there are kinds, however many jobs.
CREATE FUNCTION anthill.ready_kinds(p_queue int) RETURNS SETOF text
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE new (kind) AS (
        (SELECT j.kind FROM anthill.jobs j WHERE j.queue = p_queue AND j.state = 0 AND NOT j.returned ORDER BY j.kind LIMIT 1)
        UNION ALL SELECT (SELECT j.kind FROM anthill.jobs j
            WHERE j.queue = p_queue AND j.state = 0 AND NOT j.returned AND j.kind > new.kind ORDER BY j.kind LIMIT 1)
        FROM new WHERE new.kind IS NOT NULL),
    again (kind) AS (
        (SELECT j.kind FROM anthill.jobs j WHERE j.queue = p_queue AND j.state = 0 AND j.returned ORDER BY j.kind LIMIT 1)
        UNION ALL SELECT (SELECT j.kind FROM anthill.jobs j
            WHERE j.queue = p_queue AND j.state = 0 AND j.returned AND j.kind > again.kind ORDER BY j.kind LIMIT 1)
        FROM again WHERE again.kind IS NOT NULL)
    SELECT new.kind FROM new WHERE new.kind IS NOT NULL UNION SELECT again.kind FROM again WHERE again.kind IS NOT NULL
$$;

-- Claims jobs (B3, B5-B7, B9). A row for each job; the last row, which has no id, tells of the claim itself.
--
-- `p_house`: also removes what has expired or was kept long enough. `p_ends`: also looks for leases that are over, which
-- otherwise is done from `p_next_end` on, or if nothing is claimed (`p_ends_in_vain`). `p_due_from`: no job that is delayed is
-- due before.
CREATE FUNCTION anthill.claim(p_queue int, p_limit int, p_lease bigint, p_kinds text[], p_fragile boolean, p_consumer text,
    p_full boolean, p_house boolean, p_ends boolean, p_ends_in_vain boolean, p_next_end timestamptz, p_due_from timestamptz,
    p_unpark text, p_from_kinds text[], p_from_ranks int[], p_from_turns timestamptz[], p_to_ranks int[])
RETURNS TABLE (o_id uuid, o_claim uuid, o_kind text, o_payload bytea, o_headers jsonb, o_attempt bigint, o_attempts bigint,
    o_due timestamptz, o_rank int, o_turn timestamptz, o_place bigint, o_fragile boolean, o_exclusive boolean, o_keeps boolean,
    o_has_key boolean, o_now timestamptz, o_xmin bigint, o_xid bigint, o_more boolean, o_woke boolean, o_fragile_next boolean,
    o_blocked boolean, o_settled boolean, o_next_due timestamptz, o_next_end timestamptz, o_wait bigint, o_unpark text,
    o_took bigint, o_ends_took bigint)
LANGUAGE plpgsql VOLATILE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    q anthill.queues;
    r record;
    v_done record;
    v_rate record;
    v_chosen record;
    v_begin timestamptz;
    v_left int;
    v_is_locked boolean := false;
    v_is_simple boolean;
    v_has_to_choose boolean;
    v_due_count int := 0;
    -- The first job that is due and not ready, if there are more than one sweep makes ready.
    v_behind_rank int;
    v_behind timestamptz;
    v_kinds text[] := p_kinds;
    v_claimed uuid[];
BEGIN
    LOOP
        SELECT s.*, clock_timestamp() AS first,
                CASE WHEN p_ends OR s.now >= p_next_end THEN (SELECT j.ends FROM anthill.jobs j
                    WHERE j.queue = p_queue AND j.state = 3 ORDER BY j.ends LIMIT 1) ELSE p_next_end END AS ends,
                clock_timestamp() AS second,
                (SELECT j.due FROM anthill.jobs j WHERE j.queue = p_queue AND j.state = 1 AND j.due > p_due_from
                    ORDER BY j.due, j.place LIMIT 1) AS due,
                clock_timestamp() AS third
            -- The oldest transaction: all that is older is seen by what follows.
            INTO STRICT r FROM (SELECT t.*, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest,
                anthill.anthill_now() + t.ahead AS now FROM anthill.queues t WHERE t.queue = p_queue OFFSET 0) AS s;
        v_left := CASE WHEN r.paused THEN 0 ELSE p_limit END;
        EXIT WHEN v_is_locked OR v_left = 0 OR (r.most_running IS NULL AND r.rate_jobs IS NULL);
        -- What the limits allow is seen when the claims before have ended.
        v_is_locked := true;
        PERFORM pg_advisory_xact_lock(anthill.lock_number(p_queue, 'running'));
    END LOOP;
    o_now := r.now;
    o_xmin := r.oldest;
    o_more := false;
    o_woke := false;
    o_fragile_next := false;
    o_blocked := false;
    o_settled := true;
    o_unpark := p_unpark;
    o_next_due := r.due;
    o_next_end := r.ends;
    o_took := extract(epoch FROM r.third - r.second) * 1000000;
    IF p_ends OR o_now >= p_next_end THEN
        o_ends_took := extract(epoch FROM r.second - r.first) * 1000000;
    END IF;

    -- What time has brought.
    v_is_simple := v_left > 0 AND NOT p_house AND r.unpark IS NULL AND r.most_running IS NULL AND r.rate_jobs IS NULL
        AND r.most_per_key IS NULL AND (r.due IS NULL OR r.due > r.now) AND (r.ends IS NULL OR r.ends > r.now);
    IF NOT v_is_simple THEN
        SELECT * INTO q FROM anthill.queues WHERE queue = p_queue;
        IF r.ends <= r.now THEN
            SELECT s.* INTO v_done FROM anthill.sweep_leases(q, o_now) s;
            o_woke := v_done.woke;
            o_more := v_done.seen >= 500;
            SELECT j.ends INTO o_next_end FROM anthill.jobs j WHERE j.queue = p_queue AND j.state = 3 ORDER BY j.ends LIMIT 1;
            -- Somebody has it locked.
            o_blocked := o_next_end IS NOT NULL AND o_next_end <= o_now AND NOT o_more;
        END IF;
        IF r.due <= r.now THEN
            v_due_count := anthill.sweep_due(q, o_now, p_due_from);
            o_woke := o_woke OR v_due_count > 0;
            SELECT j.due, j.rank, j.turn INTO o_next_due, v_behind_rank, v_behind FROM anthill.jobs j
                WHERE j.queue = p_queue AND j.state = 1 AND j.due > p_due_from ORDER BY j.due, j.place LIMIT 1;
            o_settled := o_next_due IS NULL OR o_next_due > o_now;
            IF NOT o_settled AND v_due_count >= 1000 THEN
                o_more := true;
            ELSE
                v_behind := NULL;
                o_blocked := o_blocked OR NOT o_settled;
            END IF;
        END IF;
        IF p_house THEN
            SELECT s.* INTO v_done FROM anthill.sweep_house(q, o_now, p_unpark) s;
            o_woke := o_woke OR v_done.woke;
            o_more := o_more OR v_done.more;
            o_unpark := v_done.next;
        END IF;
        IF q.unpark IS NOT NULL THEN
            SELECT s.* INTO v_done FROM anthill.sweep_keys(q) s;
            o_woke := o_woke OR v_done.woke;
            o_more := o_more OR v_done.moved >= 500;
            o_blocked := o_blocked OR v_done.moved = 0;
        END IF;
    END IF;

    IF v_left > 0 THEN
        v_begin := clock_timestamp();
        IF p_kinds IS NULL THEN
            v_kinds := ARRAY(SELECT anthill.ready_kinds(p_queue));
        END IF;
        IF v_is_locked THEN
            SELECT l.* INTO v_rate FROM anthill.limit_claim(q, o_now, v_left) l;
            v_left := v_rate.jobs;
        END IF;
        v_has_to_choose := r.most_per_key IS NOT NULL OR v_behind IS NOT NULL;
        IF NOT v_has_to_choose THEN
            -- The first ones, up to a fragile one.
            WITH first AS MATERIALIZED (
                SELECT f.o_id FROM anthill.first_ready(p_queue, v_kinds, p_full OR p_kinds IS NULL, p_from_kinds, p_from_ranks,
                    p_from_turns, p_to_ranks, -40000, '-infinity', 0, v_left) f),
            locked AS MATERIALIZED (
                -- By the primary key: with `state = 0` a plan might pass all ready jobs.
                SELECT j.id, j.rank, j.turn, j.place, j.expires, j.suspect OR j.attempt + 1 >= j.attempts AS is_fragile
                FROM anthill.jobs j
                WHERE j.queue = p_queue AND j.id = ANY (ARRAY(SELECT o_id FROM first)) AND j.state + 0 = 0
                ORDER BY j.rank, j.turn, j.place FOR UPDATE SKIP LOCKED),
            counted AS (
                SELECT l.*, count(*) FILTER (WHERE l.is_fragile) OVER w AS fragile, row_number() OVER w AS number
                FROM locked l WINDOW w AS (ORDER BY l.rank, l.turn, l.place ROWS UNBOUNDED PRECEDING))
            SELECT coalesce(array_agg(c.id) FILTER (WHERE c.fragile = 0 OR (c.number = 1 AND p_fragile)), '{}'),
                    coalesce(bool_or(c.is_fragile) AND NOT bool_or(c.is_fragile AND c.number = 1 AND p_fragile), false),
                    coalesce(bool_or(c.expires <= o_now), false)
                        OR (count(*) < v_left AND count(*) < (SELECT count(*) FROM first))
                INTO v_claimed, o_fragile_next, v_has_to_choose FROM counted c;
        END IF;
        IF v_has_to_choose THEN
            SELECT c.* INTO v_chosen FROM anthill.choose(q, p_queue, o_now, v_left, v_kinds, p_fragile,
                v_behind_rank, v_behind, p_full OR p_kinds IS NULL, p_from_kinds, p_from_ranks, p_from_turns, p_to_ranks) c;
            o_more := o_more OR v_chosen.more;
            o_woke := o_woke OR v_chosen.woke;
            o_blocked := o_blocked OR v_chosen.blocked;
            v_claimed := v_chosen.ids;
            o_fragile_next := v_chosen.fragile_next;
        END IF;
        o_took := o_took + extract(epoch FROM clock_timestamp() - v_begin) * 1000000;
    END IF;

    IF cardinality(v_claimed) > 0 THEN
        RETURN QUERY UPDATE anthill.jobs j SET state = 3, returned = false, attempt = j.attempt + 1, claim = gen_random_uuid(),
                ends = anthill.later(o_now, p_lease), together = cardinality(v_claimed) > 1, consumer = p_consumer
            WHERE j.queue = p_queue AND j.id = ANY (v_claimed)
            RETURNING j.id, j.claim, j.kind, j.payload, j.headers, j.attempt, j.attempts, j.due, j.rank, j.turn, j.place,
                j.suspect OR j.attempt >= j.attempts,
                j.unique_key IS NOT NULL OR (j.key IS NOT NULL AND r.most_per_key IS NOT NULL), j.keep IS NOT NULL,
                j.key IS NOT NULL, NULL::timestamptz, NULL::bigint, NULL::bigint, NULL::boolean, NULL::boolean, NULL::boolean,
                NULL::boolean, NULL::boolean, NULL::timestamptz, NULL::timestamptz, NULL::bigint, NULL::text, NULL::bigint,
                NULL::bigint;
        o_next_end := least(o_next_end, anthill.later(o_now, p_lease));
        o_xid := pg_current_xact_id()::text::bigint;
    ELSIF p_ends_in_vain AND o_ends_took IS NULL THEN
        v_begin := clock_timestamp();
        SELECT j.ends INTO o_next_end FROM anthill.jobs j WHERE j.queue = p_queue AND j.state = 3 ORDER BY j.ends LIMIT 1;
        o_ends_took := extract(epoch FROM clock_timestamp() - v_begin) * 1000000;
    END IF;
    IF v_is_locked AND r.rate_jobs IS NOT NULL THEN
        o_wait := anthill.end_rate(q, o_now, v_rate.gap, v_rate.since, v_rate.wait, v_rate.kept, v_rate.behind,
            cardinality(v_claimed), EXISTS (
            SELECT 1 FROM anthill.first_ready(p_queue, v_kinds, p_full OR p_kinds IS NULL, p_from_kinds, p_from_ranks,
                p_from_turns, p_to_ranks, -40000, '-infinity', 0, 1)));
    END IF;
    RETURN NEXT;
END
$$;
