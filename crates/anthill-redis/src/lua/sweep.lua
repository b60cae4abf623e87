#!lua flags=allow-oom
-- needs: base moves sweeps
-- What time has brought, for those who look: at most 200 of each. KEYS: all. ARGV: who.
-- Answers 1 if there is more to do; then the caller calls again.
local n = 200
local a, b, d = sweep_leases(n), sweep_due(n), sweep_keys(n)
local m = sweep_house(n)
finish_keys()
finish()
return (a >= n or b >= n or d >= n or m) and 1 or 0
