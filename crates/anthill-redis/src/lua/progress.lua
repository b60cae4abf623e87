#!lua
-- needs: base
-- Stores progress (B4). KEYS: all. ARGV: who; id; token; progress. Answers 1 if the lease was held.
local id = ARGV[2]
local j = load(id)
if not j or j.state ~= RUNNING or j.token ~= ARGV[3] then
    return 0
end
call('HSET', more, 'p' .. id, ARGV[4])
if not has(j, PROGRESS) then
    set(j, PROGRESS, true)
    store(id, j)
end
return 1
