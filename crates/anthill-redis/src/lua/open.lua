#!lua flags=allow-oom
-- needs: nothing
-- Makes the queue if there is none. KEYS: all. ARGV: who; the version of this layout; 16 random bytes; 1 if it may be made.
-- Answers the version and the identity that are stored, which are nothing where the queue is not there.
local conf = KEYS[1]
if redis.call('HEXISTS', conf, 's') == 0 and ARGV[4] == '1' then
    if redis.call('EXISTS', KEYS[4]) == 1 then
        -- A part of it was evicted, or deleted by hand: nobody may guess the rest.
        return redis.error_reply('CORRUPT there are jobs, and their queue is gone')
    end
    -- Armed: where another queue was before, somebody may wait.
    redis.call('HSET', conf, 'i', ARGV[3], 'v', ARGV[2], 'w', '1', 's',
        struct.pack('>BI5I5I5I7I5I7I7I7I7', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
end
return redis.call('HMGET', conf, 'v', 'i')
