#!lua flags=allow-oom
-- needs: base
-- What the queue holds and has counted. KEYS: all. ARGV: who; 1 for the kinds of the ready jobs instead.
-- Answers: ready, delayed, parked, running, dead, done, oldest (us, -1 none), paused, and the eight counters.
local names, oldest, from = {}, nil, '-'
-- The first of each kind and priority is the oldest of it.
for _ = 1, 1000 do
    local first = call('ZRANGEBYLEX', ready, from, '+', 'LIMIT', 0, 1)[1]
    if not first then
        break
    end
    local number, rank = parse('>I3I2', first)
    if ARGV[2] == '1' then
        names[#names + 1] = call('HGET', kinds, '#' .. number)
        from = '[' .. pack('>I3', number + 1)
    else
        local j = load_indexed(sub(first, -16))
        if not oldest or j.due < oldest then
            oldest = j.due
        end
        from = '[' .. pack('>I3I2', number, rank) .. '\255'
    end
end
if ARGV[2] == '1' then
    return names
end
local answer = { call('ZCARD', ready), call('ZCARD', delayed), call('ZCARD', parked), call('ZCARD', running), call('ZCARD', dead),
    call('ZCARD', done) + call('ZCARD', kept), oldest and now - oldest or -1, band(paused, 1) }
for i, n in ipairs(call('HMGET', counts, 'e', 'd', 'f', 'r', 'x', 'l', 'o', 'g')) do
    answer[8 + i] = tonumber(n or 0)
end
return answer
