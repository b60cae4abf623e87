-- The limits of a queue, as its claims see to them: the running limit, the rate, the limit per key.

-- The rate limit: how many of `p_limit` jobs may start now, and the moment that this counts from; or how long to wait for one.
-- All in nanoseconds. `p_behind`: jobs have waited for the rate since `p_kept`, so that a late wake-up alone kept them from
-- starting; then a lateness of 20 ms is made up for.
CREATE FUNCTION anthill.admit(p_queue anthill.queues, p_kept numeric, p_behind boolean, p_now numeric, p_limit int,
    OUT jobs int, OUT gap numeric, OUT since numeric, OUT wait numeric)
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_left numeric;
BEGIN
    gap := floor(p_queue.rate_per::numeric / greatest(p_queue.rate_jobs, 1));
    jobs := 0;
    IF gap = 0 THEN
        jobs := p_limit;
        since := p_now;
        RETURN;
    END IF;
    since := greatest(p_kept, p_now - CASE WHEN p_behind THEN 20000000 ELSE 0 END);
    v_left := greatest(gap * greatest(p_queue.rate_burst, 1) + p_now - since, 0);
    IF v_left < gap THEN
        wait := gap - v_left;
    ELSE
        jobs := least(floor(v_left / gap), p_limit);
    END IF;
END
$$;

-- What a claim does about the key of a ready job, which is locked: 'start' it, 'park' it as there is no room, 'swap' it with a
-- parked one that goes before it, or 'leave' it, as somebody is at the key right now. `p_claimed` are jobs of this claim.
CREATE FUNCTION anthill.key_verdict(p_queue anthill.queues, p_key text, p_rank int, p_turn timestamptz, p_place bigint,
    p_claimed uuid[], OUT verdict text, OUT other uuid)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_running bigint;
    v_first record;
BEGIN
    IF NOT anthill.try_key(p_queue.queue, p_key) THEN
        verdict := 'leave';
        RETURN;
    END IF;
    SELECT count(*) INTO v_running FROM (
        SELECT 1 FROM anthill.jobs j WHERE j.queue = p_queue.queue AND j.key = p_key AND j.state = 3
        UNION ALL
        SELECT 1 FROM anthill.jobs j WHERE j.queue = p_queue.queue AND j.id = ANY (p_claimed) AND j.key || '' = p_key
        LIMIT p_queue.most_per_key) AS found;
    IF v_running >= p_queue.most_per_key THEN
        verdict := 'park';
        RETURN;
    END IF;
    -- Not `(rank, turn, place) < …`: an index scan would end only where the rank does.
    SELECT j.id, j.rank, j.turn, j.place INTO v_first FROM anthill.jobs j
        WHERE j.queue = p_queue.queue AND j.key = p_key AND j.state = 2 ORDER BY j.rank, j.turn, j.place LIMIT 1;
    verdict := 'start';
    IF FOUND AND (v_first.rank, v_first.turn, v_first.place) < (p_rank, p_turn, p_place) THEN
        SELECT j.id INTO other FROM anthill.jobs j
            WHERE j.queue = p_queue.queue AND j.id = v_first.id AND j.state + 0 = 2 FOR UPDATE SKIP LOCKED;
        IF FOUND THEN
            verdict := 'swap';
        END IF;
    END IF;
END
$$;

-- How many jobs a claim may start, by the running limit and the rate. Other claims of the queue wait for this one.
CREATE FUNCTION anthill.limit_claim(p_queue anthill.queues, p_now timestamptz, p_limit int, OUT jobs int, OUT gap numeric,
    OUT since numeric, OUT wait numeric, OUT kept numeric, OUT behind boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_admitted record;
BEGIN
    jobs := p_limit;
    IF p_queue.most_running IS NOT NULL THEN
        jobs := least(jobs, greatest(p_queue.most_running - (SELECT count(*) FROM (SELECT 1 FROM anthill.jobs j
            WHERE j.queue = p_queue.queue AND j.state = 3 LIMIT p_queue.most_running) AS found), 0));
    END IF;
    IF p_queue.rate_jobs IS NOT NULL THEN
        SELECT r.kept, r.behind INTO STRICT kept, behind FROM anthill.rates r WHERE r.queue = p_queue.queue FOR UPDATE;
        SELECT a.* INTO v_admitted FROM anthill.admit(p_queue, kept, behind, anthill.nanos(p_now), jobs) a;
        jobs := v_admitted.jobs;
        gap := v_admitted.gap;
        since := v_admitted.since;
        wait := v_admitted.wait;
    END IF;
END
$$;

CREATE FUNCTION anthill.nanos(p_time timestamptz) RETURNS numeric
LANGUAGE sql IMMUTABLE AS $$ SELECT floor(extract(epoch FROM p_time) * 1000000) * 1000 $$;

-- Stores what a claim that limit_claim allowed has started, and whether it left jobs. Returns how long these have to wait, in
-- nanoseconds.
CREATE FUNCTION anthill.end_rate(p_queue anthill.queues, p_now timestamptz, p_gap numeric, p_since numeric, p_wait numeric,
    p_kept numeric, p_behind boolean, p_started int, p_left boolean) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_kept numeric := p_kept;
    v_next record;
BEGIN
    IF p_wait IS NULL THEN
        v_kept := p_since + p_gap * coalesce(p_started, 0);
    END IF;
    IF p_started > 0 OR p_behind OR p_left THEN
        UPDATE anthill.rates r SET kept = v_kept, behind = p_left WHERE r.queue = p_queue.queue;
    END IF;
    IF NOT p_left THEN
        RETURN NULL;
    END IF;
    SELECT a.* INTO v_next FROM anthill.admit(p_queue, v_kept, true, anthill.nanos(p_now), 1) a;
    RETURN coalesce(v_next.wait, p_wait);
END
$$;

-- Chooses jobs to claim, which are locked then, where that is not as simple as to take the first ones: there is a limit per key,
-- jobs have expired, others have the first ones locked, or more jobs are due than were made ready.
--
-- `p_behind_rank`, `p_behind`: the first job that is due and not ready yet; those behind it may not go before.
CREATE FUNCTION anthill.choose(q anthill.queues, p_queue int, p_now timestamptz, p_limit int, p_kinds text[],
    p_fragile boolean, p_behind_rank int, p_behind timestamptz, p_full boolean, p_from_kinds text[], p_from_ranks int[],
    p_from_turns timestamptz[], p_to_ranks int[], OUT ids uuid[], OUT fragile_next boolean, OUT more boolean, OUT woke boolean,
    OUT blocked boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_count int;
    v_window int := least(p_limit, 1000) + 4;
    v_ids uuid[];
    v_passed int := 0;
    v_expired int := 0;
    v_locked int;
    v_is_last boolean;
    v_rescan boolean;
    -- How far it has looked, and the end of the window.
    v_rank int := -40000;
    v_turn timestamptz := '-infinity';
    v_place bigint := 0;
    v_end_rank int;
    v_end_turn timestamptz;
    v_end_place bigint;
    v_job record;
    v_done record;
    v_verdict record;
BEGIN
    IF q.queue IS NULL THEN
        SELECT * INTO STRICT q FROM anthill.queues s WHERE s.queue = p_queue;
    END IF;
    ids := '{}';
    fragile_next := false;
    more := false;
    woke := false;
    blocked := false;
    <<looks>>
    WHILE cardinality(ids) < p_limit LOOP
        IF v_passed >= 500 THEN
            more := true;
            EXIT;
        END IF;
        SELECT array_agg(f.o_id), count(*) < v_window, (array_agg(f.o_rank))[count(*)::int], (array_agg(f.o_turn))[count(*)::int],
                (array_agg(f.o_place))[count(*)::int]
            INTO v_ids, v_is_last, v_end_rank, v_end_turn, v_end_place
            FROM anthill.first_ready(p_queue, p_kinds, p_full, p_from_kinds, p_from_ranks, p_from_turns, p_to_ranks, v_rank,
                v_turn, v_place, v_window) f;
        EXIT WHEN v_ids IS NULL;
        v_rescan := false;
        v_locked := 0;
        v_count := p_limit - cardinality(ids);
        FOR v_job IN
            SELECT j.id, j.rank, j.turn, j.place, j.key, j.unique_key, j.expires,
                j.suspect OR j.attempt + 1 >= j.attempts AS is_fragile
            FROM anthill.jobs j WHERE j.queue = p_queue AND j.id = ANY (v_ids) AND j.state + 0 = 0
            ORDER BY j.rank, j.turn, j.place LIMIT v_count FOR UPDATE SKIP LOCKED
        LOOP
            v_locked := v_locked + 1;
            v_rank := v_job.rank;
            v_turn := v_job.turn;
            v_place := v_job.place;
            IF (v_rank, v_turn) > (p_behind_rank, p_behind) THEN
                EXIT looks;
            ELSIF v_job.expires <= p_now THEN
                SELECT e.* INTO v_done FROM anthill.expire(q, v_job.id, v_job.key, v_job.unique_key) e;
                v_passed := v_passed + 1;
                v_expired := v_expired + v_done.done::int;
                blocked := blocked OR NOT v_done.done;
                woke := woke OR v_done.woke;
                v_rescan := v_rescan OR v_done.woke;
                CONTINUE;
            ELSIF q.most_per_key IS NOT NULL AND v_job.key IS NOT NULL THEN
                SELECT v.* INTO v_verdict FROM anthill.key_verdict(q, v_job.key, v_rank, v_turn, v_place, ids) v;
                IF v_verdict.verdict = 'leave' THEN
                    blocked := true;
                    CONTINUE;
                ELSIF v_verdict.verdict <> 'start' THEN
                    UPDATE anthill.jobs j SET state = CASE WHEN j.id = v_job.id THEN 2 ELSE 0 END, returned = true
                        WHERE j.queue = p_queue AND j.id IN (v_job.id, v_verdict.other);
                    v_passed := v_passed + 1;
                    woke := woke OR v_verdict.verdict = 'swap';
                    v_rescan := v_rescan OR v_verdict.verdict = 'swap';
                    CONTINUE;
                END IF;
            END IF;
            IF v_job.is_fragile AND NOT (p_fragile AND cardinality(ids) = 0) THEN
                fragile_next := true;
                EXIT looks;
            END IF;
            ids := ids || v_job.id;
            EXIT looks WHEN v_job.is_fragile;
        END LOOP;
        IF v_rescan THEN
            v_rank := -40000;
            v_turn := '-infinity';
            v_place := 0;
        ELSIF v_locked < v_count THEN
            -- Others have the rest of the window locked: on, behind it.
            EXIT WHEN v_is_last;
            v_rank := v_end_rank;
            v_turn := v_end_turn;
            v_place := v_end_place;
            v_window := least(v_window * 2, 20000);
        END IF;
    END LOOP;
    IF v_expired > 0 THEN
        INSERT INTO anthill.counts (queue, expired, gone) VALUES (p_queue, v_expired, v_expired);
    END IF;
END
$$;
