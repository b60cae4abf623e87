-- limits: the rate (GCRA: its whole state is the moment up to which jobs have been granted). After base.
--
-- Nanoseconds of today do not fit a double, so the moment is kept as microseconds and a rest, and counted from now.
local LATE = 20000000
local kept_at, kept_rest, behind = 0, 0, 0

local function read_rate()
    local stored = call('HGET', conf, 'r')
    if stored then
        kept_at, kept_rest, behind = parse('>I7I2B', stored)
    end
end

-- How many of `limit` may start, how far before now (ns) to count from, the gap; or nil, and how long to wait (ns).
local function admit(limit, is_behind)
    local gap = math.floor(rate_per / math.max(rate_jobs - 1, 1))
    if gap == 0 then
        return limit, 0, 0
    end
    -- Negative, if it is after now.
    local owed = (now - kept_at) * 1000 - kept_rest
    owed = math.min(owed, is_behind and LATE or 0)
    local left = math.max(gap * math.max(rate_burst, 1) + owed, 0)
    if left < gap then
        return nil, gap - left
    end
    return math.min(math.floor(left / gap), limit), owed, gap
end

local function store_rate(owed, gap, started, is_behind)
    if owed then
        local ahead_ns = gap * started - owed
        local micros = math.floor(ahead_ns / 1000)
        kept_at = math.max(math.min(now + micros, NEVER), 0)
        kept_rest = kept_at == NEVER and 0 or ahead_ns - micros * 1000
    end
    call('HSET', conf, 'r', pack('>I7I2B', kept_at, kept_rest, is_behind and 1 or 0))
end
