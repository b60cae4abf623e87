#!lua flags=allow-oom
-- needs: base
-- Reads or sets what operators set. KEYS: all. ARGV: who; what: 'get', 'pause', 'limits', 'keep'; the new values: as the settings
-- have them, each one more than the value, 0 for none (rate: jobs, ns, burst).
-- Answers all of them: paused, running, per key, rate jobs, ns, burst, max_ready, keep done, keep dead.
local what = ARGV[2]
if what == 'pause' then
    paused = tonumber(ARGV[3])
    woke = paused == 0
elseif what == 'limits' then
    local v = {}
    for i = 3, 8 do
        v[i - 2] = tonumber(ARGV[i])
    end
    if v[3] ~= rate_jobs or v[4] ~= rate_per or v[5] ~= rate_burst then
        -- Otherwise a slow rate of before would delay a fast one.
        call('HDEL', conf, 'r')
    end
    if v[2] ~= most_key then
        call('HSET', conf, 'u', '')
    end
    most_running, most_key, rate_jobs, rate_per, rate_burst, most_ready = v[1], v[2], v[3], v[4], v[5], v[6]
    woke = true
elseif what == 'keep' then
    keep_done, keep_dead = tonumber(ARGV[3]), tonumber(ARGV[4])
end
if what ~= 'get' then
    call('HSET', conf, 's', pack('>BI5I5I5I7I5I7I7I7I7', paused, most_running, most_key, rate_jobs, rate_per, rate_burst, most_ready,
        keep_done, keep_dead, ahead))
end
finish()
return { paused, most_running, most_key, rate_jobs, text(rate_per), rate_burst, text(most_ready), text(keep_done), text(keep_dead) }
