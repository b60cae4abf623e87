#!lua
-- needs: base
-- lazy: moves
-- Stores jobs, all or none (B1, B2): at most 500. KEYS: all.
-- ARGV: who; for a schedule that fires its name, its next time as the caller knows it, and the one after that (all empty
-- otherwise); the number of kinds, and their names; then for each job 3 texts, and as many more as the second one says:
--   id; 'head': >B parts, I2 kind (in the list of names, from 1 on), I2 rank, I4 attempts, I7 delay, I7 expires + 1, I7 keep + 1,
--   I7 period + 1, B debounce; payload; and where `parts` has the bit: 1 the unique key, 2 once, 4 key, 8 headers.
-- Answers: nothing if all were added. Otherwise the places of duplicates and their owners: {place, id, place, id, …}.
-- {'PAUSED'} and {'CHANGED'}: the schedule does not fire.
-- {'FULL'} with what max_ready allows; nothing was stored then. {'SWEEP'}: call `sweep` until it is done, and then this again.
local kind_names, at = {}, 6
local schedule = ARGV[2] ~= '' and ARGV[2]
if schedule then
    if band(paused, 1) == 1 then
        return { 'PAUSED' }
    end
    -- The next time is the first number of a schedule, in seconds; they may be before 1970.
    local stored = call('HGET', schedules, schedule)
    if not stored or parse('>i8', stored) ~= tonumber(ARGV[3]) then
        return { 'CHANGED' }
    end
    call('HSET', schedules, schedule, pack('>i8', tonumber(ARGV[4])) .. sub(stored, 9))
    if #ARGV == 5 then
        finish()
        return {}
    end
end
for i = 1, tonumber(ARGV[5]) do
    kind_names[i] = ARGV[at]
    at = at + 1
end
local HEAD = '>BI2I2I4I7I7I7I7B'

-- Reads all, before anything is written.
local list, ids, by_id = {}, {}, {}
while at <= #ARGV do
    local n = { id = ARGV[at], payload = ARGV[at + 2], unique = '', once = '', key = '' }
    n.parts, n.kind, n.rank, n.attempts, n.delay, n.expires, n.keep, n.period, n.debounce = parse(HEAD, ARGV[at + 1])
    at = at + 3
    if n.parts > 0 then
        if band(n.parts, 1) ~= 0 then n.unique = ARGV[at]; at = at + 1 end
        if band(n.parts, 2) ~= 0 then n.once = ARGV[at]; at = at + 1 end
        if band(n.parts, 4) ~= 0 then n.key = ARGV[at]; at = at + 1 end
        if band(n.parts, 8) ~= 0 then n.headers = ARGV[at]; at = at + 1 end
    end
    list[#list + 1] = n
    ids[#ids + 1] = n.id
end
local there = call('HMGET', jobs, unpack(ids))

-- One that has expired does not have its key, even if no sweep has removed it yet. (Only read here.)
local function holder(name)
    local o = rest().owner_of(name)
    if o and o.held == 1 then
        local j = load(o.id)
        o.waits = j and j.state <= PARKED
        if o.waits and j.expires > 0 and j.expires <= now then
            o.expired, o.held, o.waits = true, 0, false
            if o.till == 0 then
                return nil, o
            end
        end
        o.job = j
    end
    return o, o
end

if most_ready > 0 and not schedule then
    local room = most_ready - 1 - call('ZCARD', ready) - call('ZCARD', parked)
    -- What time has brought counts, and what it has taken does not.
    for _, index in ipairs({ delayed, running, expiring }) do
        if #call('ZRANGEBYSCORE', index, '-inf', text(now), 'LIMIT', 0, 1) > 0 then
            return { 'SWEEP' }
        end
    end
    if #list > room then
        local own_ids, own_keys = {}, {}
        for i, n in ipairs(list) do
            local again = there[i] or own_ids[n.id] or (n.unique ~= '' and own_keys[n.unique]) or (n.once ~= '' and own_keys[n.once])
            if not again then
                local once = n.once ~= '' and not (n.debounce == 1 and n.once == n.unique) and rest().owner_of(n.once)
                local unique = n.unique ~= '' and holder(n.unique)
                again = once or (unique and not (n.debounce == 1 and unique.held == 1 and not unique.waits))
            end
            if not again then
                own_ids[n.id] = true
                if n.unique ~= '' then own_keys[n.unique] = true end
                if n.once ~= '' then own_keys[n.once] = true end
                if n.delay == 0 then
                    room = room - 1
                    if room < 0 then
                        return { 'FULL' }
                    end
                end
            end
        end
    end
end

-- The numbers of the kinds, which they get when they are first seen.
local kind_numbers = {}
for i, name in ipairs(kind_names) do
    kind_names[i] = '=' .. name
end
for i, number in ipairs(call('HMGET', kinds, unpack(kind_names))) do
    if not number then
        number = call('HINCRBY', kinds, 'last', 1)
        call('HSET', kinds, kind_names[i], number, '#' .. number, sub(kind_names[i], 2))
    end
    kind_numbers[i] = tonumber(number)
end

local answer = {}
local function duplicate(i, of)
    count(C_duplicates)
    answer[#answer + 1] = i
    answer[#answer + 1] = of
end

-- A waiting job gets the data of a newer one, and waits anew.
local function debounce(id, j, n)
    rest().move_as(id, j, n.delay == 0 and READY or DELAYED, function()
        j.kind, j.due, j.seq = kind_numbers[n.kind], later(n.delay), next_seq()
        j.turn = j.due
        set(j, KEEPS, false)
        set(j, HEADERS, n.headers ~= nil)
        set(j, LARGE, #n.payload >= LARGE_FROM)
    end)
    call('HSET', data, id, n.payload)
    if n.headers then
        call('HSET', more, 'h' .. id, n.headers)
    else
        call('HDEL', more, 'h' .. id)
    end
    woke = true
end

-- A job that has expired is no duplicate, even if no sweep has removed it yet.
for i, n in ipairs(list) do
    local j = there[i] and load(n.id)
    if j and j.state <= PARKED and j.expires > 0 and j.expires <= now then
        rest().remove(n.id, j)
        count(C_expired)
        j = nil
    end
    there[i] = j
end

-- What is plain is written at the end, in four calls.
local records, payloads, readies, delays = {}, {}, {}, {}
for i, n in ipairs(list) do
    local of
    if there[i] or by_id[n.id] then
        of = n.id
    end
    if not of and n.once ~= '' and not (n.debounce == 1 and n.once == n.unique) then
        local o = holder(n.once)
        of = o and o.id
    end
    if not of and n.unique ~= '' then
        local o, stale = holder(n.unique)
        if stale and stale.expired then
            for k, other in ipairs(ids) do
                if other == stale.id then
                    there[k] = nil
                end
            end
            rest().remove(stale.id, stale.job or load(stale.id))
            count(C_expired)
        end
        if o then
            if n.debounce == 1 and o.held == 1 then
                if o.waits then
                    debounce(o.id, o.job, n)
                    of = o.id
                end
            else
                of = o.id
            end
        end
    end
    if of then
        duplicate(i, of)
    else
        by_id[n.id] = true
        count(C_enqueued)
        if n.once ~= '' then
            rest().own(n.once, n.id, n.once == n.unique and 1 or 0, n.period > 0 and later(n.period - 1) or 0)
        end
        if n.unique ~= '' and n.unique ~= n.once then
            rest().own(n.unique, n.id, 1, 0)
        end
        local due, number = later(n.delay), next_seq()
        local expires = n.expires > 0 and later(n.expires - 1) or 0
        if expires == NEVER then expires = 0 end
        local flags = (n.headers and HEADERS or 0) + (#n.payload >= LARGE_FROM and LARGE or 0)
        local state = n.delay == 0 and READY or DELAYED
        woke = true -- also if all are delayed: a consumer may sleep past the time
        if n.headers then
            call('HSET', more, 'h' .. n.id, n.headers)
        end
        if expires > 0 then
            call('ZADD', expiring, text(expires), n.id)
        end
        if n.key == '' and n.unique == '' then
            payloads[#payloads + 1] = n.id
            payloads[#payloads + 1] = n.payload
            records[#records + 1] = n.id
            records[#records + 1] = pack(JOB, state, flags, n.rank, kind_numbers[n.kind], 0, n.attempts, due, number, due, now,
                NO_TOKEN, expires, n.keep, 0, '', 0, '', 0, '')
            if state == READY then
                readies[#readies + 1] = 0
                readies[#readies + 1] = pack('>I3I2I7I6', kind_numbers[n.kind], n.rank, due, number) .. n.id
            else
                delays[#delays + 1] = text(due)
                delays[#delays + 1] = pack('>I6', number) .. n.id
            end
        else
            -- The next one of the batch may meet it, and give it other data.
            call('HSET', data, n.id, n.payload)
            local j = { state = state, flags = flags, rank = n.rank, kind = kind_numbers[n.kind], attempt = 0,
                attempts = n.attempts, turn = due, seq = number, due = due, enqueued = now, token = NO_TOKEN,
                expires = expires, keep = n.keep, unique = n.unique, key = n.key, who = '' }
            rest().link(n.id, j)
            store(n.id, j)
            rest().balance(n.key, 2)
        end
    end
end
if #payloads > 0 then call('HSET', data, unpack(payloads)) end
if #records > 0 then call('HSET', jobs, unpack(records)) end
if #readies > 0 then call('ZADD', ready, unpack(readies)) end
if #delays > 0 then call('ZADD', delayed, unpack(delays)) end
if loaded then
    loaded.finish_keys()
end
finish()
return answer
