#!lua flags=allow-oom
-- needs: base
-- Shows jobs. It sweeps nothing: the caller calls `sweep` before, until it is done. KEYS: all.
-- ARGV: who; state, or -1 for one by its id; the id, or the job behind which to begin, or nothing; the cursor of the answer before
-- this one, or nothing; kind, or nothing; text of the last error, or nothing; most; bytes of data.
-- Looks at 200 jobs at most, and shows some 16 MiB. Answers: now; the cursor, nothing at the end; for each 9 texts: id, record, kind, payload, its size,
-- headers, errors, progress, result (nil, if there are none; the last two also if they are larger than the bytes of data).
local state, after, cursor, kind, said = tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local most, bytes = math.min(tonumber(ARGV[7]), 200), tonumber(ARGV[8])
local LOOKS, MOST_BYTES = 200, 16777216
local shown = 0
local answer = { text(now), '' }

local function last_error(errors)
    local at, text_of = 1, ''
    while at <= #errors do
        local _, _, one, next_at = parse('>I4I7I4c0', errors, at)
        text_of, at = one, next_at
    end
    return text_of
end

local function show(id)
    local record = call('HGET', jobs, id)
    if not record then
        return false
    end
    local j = read(record)
    local name = call('HGET', kinds, '#' .. j.kind)
    local m = j.flags >= HEADERS and call('HMGET', more, 'h' .. id, 'e' .. id, 'p' .. id, 'r' .. id) or {}
    if (kind ~= '' and kind ~= name) or (said ~= '' and not (m[2] and string.find(last_error(m[2]), said, 1, true))) then
        return false
    end
    local payload = call('HGET', data, id) or ''
    shown = shown + math.min(#payload, bytes)
    for i = 3, 4 do
        if m[i] and #m[i] > bytes then
            m[i] = false
        end
    end
    local n = #answer
    answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4], answer[n + 5] = id, record, name, sub(payload, 1, bytes), #payload
    for i = 1, 4 do
        answer[n + 5 + i] = m[i] or false
    end
    return true
end

if state < 0 then
    show(after)
    return answer
end

local found = 0
if state == READY then
    -- All kinds are merged. The cursor is a place in the order.
    local place = cursor
    if place == '' and after ~= '' then
        local j = load(after)
        if j and j.state == READY then
            place = pack('>I2I7I6', j.rank, j.turn, j.seq) .. after
        end
    end
    local heads, from = {}, '-'
    for _ = 1, 500 do
        local first = call('ZRANGEBYLEX', ready, from, '+', 'LIMIT', 0, 1)[1]
        if not first then
            break
        end
        local number = parse('>I3', first)
        local prefix, beyond = pack('>I3', number), pack('>I3', number + 1)
        local h = { list = call('ZRANGEBYLEX', ready, (place == '' and '[' or '(') .. prefix .. place, '(' .. beyond, 'LIMIT', 0, LOOKS),
            at = 1 }
        heads[#heads + 1] = h
        from = '[' .. beyond
    end
    for look = 1, LOOKS do
        local best
        for _, h in ipairs(heads) do
            local member = h.list[h.at]
            if member then
                h.rank, h.turn, h.seq = parse('>I2I7I6', member, 4)
                if not best or h.rank < best.rank or (h.rank == best.rank and (h.turn < best.turn
                    or (h.turn == best.turn and h.seq < best.seq))) then
                    best = h
                end
            end
        end
        if not best or found == most or shown > MOST_BYTES then
            if not best then
                return answer
            end
            break
        end
        local member = best.list[best.at]
        best.at = best.at + 1
        answer[2] = sub(member, 4)
        if show(sub(member, -16)) then
            found = found + 1
        end
    end
    return answer
end

-- The others: one index after the other, by the place in it.
local indexes = ({ [DELAYED] = { delayed }, [PARKED] = { parked }, [RUNNING] = { running }, [DEAD] = { dead }, [DONE] = { done, kept } })[state]
-- The cursor is the number of the index, a score, and a member.
local which, score, member = 1, nil, nil
if cursor ~= '' then
    which, score, member = parse('>BI7', cursor)
    member = sub(cursor, 9)
elseif after ~= '' then
    local j = load(after)
    if j and j.state == state then
        member = state == RUNNING and after or state == PARKED and pack('>I2I7I6', j.rank, j.turn, j.seq) .. after
            or pack('>I6', j.seq) .. after
        if state == DONE and call('ZSCORE', kept, member) then
            which = 2
        end
        score = 0
    end
end
for number = which, #indexes do
    local index = indexes[number]
    local from = 0
    if member and number == which then
        local rank = call('ZRANK', index, member)
        -- It may be gone by now: on from its score. The caller leaves out what it has.
        from = rank and rank + 1 or call('ZCOUNT', index, '-inf', '(' .. text(score))
    end
    local list = call('ZRANGE', index, from, from + LOOKS - 1, 'WITHSCORES')
    for i = 1, #list, 2 do
        if found == most or shown > MOST_BYTES then
            return answer
        end
        answer[2] = pack('>BI7', number, tonumber(list[i + 1])) .. list[i]
        if show(sub(list[i], -16)) then
            found = found + 1
        end
    end
    if #list == 2 * LOOKS then
        return answer
    end
end
answer[2] = ''
return answer
