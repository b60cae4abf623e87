#!lua flags=allow-oom
-- needs: base
-- Somebody who was told waits to be told again. KEYS: all. ARGV: who. If there was more since, all are told again.
-- Answers the identity of the queue.
if C[4] == '2' then
    woke, C[4] = true, '1'
    finish()
elseif C[4] ~= '1' then
    call('HSET', conf, 'w', '1')
end
return call('HGET', conf, 'i')
