#!lua flags=allow-oom
-- needs: base moves
-- Removes jobs on request: at most 500. KEYS: all. ARGV: who; the states they may be in, one bit each (READY 1, DELAYED 2, …); for
-- each id, 1 if it must be unchanged, and the kind and payload that it had then. Answers a text of 1 (removed) and 0, and a last 1
-- if listeners are to be told.
local states, answer = tonumber(ARGV[2]), {}
for i = 3, #ARGV, 4 do
    local id = ARGV[i]
    local j = load(id)
    local may = j and band(states, 2 ^ j.state) ~= 0
    if may and ARGV[i + 1] == '1' then
        may = call('HGET', kinds, '#' .. j.kind) == ARGV[i + 2] and call('HGET', data, id) == ARGV[i + 3]
    end
    if may then
        remove(id, j)
        count(C_removed)
    end
    answer[#answer + 1] = may and '1' or '0'
end
finish_keys()
finish()
return table.concat(answer) .. (woke and '1' or '0')
