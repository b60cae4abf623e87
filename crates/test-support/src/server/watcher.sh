# Ends a server whose test process is gone, and removes its folder, which is named by $0 and below the current one. That process
# holds the other end of the standard input: a line says that it has done all this itself, and without one the input's end
# says that the process has died. $1 is an extended regular expression that an argument of each of the server's processes
# matches, and none of this one.
trap '' HUP INT TERM
read -r _ && exit
name=$0
pattern=$1

# Sends a signal to each process of the server. Fails if there is none.
signal() {
    found=$(grep -lszE "$pattern" /proc/[0-9]*/cmdline)
    [ -n "$found" ] || return
    for file in $found; do
        pid=${file#/proc/}
        kill "-$1" "${pid%/cmdline}" 2>/dev/null
    done
    return 0
}

while signal KILL; do sleep 0.1; done
# A few bytes that show other servers that this one runs, if it is a Postgres.
segment=$(sed -n '7s/.* //p' "$name/data/postmaster.pid" 2>/dev/null)
[ -z "$segment" ] || ipcrm -m "$segment" 2>/dev/null
# Again, where somebody still copies into it.
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    rm -rf "$name" && break
    sleep 0.5
done
