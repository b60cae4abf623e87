#!lua flags=allow-oom
-- needs: base
-- lazy: moves
-- Ends claimed jobs (B4): at most 500. KEYS: all. ARGV: who; for each 4 texts: id, token, '>BI7' how (0 done, 1 retry, 2 dead,
-- 3 release) and delay, and the result or error. Answers a text of as many 1 (stored) and 0 (lost),
-- and a last 1 if the listeners of this process are to be told.
local n = (#ARGV - 1) / 4
local ids, seen_ids = {}, {}
for i = 1, n do
    ids[i] = ARGV[4 * i - 2]
end
local records = call('HMGET', jobs, unpack(ids))
local answer, gone = {}, {}
for i, id in ipairs(ids) do
    local record = records[i]
    local j = record and not seen_ids[id] and read(record)
    if not j or j.state ~= RUNNING or j.token ~= ARGV[4 * i - 1] then
        answer[i] = '0'
    else
        answer[i] = '1'
        seen_ids[id] = true
        local how, delay = parse('>BI7', ARGV[4 * i])
        local said = ARGV[4 * i + 1]
        woke = woke or most_running > 0
        if how == 0 and j.flags < 8 and j.keep == 0 and keep_done == 0 and j.unique == '' and j.key == '' then
            -- Plain, as most are: with the others at the end.
            gone[#gone + 1] = id
            count(C_done)
        elseif how == 0 then
            count(C_done)
            rest().end_attempt(j)
            rest().unlink(id, j)
            rest().free(id, j)
            if j.keep == 0 and keep_done <= 1 then
                rest().forget(id, j)
            else
                j.state, j.due, j.seq = DONE, now, next_seq()
                set(j, SUSPECT, false)
                local member = pack('>I6', j.seq) .. id
                if j.keep > 0 then
                    call('HSET', more, 'r' .. id, said)
                    set(j, RESULT, true)
                    call('ZADD', kept, text(later(j.keep - 1)), member)
                else
                    call('ZADD', done, text(now), member)
                end
                store(id, j)
            end
            rest().balance(j.key, 2)
        else
            local cancelled = rest().end_attempt(j)
            if cancelled and how ~= 2 then
                rest().unlink(id, j)
                rest().free(id, j)
                rest().forget(id, j)
                count(C_removed)
                rest().balance(j.key, 2)
            else
                if how ~= 3 then
                    rest().add_error(id, j, said)
                    set(j, SUSPECT, false)
                end
                if how == 2 or (how == 1 and j.attempt >= j.attempts) then
                    rest().bury(id, j)
                else
                    if how == 1 then
                        count(C_retried)
                    else
                        j.attempt = math.max(j.attempt - 1, 0)
                    end
                    rest().expire_again(id, j)
                    if delay > 0 then
                        rest().move_as(id, j, DELAYED, function()
                            j.due, j.seq = later(delay), next_seq()
                        end)
                    else
                        rest().make_ready(id, j, now, how == 1)
                    end
                    woke = true
                end
            end
        end
    end
end
if #gone > 0 then
    call('HDEL', jobs, unpack(gone))
    call('HDEL', data, unpack(gone))
    call('ZREM', running, unpack(gone))
end
if loaded then
    loaded.finish_keys()
end
finish()
return table.concat(answer) .. (woke and '1' or '0')
