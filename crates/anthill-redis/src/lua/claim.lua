#!lua flags=allow-oom
-- needs: base limits
-- lazy: moves sweeps
-- Claims jobs (B3, B5-B7, B9): at most 500, and some 32 MiB of data. KEYS: all. ARGV: who; limit; lease (us); 1 if a fragile one may come; the consumer, or
-- nothing; 12 random bytes, which are the token of this claim; the number of kinds, or -1 for any; their names.
-- Answers: when to claim again (us; -1 never, 0 at once), 1 if a fragile one is next, 1 if the listeners of this
-- process are to be told, the names of the kinds, and for each job 2 texts, or 3:
--   'head': its id, >I2 kind (in the list of names, from 1 on), I4 attempt, I4 attempts, I7 waited (us), B bits: 1 fragile, 2 exclusive,
--   4 keeps its result, 8 headers; payload; headers, if it has some.
--
-- Allowed when memory is full, so that a full server can be drained: what a claim adds is less than what it takes.
local limit, lease, fragile, who, token = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1', ARGV[5], ARGV[6]
local MOST = 500
local MOST_BYTES = 33554432 -- of the data of LARGE jobs; the first may have more
local again, more_to_do = -1, false

-- What time has brought.
local head = call('ZRANGE', running, 0, 0, 'WITHSCORES')
if head[2] and tonumber(head[2]) <= now then
    more_to_do = rest().sweep_leases(MOST) >= MOST
end
local is_behind_time = false
head = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
if head[2] and tonumber(head[2]) <= now then
    rest().sweep_due(MOST)
    head = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
    is_behind_time = head[2] ~= nil and tonumber(head[2]) <= now
end
-- Some of those that are due are not ready yet, and any of them may be before all that are: nothing is claimed then (B6).
more_to_do = more_to_do or is_behind_time
local house = call('HMGET', conf, 'h', 'u')
if house[2] then
    more_to_do = rest().sweep_keys(MOST) >= MOST or more_to_do
end
if limit == 0 or now >= tonumber(house[1] or 0) then
    more_to_do = rest().sweep_house(100) or more_to_do
    call('HSET', conf, 'h', text(now + 200000))
end

local function soon(micros)
    if micros >= 0 and (again < 0 or micros < again) then
        again = micros
    end
end

-- The kinds: their numbers, and names by number.
local numbers, names = {}, {}
local function by_any_kind()
    local from = ''
    for _ = 1, MOST do
        local first = call('ZRANGEBYLEX', ready, from == '' and '-' or '[' .. from, '+', 'LIMIT', 0, 1)[1]
        if not first then
            return
        end
        local number = parse('>I3', first)
        numbers[#numbers + 1] = number
        names[number] = call('HGET', kinds, '#' .. number)
        from = pack('>I3', number + 1)
    end
end

local heads = {}
-- The next jobs of one kind: `at` is the first of them, which is read into numbers, for text is not compared byte by byte here.
local function refill(h, window)
    local from = h.last and '(' .. h.last or '[' .. h.prefix
    h.list = call('ZRANGEBYLEX', ready, from, '(' .. h.beyond, 'LIMIT', 0, window)
    h.at, h.last = 1, h.list[#h.list]
end
local function step(h, window)
    local member = h.list[h.at]
    if not member and #h.list == window then
        refill(h, window)
        member = h.list[1]
    end
    h.member = member
    if member then
        h.rank, h.turn, h.seq = parse('>I2I7I6', member, 4)
    end
end

-- The first ready jobs, in order.
local function first_ready(most)
    local window = math.ceil(most / math.max(#numbers, 1)) + (#numbers > 1 and 4 or 0)
    heads = {}
    for _, number in ipairs(numbers) do
        local h = { prefix = pack('>I3', number), beyond = pack('>I3', number + 1) }
        refill(h, window)
        if #numbers == 1 then
            return h.list
        end
        step(h, window)
        if h.member then
            heads[#heads + 1] = h
        end
    end
    local found = {}
    while #found < most do
        local best
        for _, h in ipairs(heads) do
            if h.member and (not best or h.rank < best.rank or (h.rank == best.rank and (h.turn < best.turn
                or (h.turn == best.turn and h.seq < best.seq)))) then
                best = h
            end
        end
        if not best then
            break
        end
        found[#found + 1] = best.member
        best.at = best.at + 1
        step(best, window)
    end
    return found
end

local claimed, ids, fragile_next, passed, carried = {}, {}, false, 0, 0
local function claim_some(most)
    while #claimed < most do
        local wanted = most - #claimed
        local members = first_ready(wanted)
        if #members == 0 then
            return
        end
        local candidates, gone = {}, {}
        for i, member in ipairs(members) do
            candidates[i] = sub(member, -16)
        end
        local records = call('HMGET', jobs, unpack(candidates))
        local changed, stop = false, false
        for i, id in ipairs(candidates) do
            local j = read(records[i])
            if j.expires > 0 and j.expires <= now then
                rest().remove(id, j)
                count(C_expired)
                passed, changed = passed + 1, true
            elseif most_key > 0 and j.key ~= '' and rest().key_of(j.key).running >= most_key - 1 then
                rest().move(id, j, PARKED)
                passed, changed = passed + 1, true
            else
                local is_fragile = has(j, SUSPECT) or j.attempt + 1 >= j.attempts
                if has(j, LARGE) then
                    carried = carried + call('HSTRLEN', data, id)
                end
                if is_fragile and not (fragile and #claimed == 0) then
                    fragile_next, stop = true, true
                elseif carried > MOST_BYTES and #claimed > 0 then
                    more_to_do, stop = true, true
                else
                    if j.key == '' then
                        gone[#gone + 1] = members[i]
                    else
                        rest().unlink(id, j)
                        local k = rest().key_of(j.key)
                        k.running = k.running + 1
                    end
                    if j.expires > 0 then
                        call('ZREM', expiring, id)
                    end
                    j.is_fragile = is_fragile
                    claimed[#claimed + 1] = j
                    ids[#ids + 1] = id
                    stop = is_fragile
                end
            end
            -- A removal may have made an earlier one ready.
            if stop or (changed and j.key ~= '') then
                break
            end
        end
        if #gone > 0 then
            call('ZREM', ready, unpack(gone))
        end
        if stop or (#members < wanted and not changed) then
            return
        end
        if passed >= MOST then
            more_to_do = true
            return
        end
    end
end

if limit > 0 and band(paused, 1) == 0 and not is_behind_time then
    local count_of_kinds = tonumber(ARGV[7])
    if count_of_kinds < 0 then
        by_any_kind()
    elseif count_of_kinds > 0 then
        local fields = {}
        for i = 1, count_of_kinds do
            fields[i] = '=' .. ARGV[7 + i]
        end
        for i, number in ipairs(call('HMGET', kinds, unpack(fields))) do
            number = tonumber(number)
            if number and not names[number] then
                numbers[#numbers + 1] = number
                names[number] = ARGV[7 + i]
            end
        end
    end
    local most = math.min(limit, MOST)
    if most_running > 0 then
        most = math.min(most, math.max(most_running - 1 - call('ZCARD', running), 0))
    end
    if rate_jobs > 0 then
        read_rate()
        local jobs_now, owed, gap = admit(most, behind == 1)
        if jobs_now then
            claim_some(jobs_now)
        end
        local left = #first_ready(1) > 0
        if #claimed > 0 or behind == 1 or left then
            store_rate(jobs_now and owed, gap, #claimed, left)
        end
        if left then
            local _, wait = admit(1, true)
            if not _ then
                soon(math.ceil(wait / 1000))
            end
        end
    else
        claim_some(most)
    end
end

local told, places = {}, {}
local answer = { 0, fragile_next and 1 or 0, 0, told }
if #claimed > 0 then
    local payloads = call('HMGET', data, unpack(ids))
    local records, leases = {}, {}
    local ends = text(later(lease))
    for i, j in ipairs(claimed) do
        local id = ids[i]
        if not payloads[i] then
            error({ err = 'CORRUPT a job has no data: something else has changed the keys, or evicted one' })
        end
        set(j, TOGETHER, #claimed > 1)
        j.state, j.attempt, j.token, j.who = RUNNING, j.attempt + 1, token, who
        records[2 * i - 1] = id
        records[2 * i] = pack(JOB, j.state, j.flags, j.rank, j.kind, j.attempt, j.attempts, j.turn, j.seq, j.due, j.enqueued,
            j.token, j.expires, j.keep, #j.unique, j.unique, #j.key, j.key, #j.who, j.who)
        leases[2 * i - 1] = ends
        leases[2 * i] = id
        local exclusive = j.unique ~= '' or (j.key ~= '' and most_key > 0)
        local n, place = #answer, places[j.kind]
        if not place then
            place = #told + 1
            told[place], places[j.kind] = names[j.kind], place
        end
        local bits = (j.is_fragile and 1 or 0) + (exclusive and 2 or 0) + (j.keep > 0 and 4 or 0) + (has(j, HEADERS) and 8 or 0)
        answer[n + 1] = id .. pack('>I2I4I4I7B', place, j.attempt, j.attempts, math.max(now - j.due, 0), bits)
        answer[n + 2] = payloads[i]
        if has(j, HEADERS) then
            answer[n + 3] = call('HGET', more, 'h' .. id)
        end
    end
    call('HSET', jobs, unpack(records))
    call('ZADD', running, unpack(leases))
end
if #claimed < limit and C[4] == '0' then
    -- Who finds less than he can run waits to be told. What came since the others were told (2) is for them to find.
    call('HSET', conf, 'w', '1')
    C[4] = '1'
end
for _, index in ipairs({ running, delayed }) do
    head = call('ZRANGE', index, 0, 0, 'WITHSCORES')
    local at = tonumber(head[2] or NEVER)
    if at < NEVER then
        soon(math.max(at - now, 0))
    end
end
answer[1] = more_to_do and 0 or again
if woke and #claimed > 0 and call('ZCARD', ready) == 0 then
    -- What came was for this claim.
    woke = false
end
answer[3] = woke and 1 or 0
if loaded then
    loaded.finish_keys()
end
finish()
return answer
