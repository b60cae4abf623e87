#!lua flags=allow-oom
-- needs: base
-- Somebody who was told waits to be told again. KEYS: all. ARGV: who. If there was more since, all are told again, also who calls:
-- the message is nobody's, as who made the change is not known, and a process does not heed its own.
-- Answers the identity of the queue.
if C[4] == '2' then
    call('HSET', conf, 'w', '0')
    redis.pcall('PUBLISH', conf, '')
elseif C[4] ~= '1' then
    call('HSET', conf, 'w', '1')
end
return call('HGET', conf, 'i')
