# Boxgate itself: its packages, configuration and keys, its start. Sourced by install.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154 # options and what settle() found are install.sh's
# shellcheck disable=SC2153 # CONFIG is not config

readonly PACKAGES=(boxgate boxgate-gateway boxgate-provisioner)
readonly UNITS=(boxgate-provisioner.service boxgate-gateway.socket boxgate-gateway.service)

# --- packages ---------------------------------------------------------------------------------------------

# Sets debs to the newest file of each package for this machine, in the first place that has them all.
find_debs() {
    local place
    debs=()
    for place in ${packages_dir:+"$packages_dir"} $([[ $packages_dir ]] || echo "$here" "$here/../dist"); do
        newest_debs "$place" && return
    done
    return 1
}

newest_debs() {
    local arch name file version newest found=()
    arch=$(dpkg --print-architecture)
    for name in "${PACKAGES[@]}"; do
        newest=''
        for file in "$1/$name"_*_"$arch".deb; do
            [[ -r $file ]] || continue
            version=$(dpkg-deb --field "$file" Version) || continue
            [[ $newest ]] && dpkg --compare-versions "$version" le "$(dpkg-deb --field "$newest" Version)" || newest=$file
        done
        [[ $newest ]] || return 1
        found+=("$(realpath "$newest")")
    done
    debs=("${found[@]}")
}

is_clone() { [[ -x $here/../devhost ]]; }

all_installed() {
    local name
    for name in "${PACKAGES[@]}"; do installed "$name" || return 1; done
}

preflight_packages() {
    ! find_debs || return 0
    [[ $packages_dir ]] || { ! is_clone && ! all_installed; } || return 0
    fault "Boxgate's packages for $(dpkg --print-architecture) are not there: ${PACKAGES[*]/%/_*.deb} in ${packages_dir:-$here}" \
        "./devhost deb makes them in a clone; then --packages DIR"
}

boxgate_packages() {
    if ! find_debs; then
        # As an upgrade of the rest does where nobody brought newer ones.
        if ! is_clone; then return; fi
        say "building Boxgate's packages"
        run "$here/../devhost" deb --out "$here/../dist" || die "Boxgate's packages cannot be built, see above"
        find_debs || { ((dry_run)) && return; } || die "there are no packages in $here/../dist after they were built"
    fi
    local deb new=()
    for deb in "${debs[@]}"; do has_content_of "$deb" || new+=("$deb"); done
    ((${#new[@]})) || return 0
    say "installing Boxgate; connections go on meanwhile"
    run_apt install --no-install-recommends --reinstall --allow-downgrades "${new[@]}" ||
        die "Boxgate's packages cannot be installed, see above"
}

# Whether exactly this was installed: packages that are built anew may have the same version.
has_content_of() {
    local name
    name=$(dpkg-deb --field "$1" Package)
    installed "$name" && [[ $(version_of "$name") == "$(dpkg-deb --field "$1" Version)" ]] &&
        cmp --quiet <(dpkg-deb --info "$1" md5sums) "/var/lib/dpkg/info/$name.md5sums"
}
version_of() { dpkg-query --show --showformat '${Version}' "$1"; }

# --- configuration and keys -------------------------------------------------------------------------------

# configured SETTING FILE: a text that a configuration sets, or nothing.
configured() { [[ ! -r $2 ]] || sed -n "s/^[[:space:]]*$1[[:space:]]*=[[:space:]]*[\"']\([^\"']*\)[\"'].*/\1/p" "$2" | head -n 1; }

configuration() {
    directories
    local new
    new=$(mktemp)
    if [[ $config ]]; then
        cat "$config" >"$new"
    elif [[ ! -f $CONFIG ]]; then
        first_configuration >"$new"
    fi
    if [[ -s $new ]] && ! cmp --quiet "$new" "$CONFIG"; then
        say "writing the configuration"
        ((dry_run)) && ! have boxgate-gateway || valid "$new" ||
            die "the configuration is not valid, and was not taken:" "${config_faults//$new/${config:-what the options say}}"
        [[ ! -f $CONFIG ]] || run cp --preserve "$CONFIG" "$CONFIG.before-$(date +%Y%m%d-%H%M%S)"
        put "$CONFIG" 640 "$(owner root boxgate)" <"$new"
        reconfigured=1
    fi
    rm -f "$new"
}
reconfigured=0

first_configuration() {
    cat <<TOML
# Boxgate's configuration. The installer wrote it and never changes it again: it is yours. Every setting is in
# config/example.toml of Boxgate's sources. After a change: boxgate-gateway --check-config, then
# systemctl reload boxgate-gateway; systemctl restart boxgate-provisioner. No connection ends.

[gateway]
# boxgate-gateway.socket listens, and what it says counts: change it by install.sh --port PORT.
listen = ["0.0.0.0:$port"]
# People's keys are in /etc/boxgate/authorized_keys.d, a file for each, called as she logs in.

[box]
runtime = "$runtime"
TOML
    ((!understood)) || echo 'i_understand_boxes_are_root_on_this_host = true'
}

# valid FILE: whether it can be a configuration; sets config_faults to what is wrong.
valid() { config_faults=$(boxgate-gateway --config "$1" --check-config 2>&1); }

# owner USER GROUP: as far as they are there, which they are not in a dry run before the packages.
owner() { if getent group "$2" >/dev/null; then echo "$1:$2"; else echo "$1:root"; fi; }

# The packages made them. Who changed their modes since gets them back.
directories() {
    ((dry_run)) || getent passwd boxgate >/dev/null || die "boxgate-gateway's package made no user boxgate" "systemd-sysusers boxgate.conf"
    directory /etc/boxgate root:boxgate 750
    directory /etc/boxgate/authorized_keys.d root:boxgate 750
    directory /var/lib/boxgate root:root 711
    directory /var/lib/boxgate/gateway boxgate:boxgate 700
    directory /var/lib/boxgate/provisioner root:root 700
}

directory() {
    [[ $(stat --format '%U:%G %a' "$1" 2>/dev/null) == "$2 $3" ]] || run install -d -o "${2%:*}" -g "${2#*:}" -m "$3" "$1"
}

# Adds to each person's file the keys that are not in it yet.
keys() {
    local i file
    for ((i = 0; i < ${#users[@]}; i += 2)); do
        file=/etc/boxgate/authorized_keys.d/${users[i]}
        put "$file" 640 "$(owner root boxgate)" < <(more_keys "$file" "$(realpath "${users[i + 1]}")")
    done
}

# more_keys FILE MORE: what is in FILE, and those lines of MORE that it lacks.
more_keys() {
    [[ -f $1 ]] || set -- /dev/null "$2"
    awk '(!/^[[:space:]]*(#.*)?$/ && !seen[$0]++) || !more' "$1" more=1 "$2"
}

# --- start ------------------------------------------------------------------------------------------------

units() {
    local unit moved=0
    if [[ $port != "$(gateway_port)" ]]; then
        say "giving the gateway port $port"
        put "$GATEWAY_PORT_FILE" 644 < <(printf '%s\n' '[Socket]' ListenStream= "ListenStream=$port")
        ((image_build)) || run systemctl daemon-reload
        moved=1
    fi
    for unit in "${UNITS[@]}"; do
        systemctl is-enabled --quiet "$unit" 2>/dev/null || run systemctl enable "$unit"
    done
    ((!image_build)) || return 0
    # systemd restarts no socket whose service runs; connections outlive the service.
    if ((moved)) && systemctl is-active --quiet "$GATEWAY_SOCKET"; then
        run systemctl stop boxgate-gateway.service "$GATEWAY_SOCKET"
    elif ((reconfigured)) && systemctl is-active --quiet boxgate-gateway.service; then
        run systemctl reload boxgate-gateway.service
        run systemctl restart boxgate-provisioner.service
    fi
    for unit in "${UNITS[@]}"; do
        systemctl is-active --quiet "$unit" || run systemctl start "$unit" ||
            die "$unit does not start" "systemctl status $unit; journalctl -u $unit says why"
    done
    ((dry_run)) || ssh_answers "$port" ||
        die "the gateway does not answer on port $port" "systemctl status boxgate-gateway; journalctl -u boxgate-gateway says why"
}

summary() {
    local name
    say "Boxgate answers on port $port. Its host keys, for whoever logs in for the first time:"
    # What is really shown to clients, whichever file it comes from.
    ssh-keyscan -p "$port" 127.0.0.1 2>/dev/null | ssh-keygen -l -f - | sed 's/^/    /'
    name=$(find /etc/boxgate/authorized_keys.d -type f -printf '%f\n' | sort | head -n 1)
    if [[ $name ]]; then
        note "log in:             ssh $([[ $port == 22 ]] || echo "-p $port ")$name@$(uname --nodename)"
    elif ! grep -q '^\[users\.' "$CONFIG"; then
        note "nobody may log in yet: $0 --user NAME --key FILE, or a file /etc/boxgate/authorized_keys.d/NAME"
    fi
    note "look after boxes:   boxgate ls; boxgate --help"
    if [[ $(moved_to) ]]; then note "this machine's own sshd: ssh -p $(moved_to) …@$(uname --nodename)"; fi
    [[ $runtime == sysbox ]] || warn "runtime runc does not isolate: root in a box is root on this machine"
}

doctor() {
    say "boxgate doctor"
    boxgate doctor || die "Boxgate is installed, and its doctor found what must be mended, see above"
}
