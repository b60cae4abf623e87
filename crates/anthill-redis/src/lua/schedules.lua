#!lua flags=allow-oom
-- needs: base
-- The schedules. (To fire one is `enqueue`.) KEYS: all. ARGV: who; 'put', name, next, cron, the whole without the next time |
-- 'drop', name | 'all', cursor. A stored one is '>i8' the next time, then what the client made of it: I4 length of cron, cron, ….
if ARGV[2] == 'put' then
    local name, next_time, cron = ARGV[3], tonumber(ARGV[4]), ARGV[5]
    local stored = call('HGET', schedules, name)
    if stored then
        local before, told = parse('>i8I4c0', stored)
        if told == cron then
            next_time = math.min(next_time, before)
        end
    end
    call('HSET', schedules, name, pack('>i8', next_time) .. ARGV[6])
    woke = true
    finish()
    return 1
elseif ARGV[2] == 'drop' then
    return call('HDEL', schedules, ARGV[3])
end
-- They are as many as the program has written down, so they come in steps without an index of their own.
local page = call('HSCAN', schedules, ARGV[3], 'COUNT', 200)
return { text(now), page[1], page[2] }
