#!lua flags=allow-oom
-- needs: base moves
-- Changes jobs by hand: at most 500. KEYS: all. ARGV: who; what: 'cancel' (a request to one that runs), 'retry' (a dead one),
-- 'due' (make waiting ones due); the delay (us); ids. Answers a text of 1 (done) and 0, and a last 1 if listeners are to be told.
local what, delay, answer = ARGV[2], tonumber(ARGV[3]), {}
for i = 4, #ARGV do
    local id = ARGV[i]
    local j, did = load(id), false
    if not j then
        did = false
    elseif what == 'cancel' and j.state == RUNNING then
        set(j, CANCEL, true)
        store(id, j)
        did = true
    elseif what == 'retry' and j.state == DEAD then
        local o = j.unique ~= '' and owner_of(j.unique)
        if o and o.id ~= id and o.held == 1 and o.till == 0 then
            -- One that has expired does not have its key any more; its removal is left to a sweep.
            local other = load(o.id)
            if other and other.state <= PARKED and other.expires > 0 and other.expires <= now then
                remove(o.id, other)
                count(C_expired)
                o = nil
            end
        end
        if not o or o.id == id then
            if j.unique ~= '' then
                own(j.unique, id, 1, o and o.till or 0)
            end
            j.attempt, j.expires = 0, 0
            make_ready(id, j, now, true)
            did = true
        end
    elseif what == 'due' and j.state <= PARKED then
        did = true
        if delay > 0 then
            local was_delayed = j.state == DELAYED
            move_as(id, j, DELAYED, function()
                j.due = later(delay)
                if not was_delayed then
                    set(j, KEEPS, true)
                elseif not has(j, KEEPS) then
                    j.seq = next_seq()
                end
            end)
            woke = true
        elseif j.state == DELAYED then
            make_ready(id, j, now, not has(j, KEEPS))
        end
    end
    answer[#answer + 1] = did and '1' or '0'
end
finish_keys()
finish()
return table.concat(answer) .. (woke and '1' or '0')
