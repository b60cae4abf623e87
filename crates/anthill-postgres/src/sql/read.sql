-- What is looked at. These change nothing, and see one moment.

-- The details of jobs. Of their data no more than so many bytes; progress and results only if they are no larger.
CREATE FUNCTION anthill.details(p_queue int, p_ids uuid[], p_data int)
RETURNS TABLE (o_id uuid, o_kind text, o_payload bytea, o_size bigint, o_state int, o_rank int, o_attempt bigint,
    o_attempts bigint, o_key text, o_unique text, o_errors text[], o_error_attempts bigint[], o_error_times timestamptz[],
    o_headers jsonb, o_consumer text, o_cancel boolean, o_progress bytea, o_result bytea, o_enqueued timestamptz,
    o_due timestamptz, o_expires timestamptz, o_keep bigint, o_now timestamptz, o_turn timestamptz, o_place bigint)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    v_now timestamptz;
BEGIN
    SELECT anthill.anthill_now() + q.ahead INTO STRICT v_now FROM anthill.queues q WHERE q.queue = p_queue;
    RETURN QUERY SELECT j.id, j.kind::text, CASE WHEN octet_length(j.payload) <= p_data THEN j.payload
            ELSE substring(j.payload FOR p_data) END, octet_length(j.payload)::bigint, j.state::int, j.rank, j.attempt, j.attempts,
        j.key::text, j.unique_key::text,
        ARRAY(SELECT e.value ->> 'error' FROM jsonb_array_elements(j.errors) WITH ORDINALITY AS e ORDER BY e.ordinality),
        ARRAY(SELECT (e.value ->> 'attempt')::bigint FROM jsonb_array_elements(j.errors) WITH ORDINALITY AS e ORDER BY e.ordinality),
        ARRAY(SELECT (e.value ->> 'at')::timestamptz FROM jsonb_array_elements(j.errors) WITH ORDINALITY AS e ORDER BY e.ordinality),
        j.headers, j.consumer, j.cancel_requested,
        CASE WHEN octet_length(j.progress) <= p_data THEN j.progress END,
        CASE WHEN octet_length(j.result) <= p_data THEN j.result END,
        j.enqueued, j.due, j.expires, j.keep, v_now, j.turn, j.place
    FROM anthill.jobs j WHERE j.queue = p_queue AND j.id = ANY (p_ids);
END
$$;

-- The ids of jobs in a state, in the order of that state, behind a job if it is in that state.
CREATE FUNCTION anthill.list(p_queue int, p_state int, p_kind text, p_error text, p_after uuid, p_limit int) RETURNS uuid[]
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    v_kinds text[];
    v_rank int := -40000;
    v_turn timestamptz := '-infinity';
    v_place bigint := 0;
BEGIN
    SELECT j.rank, CASE WHEN p_state = 1 THEN j.due ELSE j.turn END, j.place INTO v_rank, v_turn, v_place
        FROM anthill.jobs j WHERE j.queue = p_queue AND j.id = p_after AND j.state + 0 = p_state;
    IF NOT FOUND THEN
        v_rank := -40000;
        v_turn := '-infinity';
        v_place := 0;
    END IF;
    IF p_state = 0 THEN
        v_kinds := CASE WHEN p_kind IS NULL THEN ARRAY(SELECT anthill.ready_kinds(p_queue)) ELSE ARRAY[p_kind] END;
        RETURN ARRAY(SELECT r.id FROM unnest(v_kinds) AS k (kind) CROSS JOIN LATERAL (
            (SELECT j.id, j.rank, j.turn, j.place FROM anthill.jobs j
                WHERE j.queue = p_queue AND j.state = 0 AND NOT j.returned AND j.kind = k.kind
                    AND (j.rank, j.turn, j.place) > (v_rank, v_turn, v_place)
                    AND (p_error IS NULL OR strpos(j.errors -> -1 ->> 'error', p_error) > 0)
                ORDER BY j.rank, j.turn, j.place LIMIT p_limit)
            UNION ALL
            (SELECT j.id, j.rank, j.turn, j.place FROM anthill.jobs j
                WHERE j.queue = p_queue AND j.state = 0 AND j.returned AND j.kind = k.kind
                    AND (j.rank, j.turn, j.place) > (v_rank, v_turn, v_place)
                    AND (p_error IS NULL OR strpos(j.errors -> -1 ->> 'error', p_error) > 0)
                ORDER BY j.rank, j.turn, j.place LIMIT p_limit)) AS r
            ORDER BY r.rank, r.turn, r.place LIMIT p_limit);
    ELSIF p_state = 1 THEN
        RETURN ARRAY(SELECT j.id FROM anthill.jobs j
            WHERE j.queue = p_queue AND j.state = 1 AND (j.due, j.place) > (v_turn, v_place)
                AND (p_kind IS NULL OR j.kind = p_kind)
                AND (p_error IS NULL OR strpos(j.errors -> -1 ->> 'error', p_error) > 0)
            ORDER BY j.due, j.place LIMIT p_limit);
    ELSIF p_state = 2 THEN
        RETURN ARRAY(SELECT j.id FROM anthill.jobs j
            WHERE j.queue = p_queue AND j.state = 2 AND (j.rank, j.turn, j.place) > (v_rank, v_turn, v_place)
                AND (p_kind IS NULL OR j.kind = p_kind)
                AND (p_error IS NULL OR strpos(j.errors -> -1 ->> 'error', p_error) > 0)
            ORDER BY j.rank, j.turn, j.place LIMIT p_limit);
    ELSIF p_state = 3 THEN
        RETURN ARRAY(SELECT j.id FROM anthill.jobs j
            WHERE j.queue = p_queue AND j.state = 3 AND (j.turn, j.place) > (v_turn, v_place)
                AND (p_kind IS NULL OR j.kind = p_kind)
                AND (p_error IS NULL OR strpos(j.errors -> -1 ->> 'error', p_error) > 0)
            ORDER BY j.turn, j.place LIMIT p_limit);
    ELSIF p_state = 4 THEN
        RETURN ARRAY(SELECT j.id FROM anthill.jobs j
            WHERE j.queue = p_queue AND j.state = 4 AND (j.turn, j.place) > (v_turn, v_place)
                AND (p_kind IS NULL OR j.kind = p_kind)
                AND (p_error IS NULL OR strpos(j.errors -> -1 ->> 'error', p_error) > 0)
            ORDER BY j.turn, j.place LIMIT p_limit);
    ELSE
        RETURN ARRAY(SELECT j.id FROM anthill.jobs j
            WHERE j.queue = p_queue AND j.state = 5 AND (j.turn, j.place) > (v_turn, v_place)
                AND (p_kind IS NULL OR j.kind = p_kind)
                AND (p_error IS NULL OR strpos(j.errors -> -1 ->> 'error', p_error) > 0)
            ORDER BY j.turn, j.place LIMIT p_limit);
    END IF;
END
$$;

-- What a queue holds now, and what it has counted.
CREATE FUNCTION anthill.stats(p_queue int)
RETURNS TABLE (o_ready bigint, o_delayed bigint, o_parked bigint, o_running bigint, o_dead bigint, o_results bigint,
    o_oldest timestamptz, o_now timestamptz, o_paused boolean, o_enqueued bigint, o_duplicates bigint, o_done bigint,
    o_retried bigint, o_died bigint, o_lost_leases bigint, o_expired bigint, o_removed bigint)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    v_kind text;
    v_rank int;
    v_first record;
    v_gone bigint;
BEGIN
    SELECT anthill.anthill_now() + q.ahead, q.paused INTO STRICT o_now, o_paused FROM anthill.queues q WHERE q.queue = p_queue;
    -- Those that are in their old place may be ready for a shorter time than the turn says.
    SELECT count(*), min(j.due) INTO o_ready, o_oldest FROM anthill.jobs j
        WHERE j.queue = p_queue AND j.state = 0 AND j.returned;
    SELECT o_ready + count(*) INTO o_ready FROM anthill.jobs j WHERE j.queue = p_queue AND j.state = 0 AND NOT j.returned;
    SELECT count(*) INTO o_delayed FROM anthill.jobs j WHERE j.queue = p_queue AND j.state = 1;
    SELECT count(*) INTO o_parked FROM anthill.jobs j WHERE j.queue = p_queue AND j.state = 2;
    SELECT count(*) INTO o_running FROM anthill.jobs j WHERE j.queue = p_queue AND j.state = 3;
    SELECT count(*) INTO o_dead FROM anthill.jobs j WHERE j.queue = p_queue AND j.state = 4;
    SELECT count(*) INTO o_results FROM anthill.jobs j WHERE j.queue = p_queue AND j.state = 5;
    -- Of the others the first one of each kind and rank is the oldest.
    FOR v_kind IN SELECT anthill.ready_kinds(p_queue) LOOP
        v_rank := -40000;
        LOOP
            SELECT j.rank, j.turn INTO v_first FROM anthill.jobs j
                WHERE j.queue = p_queue AND j.state = 0 AND NOT j.returned AND j.kind = v_kind AND j.rank > v_rank
                ORDER BY j.rank, j.turn, j.place LIMIT 1;
            EXIT WHEN NOT FOUND;
            v_rank := v_first.rank;
            o_oldest := least(o_oldest, v_first.turn);
        END LOOP;
    END LOOP;
    SELECT coalesce(sum(c.gone), 0), coalesce(sum(c.duplicates), 0), coalesce(sum(c.done), 0), coalesce(sum(c.retried), 0),
            coalesce(sum(c.died), 0), coalesce(sum(c.lost_leases), 0), coalesce(sum(c.expired), 0), coalesce(sum(c.removed), 0)
        INTO v_gone, o_duplicates, o_done, o_retried, o_died, o_lost_leases, o_expired, o_removed
        FROM anthill.counts c WHERE c.queue = p_queue;
    o_enqueued := v_gone + o_ready + o_delayed + o_parked + o_running + o_dead + o_results;
    RETURN NEXT;
END
$$;
