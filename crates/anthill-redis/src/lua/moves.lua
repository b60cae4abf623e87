-- moves: the indexes of the states, keys (B7), unique keys, and how a job goes from state to state. After base.
-- exports: key_of finish_keys link unlink balance owner_of own free forget remove move move_as make_ready add_error end_attempt bury expire_again

-- The place in the order of B6, in bytes that sort as it does; the id is behind it, so that whoever has a place has the job.
local function place(id, j)
    return pack('>I2I7I6', j.rank, j.turn, j.seq) .. id
end

-- A key's number, and how many of its jobs run, are ready and are parked. Kept here until the end.
local key_cache, key_list = {}, {}
local function key_of(name)
    local k = key_cache[name]
    if not k then
        k = {}
        local stored = call('HGET', keys, name)
        if stored then
            k.number, k.running, k.ready, k.parked = parse('>I6I4I4I4', stored)
        else
            k.number, k.running, k.ready, k.parked = next_seq(), 0, 0, 0
        end
        k.prefix = pack('>I6', k.number)
        key_cache[name] = k
        key_list[#key_list + 1] = name
    end
    return k
end

local function finish_keys()
    for _, name in ipairs(key_list) do
        local k = key_cache[name]
        if k.running + k.ready + k.parked == 0 then
            call('HDEL', keys, name)
        else
            call('HSET', keys, name, pack('>I6I4I4I4', k.number, k.running, k.ready, k.parked))
        end
    end
end

-- Puts a job into the index of its state, or takes it out; only a claim makes one run. The record is stored by the caller.
local function link(id, j)
    local s = j.state
    if s == READY then
        local p = place(id, j)
        call('ZADD', ready, 0, pack('>I3', j.kind) .. p)
        if j.key ~= '' then
            local k = key_of(j.key)
            k.ready = k.ready + 1
            call('ZADD', keyed, 0, k.prefix .. 'r' .. p)
        end
        woke = true
    elseif s == PARKED then
        local p, k = place(id, j), key_of(j.key)
        call('ZADD', parked, 0, p)
        k.parked = k.parked + 1
        call('ZADD', keyed, 0, k.prefix .. 'p' .. p)
    elseif s == DELAYED then
        call('ZADD', delayed, text(j.due), pack('>I6', j.seq) .. id)
    elseif s == DEAD then
        call('ZADD', dead, text(j.due), pack('>I6', j.seq) .. id)
    end
end

local function unlink(id, j)
    local s = j.state
    if s == READY then
        local p = place(id, j)
        call('ZREM', ready, pack('>I3', j.kind) .. p)
        if j.key ~= '' then
            local k = key_of(j.key)
            k.ready = k.ready - 1
            call('ZREM', keyed, k.prefix .. 'r' .. p)
        end
    elseif s == PARKED then
        local p, k = place(id, j), key_of(j.key)
        call('ZREM', parked, p)
        k.parked = k.parked - 1
        call('ZREM', keyed, k.prefix .. 'p' .. p)
    elseif s == DELAYED then
        call('ZREM', delayed, pack('>I6', j.seq) .. id)
    elseif s == RUNNING then
        call('ZREM', running, id)
        if j.key ~= '' then
            local k = key_of(j.key)
            k.running = k.running - 1
        end
    elseif s == DEAD then
        call('ZREM', dead, pack('>I6', j.seq) .. id)
    else
        call('ZREM', done, pack('>I6', j.seq) .. id)
        call('ZREM', kept, pack('>I6', j.seq) .. id)
    end
end

-- B7: as many jobs with the key are ready as have room, the first ones. After a step of one job one move is enough; after the limit
-- was changed sweep_keys does `most` at a time. Returns how many it moved.
local function balance(name, most)
    if name == '' then
        return 0
    end
    local k, moved = key_of(name), 0
    local room = most_key > 0 and math.max(most_key - 1 - k.running, 0) or NEVER
    while moved < most do
        local from, to
        if k.ready > room then
            from = call('ZREVRANGEBYLEX', keyed, '(' .. k.prefix .. 's', '[' .. k.prefix .. 'r', 'LIMIT', 0, 1)[1]
            to = PARKED
        elseif k.parked > 0 then
            from = call('ZRANGEBYLEX', keyed, '[' .. k.prefix .. 'p', '(' .. k.prefix .. 'q', 'LIMIT', 0, 1)[1]
            to = READY
            if k.ready >= room then
                if room == 0 then
                    break
                end
                -- The first parked one may go before the last ready one, which is parked in the next turn.
                local last = call('ZREVRANGEBYLEX', keyed, '(' .. k.prefix .. 's', '[' .. k.prefix .. 'r', 'LIMIT', 0, 1)[1]
                local r1, t1, q1 = parse('>I2I7I6', from, 8)
                local r2, t2, q2 = parse('>I2I7I6', last, 8)
                if r1 > r2 or (r1 == r2 and (t1 > t2 or (t1 == t2 and q1 > q2))) then
                    break
                end
            end
        else
            break
        end
        local id = sub(from, -16)
        local j = load_indexed(id)
        unlink(id, j)
        j.state = to
        link(id, j)
        store(id, j)
        moved = moved + 1
    end
    return moved
end

-- Unique keys: who has one, whether until he is over, and until when a period takes it.
local function owner_of(name)
    local stored = call('HGET', uniques, name)
    if not stored then
        return nil
    end
    local o = {}
    o.id, o.held, o.till = parse('>c16BI7', stored)
    if o.till <= now then
        o.till = 0
    end
    return (o.held == 1 or o.till > 0) and o or nil
end

local function own(name, id, held, till)
    call('HSET', uniques, name, pack('>c16BI7', id, held, till))
    if till > 0 then
        call('ZADD', periods, text(till), name)
    end
end

-- Frees the unique key of a job that is over.
local function free(id, j)
    if j.unique == '' then
        return
    end
    local o = owner_of(j.unique)
    if o and o.id == id and o.held == 1 then
        if o.till > 0 then
            own(j.unique, id, 0, o.till)
        else
            call('HDEL', uniques, j.unique)
        end
    end
end

local function forget(id, j)
    call('HDEL', jobs, id)
    call('HDEL', data, id)
    if band(j.flags, HEADERS + ERRORS + PROGRESS + RESULT) ~= 0 then
        call('HDEL', more, 'h' .. id, 'e' .. id, 'p' .. id, 'r' .. id)
    end
end

-- Removes a job that is in its state's index.
local function remove(id, j)
    unlink(id, j)
    free(id, j)
    if j.expires > 0 then
        call('ZREM', expiring, id)
    end
    forget(id, j)
    balance(j.key, 2)
end

-- Moves a job that is in its state's index.
local function move(id, j, state)
    unlink(id, j)
    j.state = state
    link(id, j)
    store(id, j)
    balance(j.key, 2)
end

local function move_as(id, j, state, change)
    unlink(id, j)
    change(j)
    j.state = state
    link(id, j)
    store(id, j)
    balance(j.key, 2)
end

-- Ready in its old place, or (`anew`) behind all others of its priority.
local function make_ready(id, j, since, anew)
    move_as(id, j, READY, function()
        j.due = since
        set(j, KEEPS, false)
        if anew then
            j.turn, j.seq = since, next_seq()
        end
    end)
end

-- The last ten errors: attempt, when, and the text; all but the last one cut to 1024 bytes, between two characters.
local function add_error(id, j, message)
    local list, at, before = {}, 1, has(j, ERRORS) and call('HGET', more, 'e' .. id) or ''
    while at <= #before do
        local attempt, when, said
        attempt, when, said, at = parse('>I4I7I4c0', before, at)
        list[#list + 1] = { attempt, when, said }
    end
    local last = list[#list]
    if last and #last[3] > 1024 then
        local cut = 1024
        while cut > 0 and band(string.byte(last[3], cut + 1), 192) == 128 do
            cut = cut - 1
        end
        last[3] = sub(last[3], 1, cut)
    end
    local parts = {}
    for i = math.max(#list - 8, 1), #list do
        local e = list[i]
        parts[#parts + 1] = pack('>I4I7I4c0', e[1], e[2], #e[3], e[3])
    end
    parts[#parts + 1] = pack('>I4I7I4c0', j.attempt, now, #message, message)
    call('HSET', more, 'e' .. id, table.concat(parts))
    set(j, ERRORS, true)
end

local function end_attempt(j)
    local cancelled = has(j, CANCEL)
    set(j, CANCEL, false)
    j.who, j.token = '', NO_TOKEN
    return cancelled
end

local function bury(id, j)
    count(C_died)
    free(id, j)
    if j.expires > 0 then
        call('ZREM', expiring, id)
    end
    move_as(id, j, DEAD, function()
        set(j, SUSPECT, false)
        j.due, j.seq = now, next_seq()
    end)
end

-- It may expire again, as it waits again.
local function expire_again(id, j)
    if j.expires > 0 then
        call('ZADD', expiring, text(j.expires), id)
    end
end
