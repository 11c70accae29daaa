# The way back. Without --purge what people have stays: homes, Docker data, keys, configuration. Docker, Sysbox, their
# settings and other packages stay in any case: others may use them by now. Sourced by install.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154 # options are install.sh's

uninstall_devhost() {
    ((EUID == 0)) || die "it needs root" "sudo $0 --uninstall"
    local instance names=() verb=remove
    ((!purge)) || verb=purge
    instance=$(configured instance "$CONFIG")
    instance=${instance:-boxgate}
    if ((purge)); then
        confirm "Boxes with everybody's homes, Boxgate's configuration and keys are removed for good."
    else
        confirm "Boxes are stopped and Boxgate is removed; homes, configuration and keys stay."
    fi
    ((!dry_run)) || say "this is what would be done; nothing is"
    end_boxgate
    end_boxes "$instance"
    say "removing Boxgate"
    installed_packages
    ((${#names[@]} == 0)) || run_apt "$verb" "${names[@]}"
    ! systemctl is-enabled --quiet "$LOADER" 2>/dev/null || run systemctl disable "$LOADER"
    drop "$SYSCTL_FILE" "$(dirname "$GATEWAY_PORT_FILE")" "/etc/systemd/system/$LOADER" "$WAITING_IMAGE"
    ((!purge)) || forget
    run systemctl daemon-reload
    give_sshd_back
    say "Boxgate is removed"
    ((purge)) || note "homes are volumes of Docker (docker volume ls), the rest is in /etc/boxgate and /var/lib/boxgate" \
        "an installation finds them again; --uninstall --purge removes them"
    note "Docker, Sysbox and $DAEMON_JSON are as they were; limits stay until the next boot"
}

# Connections that are open end too: what they lead to does.
end_boxgate() {
    local unit active=()
    for unit in "${UNITS[@]}"; do
        ! systemctl is-active --quiet "$unit" || active+=("$unit")
    done
    ((${#active[@]})) || return 0
    say "ending Boxgate"
    # Told before the service is stopped: afterwards systemd does not know its connections any more.
    [[ " ${active[*]} " != *" boxgate-gateway.service "* ]] || run systemctl kill boxgate-gateway.service || true
    run systemctl stop "${active[@]}"
}

# end_boxes INSTANCE
end_boxes() {
    local ours="label=io.boxgate.instance=$1" kind ids
    if docker_answers; then
        if ((purge)); then
            mapfile -t ids < <(docker ps --all --quiet --filter "$ours")
            ((${#ids[@]} == 0)) || run docker rm --force --volumes "${ids[@]}"
            for kind in volume network; do
                mapfile -t ids < <(docker "$kind" ls --quiet --filter "$ours")
                ((${#ids[@]} == 0)) || run docker "$kind" rm "${ids[@]}"
            done
            [[ -z $(image_id) ]] || run docker image rm --force "$IMAGE"
        else
            mapfile -t ids < <(docker ps --quiet --filter "$ours")
            ((${#ids[@]} == 0)) || run docker stop --time 30 "${ids[@]}"
        fi
    elif ((purge)); then
        die "Docker does not answer, so that boxes and homes cannot be removed" "systemctl start docker, then run this again"
    fi
    # Boxes need their rules for as long as they run, and no longer.
    ! nft list table inet "boxgate_$1" >/dev/null 2>&1 || run nft delete table inet "boxgate_$1"
}

# Sets names to those that dpkg knows something of, be it only their configuration.
installed_packages() {
    local name status
    for name in "${PACKAGES[@]}"; do
        status=$(dpkg-query --show --showformat '${db:Status-Status}' "$name" 2>/dev/null) || continue
        [[ $status == not-installed ]] || [[ $status == config-files && $purge == 0 ]] || names+=("$name")
    done
}

forget() {
    drop /etc/boxgate /var/lib/boxgate /run/boxgate
    ! getent passwd boxgate >/dev/null || run userdel boxgate
    ! getent group boxgate >/dev/null || run groupdel boxgate
}
