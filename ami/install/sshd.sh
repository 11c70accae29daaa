# This machine's own sshd, where it has the port that the gateway is to have: it moves, or is switched off. Sourced by
# install.sh.
#
#   22 ──► 22 and 2222 ──(2222 answers)──► 2222 ──(it still does, 22 is free)──► done
#    ▲          │                            │
#    └──────────┴──── anything fails ────────┘
#
# So at no time can nobody get in; and nobody who is in is put out, since sshd's units end no connection (KillMode=process).
# shellcheck shell=bash
# shellcheck disable=SC2154 # options and what settle() found are install.sh's

readonly SSHD_FILE=/etc/ssh/sshd_config.d/boxgate.conf
# Where ssh.socket listens is in its unit, but on Ubuntu from 24.04 on a generator takes it from sshd_config as
# addresses.conf. A later name overrides that, and says the same.
readonly SSH_SOCKET_FILE=/etc/systemd/system/ssh.socket.d/boxgate.conf
# The units that were switched off, for an uninstallation to switch on.
readonly SSHD_OFF_FILE=/etc/ssh/switched-off-by-boxgate

# Sets sshd_from to the port that it leaves, and sshd_to to where it goes: a port, off, or nothing when it stays.
settle_sshd() {
    sshd_from='' sshd_to='' sshd_applied=0
    have ss || return 0
    local moved units
    # Asked once: a connection starts the service of a socket on the way.
    mapfile -t units < <(sshd_units)
    [[ " ${units[*]} " == *" ssh.socket "* ]] && sshd_socket=1 || sshd_socket=0
    moved=$(moved_to)
    if sshd_has_port "$port"; then
        sshd_from=$port sshd_to=${sshd_port:-$DEFAULT_SSHD_PORT}
    elif [[ $moved && $sshd_port && $sshd_port != keep && $sshd_port != "$moved" ]]; then
        sshd_from=$moved sshd_to=$sshd_port
    fi
}

# Where an earlier run moved it.
moved_to() { [[ ! -f $SSHD_FILE ]] || sed -n 's/^Port //p' "$SSHD_FILE" | tail -n 1; }

# Now, or in an image once that is started.
sshd_has_port() {
    if ((!image_build)); then
        [[ $(listener "$1") == sshd ]]
    else
        [[ -n $(sshd_units) && $(moved_to) != [0-9]* && $1 == 22 ]]
    fi
}

# Those that are running or will at the next boot. Debian's service has an alias, sshd.service, which is not a second one.
sshd_units() {
    local unit
    for unit in ssh.socket ssh.service; do
        if systemctl is-enabled --quiet "$unit" 2>/dev/null || { ((!image_build)) && systemctl is-active --quiet "$unit"; }; then
            echo "$unit"
        fi
    done
}

# What others say of its port: `Port` adds up over all files, so that it would listen on theirs too.
sshd_port_lines() {
    local file
    for file in /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf; do
        [[ ! -f $file || $file == "$SSHD_FILE" ]] ||
            awk -v file="$file" 'tolower($1) == "match" { exit }
                tolower($1) == "port" || (tolower($1) == "listenaddress" && $2 ~ /(\]:|^[^:]*:)[0-9]+$/) { print file ": " $0 }' "$file"
    done
}

# Whoever installs over ssh, or somebody else who is in over ssh: sudo takes SSH_CONNECTION away.
over_ssh() { [[ -n ${SSH_CONNECTION:-} || -n $(ss -Htn state established "sport = :$sshd_from") ]]; }

make_way_for_gateway() {
    case $sshd_to in
        '') ;;
        off) switch_off_sshd ;;
        *) move_sshd ;;
    esac
}

move_sshd() {
    say "moving this machine's own sshd from port $sshd_from to $sshd_to"
    if ((!image_build)); then
        warn "whoever logs in to this machine itself does it by ssh -p $sshd_to from now on" \
            "port $sshd_to must be open in the cloud's security group and every firewall before this machine: it cannot be seen from here"
    fi
    local kept
    kept=$(mktemp --directory)
    keep_sshd_files "$kept"
    if ((image_build)); then
        { sshd_ports "$sshd_to" && sshd_valid; } || back_out "$kept"
    elif sshd_listens "$sshd_from" "$sshd_to" && sshd_listens "$sshd_to" && sshd_left "$sshd_from"; then
        ((dry_run)) || note "it answers on port $sshd_to, and port $sshd_from is free"
    else
        back_out "$kept"
    fi
    rm -rf "$kept"
}

# sshd_listens PORT…: on all of them, seen to be so.
sshd_listens() {
    sshd_ports "$@" && sshd_valid && sshd_reload || return
    ((!dry_run)) || return 0
    local each
    for each; do
        if ! ssh_answers "$each" || [[ $(listener "$each") != sshd ]]; then
            warn "sshd does not answer on port $each"
            return 1
        fi
    done
}

sshd_left() {
    ((!dry_run)) || return 0
    local try
    for try in {1..50}; do
        [[ $(listener "$1") == sshd ]] || return 0
        ((try == 50)) || sleep 0.1
    done
    warn "sshd does not leave port $1"
    return 1
}

# sshd_ports PORT…: what its files say.
sshd_ports() {
    local why="# Written by Boxgate's installer, whose gateway has the port that sshd had."
    put "$SSHD_FILE" 644 < <(printf '%s\n' "$why" "${@/#/Port }") || return
    ((!sshd_socket)) || put "$SSH_SOCKET_FILE" 644 < <(printf '%s\n' "$why" '[Socket]' ListenStream= "${@/#/ListenStream=}")
}

sshd_valid() {
    local key=()
    if ((!dry_run)); then
        # Without it sshd checks nothing, and with ssh.socket it is not there before the first connection.
        mkdir -p /run/sshd
        # Images have no host keys before they are started.
        if ! compgen -G '/etc/ssh/ssh_host_*_key' >/dev/null; then
            ssh-keygen -q -t ed25519 -N '' -f "$kept/host_key"
            key=(-h "$kept/host_key")
        fi
    fi
    run /usr/sbin/sshd -t "${key[@]}" || { warn "sshd refuses its configuration, see above" && return 1; }
}

sshd_reload() {
    sshd_applied=1
    run systemctl daemon-reload || return
    if ((sshd_socket)); then
        # systemd restarts no socket whose service runs. The socket listens while the service is stopped.
        run systemctl stop ssh.service && run systemctl restart ssh.socket
    else
        run systemctl reload ssh.service
    fi
}

keep_sshd_files() {
    [[ ! -f $SSHD_FILE ]] || cp --preserve "$SSHD_FILE" "$1/sshd"
    [[ ! -f $SSH_SOCKET_FILE ]] || cp --preserve "$SSH_SOCKET_FILE" "$1/socket"
}

# Back to how it was, which is known to work.
back_out() {
    rm -f "$SSHD_FILE" "$SSH_SOCKET_FILE"
    [[ ! -f $1/sshd ]] || cp --preserve "$1/sshd" "$SSHD_FILE"
    [[ ! -f $1/socket ]] || cp --preserve "$1/socket" "$SSH_SOCKET_FILE"
    rm -rf "$1"
    # An sshd that was told nothing yet goes on as it is.
    if ((sshd_applied)); then
        sshd_reload || true
        ssh_answers "$sshd_from" || run systemctl restart "$( ((sshd_socket)) && echo ssh.socket || echo ssh.service)" || true
        ssh_answers "$sshd_from" || die "sshd could not be moved to port $sshd_to, and does not answer on port $sshd_from again" \
            "do not leave this connection before it does: systemctl status ssh; journalctl -u ssh"
    fi
    die "sshd could not be moved to port $sshd_to and is on port $sshd_from as before" \
        "what went wrong is above; run this again then, or choose another --sshd-port or --port"
}

switch_off_sshd() {
    local units
    mapfile -t units < <(sshd_units)
    ((${#units[@]})) || return 0
    say "switching off this machine's own sshd; who is in stays in"
    put "$SSHD_OFF_FILE" 644 < <(printf '%s\n' "${units[@]}")
    drop "$SSHD_FILE" "$SSH_SOCKET_FILE"
    run systemctl disable "${units[@]}"
    ((image_build)) || run systemctl stop "${units[@]}"
}

# For an uninstallation: the port that the gateway had is free.
give_sshd_back() {
    local units kept
    if [[ -f $SSHD_OFF_FILE ]]; then
        say "switching this machine's own sshd on again"
        mapfile -t units <"$SSHD_OFF_FILE"
        run systemctl enable --now "${units[@]}"
        drop "$SSHD_OFF_FILE"
        return
    fi
    settle_sshd
    sshd_from=$(moved_to) sshd_to=22
    [[ $sshd_from ]] || return 0
    say "moving this machine's own sshd back to port 22"
    kept=$(mktemp --directory)
    keep_sshd_files "$kept"
    if sshd_listens "$sshd_from" 22 && drop "$SSHD_FILE" "$SSH_SOCKET_FILE" && sshd_reload && { ((dry_run)) || ssh_answers 22; }; then
        rm -rf "$kept"
    else
        back_out "$kept"
    fi
}
