#!lua flags=allow-oom
-- needs: base
-- The live consumers. KEYS: all. ARGV: who; 'announce', id, the time for which it counts (us), details | 'withdraw', id | 'all', from.
-- A stored one is '>I7' when it was announced, and the details.
for _, id in ipairs(call('ZRANGEBYSCORE', seen, '-inf', text(now), 'LIMIT', 0, 100)) do
    call('ZREM', seen, id)
    call('HDEL', consumers, id)
end
if ARGV[2] == 'announce' then
    call('HSET', consumers, ARGV[3], pack('>I7', now) .. ARGV[5])
    call('ZADD', seen, text(later(tonumber(ARGV[4]))), ARGV[3])
    return 1
elseif ARGV[2] == 'withdraw' then
    call('ZREM', seen, ARGV[3])
    return call('HDEL', consumers, ARGV[3])
end
local answer = { text(now) }
for _, id in ipairs(call('ZRANGE', seen, tonumber(ARGV[3]), tonumber(ARGV[3]) + 199)) do
    answer[#answer + 1] = id
    answer[#answer + 1] = call('HGET', consumers, id) or ''
end
return answer
