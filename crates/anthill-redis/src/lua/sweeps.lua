-- sweeps: what time does to jobs. Each does at most `most` steps, and returns how many it did. After moves.
-- exports: sweep_leases sweep_due sweep_keys sweep_house

-- B5.
local function sweep_leases(most)
    local over = call('ZRANGEBYSCORE', running, '-inf', text(now), 'LIMIT', 0, most)
    for _, id in ipairs(over) do
        local j = load_indexed(id)
        count(C_lost)
        unlink(id, j)
        local attempt = j.attempt
        local cancelled = end_attempt(j)
        if cancelled then
            free(id, j)
            forget(id, j)
            count(C_removed)
            balance(j.key, 2)
        else
            add_error(id, j, 'the lease of attempt ' .. attempt .. ' ended before the job did')
            if has(j, TOGETHER) then
                j.attempt = attempt - 1
            end
            set(j, SUSPECT, true)
            if j.attempt >= j.attempts then
                count(C_died)
                free(id, j)
                set(j, SUSPECT, false)
                j.state, j.due, j.seq = DEAD, now, next_seq()
            else
                j.state, j.due = READY, now
                expire_again(id, j)
            end
            link(id, j)
            store(id, j)
            balance(j.key, 2)
        end
    end
    return #over
end

local function sweep_due(most)
    local due = call('ZRANGEBYSCORE', delayed, '-inf', text(now), 'LIMIT', 0, most)
    local gone, adds = {}, {}
    for i, member in ipairs(due) do
        local id = sub(member, 7)
        local j = load_indexed(id)
        gone[i] = member
        if not has(j, KEEPS) then
            j.turn = j.due
        end
        set(j, KEEPS, false)
        j.state = READY
        if j.key == '' then
            adds[#adds + 1] = 0
            adds[#adds + 1] = pack('>I3', j.kind) .. place(id, j)
            store(id, j)
        else
            link(id, j)
            store(id, j)
            balance(j.key, 2)
        end
    end
    if #gone > 0 then
        call('ZREM', delayed, unpack(gone))
        woke = true
    end
    if #adds > 0 then
        call('ZADD', ready, unpack(adds))
    end
    return #due
end

local function sweep_expired(most)
    local over = call('ZRANGEBYSCORE', expiring, '-inf', text(now), 'LIMIT', 0, most)
    for _, id in ipairs(over) do
        remove(id, load_indexed(id))
        count(C_expired)
    end
    return #over
end

-- Results first in `kept`, by when that ends; then, like jobs without one, in `done` by when they ended.
local function sweep_kept(most)
    local n = 0
    local hold = keep_done > 0 and keep_done - 1 or 0
    for _, member in ipairs(call('ZRANGEBYSCORE', kept, '-inf', text(now), 'LIMIT', 0, most)) do
        local id = sub(member, 7)
        local j = load_indexed(id)
        n = n + 1
        if j.due + hold > now then
            call('ZREM', kept, member)
            call('ZADD', done, text(j.due), member)
        else
            remove(id, j)
        end
    end
    for _, member in ipairs(call('ZRANGEBYSCORE', done, '-inf', text(now - hold), 'LIMIT', 0, most)) do
        local id = sub(member, 7)
        remove(id, load_indexed(id))
        n = n + 1
    end
    if keep_dead > 0 then
        for _, member in ipairs(call('ZRANGEBYSCORE', dead, '-inf', text(now - keep_dead + 1), 'LIMIT', 0, most)) do
            local id = sub(member, 7)
            remove(id, load_indexed(id))
            n = n + 1
        end
    end
    return n
end

local function sweep_periods(most)
    local over = call('ZRANGEBYSCORE', periods, '-inf', text(now), 'LIMIT', 0, most)
    for _, name in ipairs(over) do
        local stored = call('HGET', uniques, name)
        if stored then
            local id, held, till = parse('>c16BI7', stored)
            if till > 0 and till <= now then
                if held == 1 then
                    call('HSET', uniques, name, pack('>c16BI7', id, 1, 0))
                else
                    call('HDEL', uniques, name)
                end
            end
        end
        call('ZREM', periods, name)
    end
    return #over
end

-- After a change of the limit per key: balances the keys of all ready and parked jobs, in the order of their numbers, from the
-- one on that is stored as 'u'.
local function sweep_keys(most)
    local from = call('HGET', conf, 'u')
    local n = 0
    while from and n < most do
        local first = call('ZRANGEBYLEX', keyed, '[' .. from, '+', 'LIMIT', 0, 1)[1]
        if not first then
            call('HDEL', conf, 'u')
            return n
        end
        local name = load_indexed(sub(first, -16)).key
        local moved = balance(name, most - n)
        n = n + moved + 1
        if n < most then
            from = pack('>I6', key_of(name).number + 1)
        end
    end
    if from then
        call('HSET', conf, 'u', from)
    end
    return n
end

-- What no consumer waits for.
local function sweep_house(most)
    local a, b, c = sweep_expired(most), sweep_kept(most), sweep_periods(most)
    return a >= most or b >= most or c >= most
end
