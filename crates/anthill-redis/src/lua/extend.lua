#!lua flags=allow-oom
-- needs: base
-- Extends leases (B4): at most 500. KEYS: all. ARGV: who; time (us); for each id and token.
-- Answers a text: for each 0 lost, 1 held, 2 held and to be cancelled. The record is not written: the end is only in `running`.
local n = (#ARGV - 2) / 2
local ids = {}
for i = 1, n do
    ids[i] = ARGV[2 * i + 1]
end
local ends, adds, answer = text(later(tonumber(ARGV[2]))), {}, {}
for i, record in ipairs(call('HMGET', jobs, unpack(ids))) do
    local j = record and read(record)
    if j and j.state == RUNNING and j.token == ARGV[2 * i + 2] then
        adds[#adds + 1] = ends
        adds[#adds + 1] = ids[i]
        answer[i] = has(j, CANCEL) and '2' or '1'
    else
        answer[i] = '0'
    end
end
if #adds > 0 then
    call('ZADD', running, 'XX', unpack(adds))
end
return table.concat(answer)
