#!lua
-- The ceiling on Redis: what the server does by itself with one new job, called by `redis-benchmark`.
--
-- It stands for anthill's enqueue of one plain job, and does its writes and no more: the record, the payload and the number of the order
-- into a hash each, the job into the order (a sorted set), and the counter of enqueued jobs, with values of the same length. It reads
-- nothing, decides nothing, packs nothing: no time, no settings, no look at whether the job is there, nobody told.
-- KEYS: records, payloads, order, counters, settings. ARGV: an id of 16 bytes, the record, the payload.
local call, id = redis.call, ARGV[1]
call('HSET', KEYS[1], id, ARGV[2])
call('HSET', KEYS[2], id, ARGV[3])
call('ZADD', KEYS[3], 0, '000000000000000000' .. id)
call('HINCRBY', KEYS[4], 'e', 1)
call('HSET', KEYS[5], 'q', id)
return 1
