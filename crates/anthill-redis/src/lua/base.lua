-- base: the keys, the clock, and the record of a job. Part of every script; it is put before it when the crate is built.
--
-- All keys are told to each script, in this order, so that a cluster checks all of them before the script begins: while a slot
-- moves, a script runs as a whole on one node, or not at all (TRYAGAIN, ASK).
local conf, counts, kinds, jobs, data, more, ready, delayed, parked, running, dead, done, kept, expiring, keys, keyed, uniques,
    periods, schedules, consumers, seen = unpack(KEYS)

local NEVER = 9007199254740991 -- 2^53 - 1 microseconds after 1970: the year 2255. All times up to it are exact in a double.
local READY, DELAYED, PARKED, RUNNING, DEAD, DONE = 0, 1, 2, 3, 4, 5
local SUSPECT, TOGETHER, KEEPS, CANCEL, HEADERS, ERRORS, PROGRESS, RESULT, LARGE = 1, 2, 4, 8, 16, 32, 64, 128, 256
local LARGE_FROM = 65537 -- bytes of data from which a job is LARGE: claims and lists count what these carry
local band, bor, bnot = bit.band, bit.bor, bit.bnot
local pack, parse, sub = struct.pack, struct.unpack, string.sub
local call = redis.call
local NO_TOKEN = string.rep('\0', 12)

-- The settings 's', the last number of the order 'q', the highest time 'm', who waits 'w', the clock of a test 'c'.
local C = call('HMGET', conf, 's', 'q', 'm', 'w', 'c')
local seq, first_seq = tonumber(C[2] or 0), tonumber(C[2] or 0)

-- paused, running, per key, rate: jobs, ns, burst; max_ready; keep done, keep dead. One more than the value; 0 is none.
local paused, most_running, most_key, rate_jobs, rate_per, rate_burst, most_ready, keep_done, keep_dead, ahead = 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0
if not C[1] then
    -- The store was emptied, or another database: the client makes the queue anew (`open`), and tells that all is gone.
    return redis.error_reply('NOQUEUE it is not there, or not any more')
end
do
    paused, most_running, most_key, rate_jobs, rate_per, rate_burst, most_ready, keep_done, keep_dead, ahead =
        parse('>BI5I5I5I7I5I7I7I7I7', C[1])
end

-- The queue's time never goes back (B10): where the server's clock was set back, or a replica with another clock was promoted, it
-- goes on from the highest time that was stored. That is stored ten times a second at most, so not with each call.
local now = tonumber(C[5])
if not now then
    local t = call('TIME')
    now = t[1] * 1000000 + t[2]
end
now = now + ahead
local mark = tonumber(C[3] or 0)
if now < mark then
    if mark - now > 1000000 then
        -- The settings begin with 39 bytes that stay; `ahead` is the last number in them.
        call('HSET', conf, 's', sub(C[1], 1, -8) .. pack('>I7', ahead + mark - now))
    end
    now = mark
elseif now - mark >= 100000 then
    call('HSET', conf, 'm', string.format('%.0f', now))
end

local function later(micros)
    return math.min(now + micros, NEVER)
end

local function text(number)
    return string.format('%.0f', number)
end

-- The next number of the order. They are stored once, at the end.
local function next_seq()
    seq = seq + 1
    return seq
end

local C_enqueued, C_duplicates, C_done, C_retried, C_died, C_lost, C_expired, C_removed = 'e', 'd', 'f', 'r', 'x', 'l', 'o', 'g'
local counted = {}
local function count(what, n)
    counted[what] = (counted[what] or 0) + (n or 1)
end

-- A job's record. Everything that changes from state to state is in it, in binary of a fixed layout; payload, headers, errors,
-- progress and result are elsewhere, so that a transition does not write them again.
local JOB = '>BI2I2I3I4I4I7I6I7I7c12I7I7I4c0I4c0I4c0'
local function read(record)
    if not record then
        error({ err = 'CORRUPT a job is in an index and has no record: something else has changed the keys, or evicted one' })
    end
    local j = {}
    j.state, j.flags, j.rank, j.kind, j.attempt, j.attempts, j.turn, j.seq, j.due, j.enqueued, j.token, j.expires, j.keep, j.unique,
        j.key, j.who = parse(JOB, record)
    return j
end

local function store(id, j)
    call('HSET', jobs, id, pack(JOB, j.state, j.flags, j.rank, j.kind, j.attempt, j.attempts, j.turn, j.seq, j.due, j.enqueued,
        j.token, j.expires, j.keep, #j.unique, j.unique, #j.key, j.key, #j.who, j.who))
end

local function load(id)
    local record = call('HGET', jobs, id)
    return record and read(record)
end

-- Of a job that is in an index.
local function load_indexed(id)
    return read(call('HGET', jobs, id))
end

local function has(j, flag)
    return band(j.flags, flag) ~= 0
end

local function set(j, flag, on)
    j.flags = on and bor(j.flags, flag) or band(j.flags, bnot(flag))
end

local woke = false

-- Stores what the script has counted, and tells other processes if something is claimable that was not (B11): 'w' is 1 where
-- somebody waits to be told. 0: he has been told; 2: and since then there was more, so that who waits again is told at once.
local function finish()
    if seq ~= first_seq then
        call('HSET', conf, 'q', text(seq))
    end
    for what, n in pairs(counted) do
        call('HINCRBY', counts, what, n)
    end
    if woke then
        if C[4] == '1' then
            call('HSET', conf, 'w', '0')
            -- The channel has the name of this key; the message is who made the change. Who may not publish has stored it all the
            -- same: an error here would come in the middle.
            redis.pcall('PUBLISH', conf, ARGV[1])
        elseif C[4] == '0' then
            call('HSET', conf, 'w', '2')
        end
    end
end
