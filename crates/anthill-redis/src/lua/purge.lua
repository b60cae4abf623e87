#!lua flags=allow-oom
-- needs: base moves
-- Removes jobs of a state that were there when the purge began: at most 200 a call. KEYS: all. ARGV: who; state (5 is `done`, and 6
-- is `kept`, where it has two indexes); the number of the
-- order when it began (nothing: answers that, and removes nothing); how many of the index are left because they came later.
-- Answers: removed, how many are left by now, 1 if there is more to look at.
if ARGV[3] == '' then
    return text(seq)
end
local state, last, left, n = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), 0
local MOST = 200
local looks = 0
for _, index in ipairs(({ [0] = { ready }, { delayed }, { parked }, {}, { dead }, { done }, { kept } })[state]) do
    local list = call('ZRANGE', index, left, left + MOST - 1)
    looks = math.max(looks, #list)
    for _, member in ipairs(list) do
        local id = sub(member, -16)
        local j = load_indexed(id)
        if j.seq > last then
            left = left + 1
        else
            unlink(id, j)
            free(id, j)
            if j.expires > 0 then
                call('ZREM', expiring, id)
            end
            forget(id, j)
            -- A parked job is not ready before the end of the purge, or it would be purged, too: sweep_keys sees to it.
            if state == READY and j.key ~= '' then
                call('HSET', conf, 'u', '')
                woke = true
            elseif j.key ~= '' then
                balance(j.key, 2)
            end
            n = n + 1
        end
    end
end
if n > 0 then
    count(C_removed, n)
end
finish_keys()
finish()
return { n, left, looks == MOST and 1 or 0 }
