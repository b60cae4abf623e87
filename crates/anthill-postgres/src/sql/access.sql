-- How programs open a queue, what any client may call, and roles.

-- What a program has to know of a queue: the version of the tables, the queue's number, who they are, and the server's settings.
-- Nothing, if there is no such queue.
CREATE FUNCTION anthill.find_queue(p_name text)
RETURNS TABLE (o_version int, o_queue int, o_identity text, o_channel text, o_settings text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT v.version, q.queue, current_database() || '/' || v.identity || '?' || q.queue, anthill.channel(),
        ARRAY[current_setting('default_transaction_isolation'), current_setting('fsync'),
            current_setting('synchronous_commit'), current_setting('synchronous_standby_names')]
    FROM (SELECT max(i.version) AS version, min(i.identity::text) AS identity FROM anthill.versions i) AS v, anthill.queues q
    WHERE q.name = p_name
$$;

-- The number of a queue, if it is one of this database: for a program that calls within a transaction of its own.
CREATE FUNCTION anthill.here(p_identity text) RETURNS int
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_number text := substring(p_identity FROM '[0-9]+$');
BEGIN
    IF p_identity IS DISTINCT FROM (SELECT current_database() || '/' || min(v.identity::text) || '?' || v_number
            FROM anthill.versions v) THEN
        RAISE EXCEPTION 'the queue is in another database' USING ERRCODE = 'AH002';
    END IF;
    RETURN v_number;
END
$$;

-- Makes a queue, if it does not exist.
CREATE FUNCTION anthill.make_queue(p_name text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO anthill.queues (name) SELECT p_name WHERE NOT EXISTS (SELECT 1 FROM anthill.queues q WHERE q.name = p_name)
        ON CONFLICT (name) DO NOTHING
$$;

-- The version of the tables, which a program must know.
CREATE FUNCTION anthill.version() RETURNS int
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT max(v.version) FROM anthill.versions v
$$;

-- Enqueues a job as a part of the caller's own transaction: it is enqueued when that commits, and never if it does not. Any client
-- can call this, in any language.
--
-- The payload is what the job's handler expects. Returns the id of the job that will run: of this one, or of the one that it is
-- a duplicate of. The error AH001 says that the queue is full, AH002 that there is no such queue.
CREATE FUNCTION anthill.enqueue(
    queue text,
    kind text,
    payload json,
    id uuid DEFAULT NULL,               -- the same id again adds nothing, while its job or its result is stored
    priority smallint DEFAULT 0,        -- higher numbers go first
    delay interval DEFAULT '0',
    attempts bigint DEFAULT 26,
    expires interval DEFAULT NULL,      -- it is removed if it still waits then
    unique_key text DEFAULT NULL,       -- one at a time
    debounce boolean DEFAULT false,     -- one that waits gets the new data, and waits anew
    once_key text DEFAULT NULL,         -- one in a period
    once_period interval DEFAULT NULL,
    key text DEFAULT NULL,              -- those with the same key share a limit
    keep_result interval DEFAULT NULL,
    headers jsonb DEFAULT NULL          -- an object of texts
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    q anthill.queues;
    v_id uuid := coalesce(id, anthill.new_id());
    v_owner uuid;
BEGIN
    SELECT * INTO q FROM anthill.queues s WHERE s.name = enqueue.queue;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no queue %', quote_literal(enqueue.queue) USING ERRCODE = 'AH002',
            HINT = 'A program that opens the queue makes it.';
    ELSIF kind IS NULL OR payload IS NULL THEN
        RAISE EXCEPTION 'a job has a kind and a payload' USING ERRCODE = 'null_value_not_allowed';
    ELSIF (once_key IS NULL) <> (once_period IS NULL) THEN
        RAISE EXCEPTION 'once_key and once_period go together' USING ERRCODE = 'null_value_not_allowed';
    ELSIF headers IS NOT NULL AND (jsonb_typeof(headers) <> 'object'
            OR EXISTS (SELECT 1 FROM jsonb_each(headers) h WHERE jsonb_typeof(h.value) <> 'string')) THEN
        RAISE EXCEPTION 'headers are an object of texts' USING ERRCODE = 'invalid_parameter_value';
    ELSIF octet_length(kind) > 1000 OR octet_length(key) > 2000 OR octet_length(unique_key) > 2000
            OR octet_length(once_key) > 2000 THEN
        RAISE EXCEPTION 'a kind has at most 1000 bytes, and a key 2000' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT a.o_owner INTO v_owner FROM anthill.add_jobs(q, true, ARRAY[v_id], ARRAY[kind],
        ARRAY[convert_to(payload::text, 'UTF8')], ARRAY[-priority::int], ARRAY[anthill.micros(delay)],
        ARRAY[greatest(attempts, 1)], ARRAY[anthill.micros(expires)], ARRAY[anthill.micros(keep_result)], ARRAY[key],
        CASE WHEN unique_key IS NOT NULL THEN ARRAY[unique_key] END, CASE WHEN once_key IS NOT NULL THEN ARRAY[once_key] END,
        ARRAY[anthill.micros(once_period)], ARRAY[debounce AND unique_key IS NOT NULL], ARRAY[headers]) a;
    RETURN coalesce(v_owner, v_id);
END
$$;

-- The microseconds of an interval; none of them if it is negative. A month has 30 days.
CREATE FUNCTION anthill.micros(p_time interval) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_time IS NOT NULL
        THEN least(greatest(extract(epoch FROM p_time) * 1000000, 0), 9000000000000000000)::bigint END
$$;

-- Nobody but the owner may do anything, until he says so.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA anthill FROM PUBLIC;

-- Lets a role enqueue, in all queues, and nothing else: by programs that open a queue, and by the function enqueue.
CREATE FUNCTION anthill.let_enqueue(p_role name) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA anthill TO %I', p_role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION anthill.find_queue, anthill.make_queue, anthill.version, anthill.here,
        anthill.channel, anthill.enqueue_job, anthill.enqueue_jobs, anthill.enqueue TO %I', p_role);
END
$$;

-- Lets a role look at all queues, and change nothing.
CREATE FUNCTION anthill.let_look(p_role name) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA anthill TO %I', p_role);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA anthill TO %I', p_role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION anthill.find_queue, anthill.version, anthill.anthill_now, anthill.details,
        anthill.list, anthill.stats, anthill.ready_kinds, anthill.schedules, anthill.live_consumers TO %I', p_role);
END
$$;

-- Lets a role do all that a consumer and an operator do, but not change the tables themselves.
CREATE FUNCTION anthill.let_work(p_role name) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA anthill TO %I', p_role);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA anthill TO %I', p_role);
    EXECUTE format('GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA anthill TO %I', p_role);
    EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA anthill TO %I', p_role);
END
$$;

REVOKE ALL ON FUNCTION anthill.let_enqueue, anthill.let_look, anthill.let_work FROM PUBLIC;
