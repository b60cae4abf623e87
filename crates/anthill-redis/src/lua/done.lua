#!lua flags=allow-oom
-- needs: nothing
-- Ends plain jobs that are done: what `settle` does, for what most settlements are. KEYS: all. ARGV: who; for each id and token.
-- Answers as `settle` does; or 0 if that must do it: the queue keeps what is done or limits what runs, or a job has a key, a unique
-- key, a result to keep, headers, errors, progress, or a cancel request. Nothing was done then.
local call, sub = redis.call, string.sub
local s = call('HGET', KEYS[1], 's')
if not s then
    return redis.error_reply('NOQUEUE it is not there, or not any more')
end
if sub(s, 2, 6) ~= '\0\0\0\0\0' or sub(s, 36, 42) ~= '\0\0\0\0\0\0\0' then
    return 0
end
local ids, seen, gone, answer = {}, {}, {}, {}
for i = 2, #ARGV, 2 do
    ids[#ids + 1] = ARGV[i]
end
for i, r in ipairs(call('HMGET', KEYS[4], unpack(ids))) do
    local id = ids[i]
    if r and not seen[id] and string.byte(r) == 3 and sub(r, 44, 55) == ARGV[2 * i + 1] then
        -- Flags below 8, no `keep`, no unique key, no key.
        if sub(r, 2, 2) ~= '\0' or string.byte(r, 3) > 7 or sub(r, 63, 77) ~= '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' then
            return 0
        end
        seen[id] = true
        gone[#gone + 1] = id
        answer[i] = '1'
    else
        answer[i] = '0'
    end
end
if #gone > 0 then
    call('HDEL', KEYS[4], unpack(gone))
    call('HDEL', KEYS[5], unpack(gone))
    call('ZREM', KEYS[10], unpack(gone))
    call('HINCRBY', KEYS[2], 'f', #gone)
end
return table.concat(answer) .. '0'
