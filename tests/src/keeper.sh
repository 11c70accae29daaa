# shellcheck shell=sh
# Keeps a place for the tests that hold the other end of its standard input, and clears it when they are gone,
# however they ended. What an earlier run left there is cleared first.
#
#   sh -c "$(cat keeper.sh)" keeper INSTANCE DIRECTORY DOCKER
#
# Nothing outside DIRECTORY is touched, and no process that does not name it on its command line.
instance=$1 directory=$2 docker=$3

clear_place() {
    for file in "$directory"/*.pid "$directory"/*/*.pid; do
        [ -r "$file" ] || continue
        read -r pid <"$file"
        # A dead process's number may be another one's by now.
        if tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -- "$directory/"; then
            kill -KILL "$pid"
        fi
    done
    # Workers whose supervisor is gone.
    pgrep -f "^$directory/" | xargs -r kill -KILL
    ours=label=io.boxgate.instance=$instance
    "$docker" ps -aq --filter "$ours" | xargs -r "$docker" rm --force --volumes
    "$docker" volume ls -q --filter "$ours" | xargs -r "$docker" volume rm
    "$docker" network ls -q --filter "$ours" | xargs -r "$docker" network rm
    "$docker" image ls -q --filter "$ours" | xargs -r "$docker" image rm --force
    nft delete table inet "boxgate_$instance"
    rm -rf -- "$directory"
}

# The terminal's Ctrl-C is for the tests.
trap '' HUP INT TERM
clear_place >/dev/null 2>&1
echo kept
cat >/dev/null
clear_place >/dev/null 2>&1
