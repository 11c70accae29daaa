# shellcheck shell=bash disable=SC2154 # id, name and listen are set in the lines that a story puts before these.
# What an IDE has bash do in the box, the shape of it: one installation at a time, a server that runs already is found
# again, a new one goes into the background with nothing but a log, and its address comes out between two marks.
echo "$id: running"
tmp=${XDG_RUNTIME_DIR:-/tmp}
home=$HOME/.$name-server
mkdir -p "$home"
exec 99>"$tmp/$name-remote-lock.$USER"
flock 99

if [[ ! -x $home/server.py ]]; then
    cat >"$home/server.py" <<'END_OF_SERVER'
@SERVER@
END_OF_SERVER
    chmod 755 "$home/server.py"
fi
pid=$(cat "$home/pid" 2>/dev/null)
if [[ -z $pid ]] || ! kill -0 "$pid" 2>/dev/null; then
    rm -f "$home/log"
    "$home/server.py" serve "${listen/#TMP/$tmp}" &>"$home/log" </dev/null 99>&- &
    echo $! >"$home/pid"
fi
for ((i = 0; i < 300; i++)); do
    listening=$(grep -a -E 'listening on .+' "$home/log" 2>/dev/null | sed 's/listening on //')
    [[ -z $listening ]] || break
    sleep .03
done
flock -u 99

echo "$id: start"
echo "listeningOn==$listening=="
echo "shell==$$=="
echo "arch==$(uname -m)=="
echo "tmpDir==$tmp=="
echo "platform==linux=="
echo "$id: end"
