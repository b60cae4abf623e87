#!lua flags=allow-oom
-- needs: nothing
-- Claims plain jobs: what `claim` does, for what most claims are. KEYS, ARGV, answer: of `claim`. Answers 0 if `claim` must do it: a
-- limit is set, something is due, over or to be tidied up, jobs of several of the kinds are ready, a candidate is fragile, suspect
-- or LARGE, has a key or an expiry, or the clock was set back. Nothing was done then.
--
-- Offsets are those of the record in `base`.
local call, pack, parse, sub = redis.call, struct.pack, struct.unpack, string.sub
local conf, jobs, ready, running = KEYS[1], KEYS[4], KEYS[7], KEYS[10]
local limit, token, who = tonumber(ARGV[2]), ARGV[6], ARGV[5]
local C = call('HMGET', conf, 's', 'm', 'c', 'w', 'h', 'u')
if not C[1] then
    return redis.error_reply('NOQUEUE it is not there, or not any more')
end
local now = tonumber(C[3])
if not now then
    local t = call('TIME')
    now = t[1] * 1000000 + t[2]
end
now = now + parse('>I7', C[1], 50)
local mark, of_kinds = tonumber(C[2] or 0), tonumber(ARGV[7])
if limit < 1 or limit > 500 or of_kinds < 1 or C[6] or now < mark or now >= tonumber(C[5] or 0)
    or sub(C[1], 1, 28) ~= string.rep('\0', 28) then
    return 0
end
local again = 9007199254740991
for _, i in ipairs({ 8, 10 }) do
    local at = tonumber(call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')[2] or again)
    if at <= now then
        return 0
    end
    again = math.min(again, at)
end
local fields = {}
for i = 1, of_kinds do
    fields[i] = '=' .. ARGV[7 + i]
end
local members, name = {}, nil
for i, number in ipairs(call('HMGET', KEYS[3], unpack(fields))) do
    number = tonumber(number)
    if number and ARGV[7 + i] ~= name then
        local list = call('ZRANGEBYLEX', ready, '[' .. pack('>I3', number), '(' .. pack('>I3', number + 1), 'LIMIT', 0,
            name and 1 or limit)
        if #list > 0 then
            if name then
                return 0
            end
            members, name = list, ARGV[7 + i]
        end
    end
end
local n = #members
local answer = { 0, 0, 0, { name } }
if n > 0 then
    local ids, records, leases, heads, headers = {}, {}, {}, {}, {}
    for i = 1, n do
        ids[i] = sub(members[i], -16)
    end
    local stored = call('HMGET', jobs, unpack(ids))
    local ends = string.format('%.0f', math.min(now + tonumber(ARGV[3]), 9007199254740991))
    local tail = '\0\0\0\0' .. pack('>I4', #who) .. who
    -- Most jobs differ in little.
    local begins, attempts_as = {}, {}
    for i = 1, n do
        local r, id = stored[i], ids[i]
        if not r then
            return 0
        end
        local flags, attempt, attempts, due, expires, keep, unique =
            parse('>I2xxxxxI4I4xxxxxxxxxxxxxI7xxxxxxxxxxxxxxxxxxxI7I7I4', r, 2)
        if flags % 2 == 1 or flags >= 256 or attempt + 1 >= attempts or expires > 0
            or sub(r, 74 + unique, 77 + unique) ~= '\0\0\0\0' then
            return 0
        end
        flags = flags - flags % 4 + (n > 1 and 2 or 0) -- only those that are not suspect are here
        attempt = attempt + 1
        local begin, number = begins[flags], attempts_as[attempt]
        if not begin then
            begin = '\3' .. pack('>I2', flags)
            begins[flags] = begin
        end
        if not number then
            number = pack('>I4', attempt)
            attempts_as[attempt] = number
        end
        local has_headers = flags % 32 >= 16
        records[2 * i - 1] = id
        records[2 * i] = begin .. sub(r, 4, 8) .. number .. sub(r, 13, 43) .. token .. sub(r, 56, 73 + unique) .. tail
        leases[2 * i - 1], leases[2 * i] = ends, id
        heads[i] = id .. pack('>I2I4I4I7B', 1, attempt, attempts, math.max(now - due, 0),
            (unique > 0 and 2 or 0) + (keep > 0 and 4 or 0) + (has_headers and 8 or 0))
        headers[i] = has_headers and call('HGET', KEYS[6], 'h' .. id)
    end
    local at = 4
    for i, payload in ipairs(call('HMGET', KEYS[5], unpack(ids))) do
        if not payload then
            return 0
        end
        answer[at + 1], answer[at + 2] = heads[i], payload
        at = at + 2
        if headers[i] then
            at = at + 1
            answer[at] = headers[i]
        end
    end
    -- They are all that there is between the first and the last one.
    call('ZREMRANGEBYLEX', ready, '[' .. members[1], '[' .. members[n])
    call('HSET', jobs, unpack(records))
    call('ZADD', running, unpack(leases))
    again = math.min(again, tonumber(ends))
end
if n < limit and C[4] == '0' then
    call('HSET', conf, 'w', '1')
end
if now - mark >= 100000 then
    call('HSET', conf, 'm', string.format('%.0f', now))
end
answer[1] = again < 9007199254740991 and again - now or -1
return answer
