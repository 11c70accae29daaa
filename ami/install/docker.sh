# What boxes run on: the kernel's limits, Docker, Sysbox and the box image. Sourced by install.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154 # options and what settle() found are install.sh's

readonly SYSCTL_FILE=/etc/sysctl.d/99-boxgate.conf
# What all boxes share, as `boxgate doctor` wants it (provisioner/src/cli/doctor/checks/kernel.rs).
readonly LIMITS=(
    fs.inotify.max_user_instances=1048576
    fs.inotify.max_user_watches=1048576
    kernel.keys.maxkeys=20000
    kernel.keys.maxbytes=2000000
    kernel.pid_max=4194304
    net.ipv4.ip_forward=1
    user.max_user_namespaces=65536
)
# Ranges that Docker may take its own networks from: the first that this machine has no route to. None is boxes' own.
readonly DOCKER_RANGES=(172.17.0.0/16 172.18.0.0/16 172.24.0.0/16 192.168.224.0/20 10.224.0.0/16 10.240.0.0/16)
# A box image that waits for the first boot of an image build, and the unit that loads it then.
readonly WAITING_IMAGE=/var/lib/boxgate/box-image.tar LOADER=boxgate-box-image.service

prerequisites() {
    packages ca-certificates curl iproute2 iptables jq nftables openssh-client procps zstd
}

# --- limits -----------------------------------------------------------------------------------------------

limits() {
    local limit has lines=() low=()
    for limit in "${LIMITS[@]}"; do
        # A kernel without the setting has no such limit. What is higher already stays so. An image gets another kernel.
        has=0
        ((image_build)) || has=$(cat "/proc/sys/$(tr . / <<<"${limit%=*}")" 2>/dev/null) || continue
        ((has >= ${limit#*=})) || low+=("$limit") has=${limit#*=}
        lines+=("${limit%=*} = $has")
    done
    # The limits of now are those that an earlier run set, so that its file is not written again.
    [[ -f $SYSCTL_FILE && ( ${#low[@]} == 0 || $image_build == 1 ) ]] || {
        say "raising limits that all boxes share"
        put "$SYSCTL_FILE" 644 < <(printf '%s\n' "# Written by Boxgate's installer: boxes share these." "${lines[@]}")
    }
    ((!image_build && ${#low[@]})) || return 0
    run sysctl --quiet --load "$SYSCTL_FILE" || warn "not every limit could be raised, see above; boxgate doctor says which matter"
}

# --- Docker -----------------------------------------------------------------------------------------------

engine() {
    local missing=() restart=0
    # Debian has the client in a package of its own from 13 on.
    if ! installed docker-ce; then
        missing=(docker.io)
        [[ -z $(apt-cache --names-only search '^docker-cli$' 2>/dev/null) ]] || missing+=(docker-cli)
    fi
    # Before the engine's first start: no network of it has an address yet then.
    daemon_json
    packages "${missing[@]}"
    if ((image_build)); then
        systemctl is-enabled --quiet docker.service 2>/dev/null || run systemctl enable docker.service
        return
    fi
    systemctl is-active --quiet docker.service || run systemctl start docker.service ||
        die "the Docker engine does not start" "systemctl status docker; journalctl -u docker"
    ((!restart)) || restart_engine
}

# What Sysbox's own installer adds to the file and restarts Docker for is here already, when it comes.
daemon_json() {
    local theirs='{}' merged
    [[ ! -s $DAEMON_JSON ]] || theirs=$(cat "$DAEMON_JSON")
    if ! have jq; then
        # Only before the packages are there, which is in a dry run.
        changes=$((changes + 1))
        note "+ add to $DAEMON_JSON: $(ours)"
        return
    fi
    # What is there counts more than what is added, one by one in objects. Logs of another driver have other options.
    # shellcheck disable=SC2016 # jq's own variables
    merged=$(jq --argjson ours "$(ours)" '. as $theirs
        | (if ($theirs["log-driver"] // "json-file") | IN("json-file", "local") then $ours else $ours | del(.["log-opts"]) end) * $theirs' <<<"$theirs")
    # A change of layout is none.
    [[ $(jq --sort-keys . <<<"$merged") != "$(jq --sort-keys . <<<"$theirs")" ]] || return 0
    say "telling Docker its networks, limits of logs, and to leave containers running while it restarts"
    [[ ! -f $DAEMON_JSON || -f $DAEMON_JSON.before-boxgate ]] || run cp --preserve "$DAEMON_JSON" "$DAEMON_JSON.before-boxgate"
    put "$DAEMON_JSON" 644 <<<"$merged"
    ((image_build)) || ! systemctl is-active --quiet docker.service || restart=1
}

ours() {
    local bridge range free=() fields='"live-restore": true, "log-opts": {"max-size": "10m", "max-file": "3"}'
    # The bridge of a Docker that ran before keeps its address: its containers have their gateway there.
    bridge=$( ((image_build)) || ip -4 -o address show dev docker0 2>/dev/null | awk '{ print $4; exit }') || bridge=
    for range in "${DOCKER_RANGES[@]}"; do
        if free_of_routes "$range" && ! overlap "$range" "${bridge:-0.0.0.0/32}"; then free+=("$range"); fi
    done
    if [[ -z $bridge && ${#free[@]} != 0 ]]; then
        bridge=${free[0]/.0\//.1/}
        free=("${free[@]:1}")
    fi
    [[ -z $bridge ]] || fields+=", \"bip\": \"$bridge\""
    ((${#free[@]} == 0)) || fields+=", \"default-address-pools\": [{\"base\": \"${free[0]}\", \"size\": 24}]"
    [[ $runtime != sysbox ]] || fields+=', "runtimes": {"sysbox-runc": {"path": "/usr/bin/sysbox-runc"}}'
    echo "{$fields}"
}

free_of_routes() {
    local route
    while read -r route; do
        ! overlap "$1" "$route" || return 1
    done < <(routes)
}

# Where this machine's packets go but for the default, and not those to Docker's own networks.
routes() {
    # Where an image is made says nothing of where it is started.
    ((!image_build)) || return 0
    ip -4 -o route show 2>/dev/null | awk '$1 ~ /^[0-9]/ && $0 !~ / dev (docker|br-|bg|veth)/ { print $1 ~ /\// ? $1 : $1 "/32" }'
}

# overlap NETWORK NETWORK: whether they share addresses, which is when they are the same as far as the wider one says.
overlap() {
    local -i bits=$((${1#*/} < ${2#*/} ? ${1#*/} : ${2#*/}))
    ((($(number "${1%/*}") ^ $(number "${2%/*}")) >> (32 - bits) == 0))
}
number() {
    local IFS=. parts
    read -r -a parts <<<"$1"
    echo $(((parts[0] << 24) + (${parts[1]:-0} << 16) + (${parts[2]:-0} << 8) + ${parts[3]:-0}))
}

# With live-restore, which a reload is enough for, containers outlive the restart that the rest needs.
restart_engine() {
    run systemctl reload docker.service
    if ((!dry_run)) && [[ -n $(docker ps --quiet) && $(docker info --format '{{.LiveRestoreEnabled}}') != true ]]; then
        warn "Docker was not restarted, since its containers would end; do it when it suits: systemctl restart docker"
        return
    fi
    run systemctl restart docker.service || die "the Docker engine does not start with its new settings" \
        "journalctl -u docker says why; the old ones are in $DAEMON_JSON.before-boxgate"
}

# --- Sysbox -----------------------------------------------------------------------------------------------

sysbox_version() {
    local name
    for name in sysbox-ce sysbox-ee; do
        ! installed "$name" || { dpkg-query --show --showformat '${Version}\n' "$name" && return; }
    done
    return 1
}

sysbox() {
    local has arch deb status=0
    if has=$(sysbox_version) && sysbox_new_enough "$has"; then
        return
    fi
    arch=$(dpkg --print-architecture)
    if ((dry_run)) && [[ -z ${SYSBOX_DEB:-} ]]; then
        say "installing Sysbox $SYSBOX_VERSION"
        run curl --location "$(sysbox_url "$arch")"
        note "SHA-256 $(sysbox_sum "$arch")"
        return
    fi
    local fetched
    fetched=$(mktemp --directory)
    # apt reads packages as a user of its own.
    chmod 755 "$fetched"
    deb=$(sysbox_package "$arch" "$fetched") || status=$?
    case $status in
        0) ;;
        2) die "what $(sysbox_url "$arch") gives is not the package that was released, and was not installed" \
            "SYSBOX_DEB=FILE takes one that you have" ;;
        *) die "Sysbox cannot be fetched from $(sysbox_url "$arch")" \
            "is there a way out? (https_proxy)  SYSBOX_DEB=FILE takes a package that you have, --runtime runc does without isolation" ;;
    esac
    say "installing Sysbox $(dpkg-deb --field "$deb" Version)"
    run_apt install "$deb" || die "Sysbox's package cannot be installed, see above"
    rm -rf "$fetched"
    ((!dry_run && !image_build)) || return 0
    docker_knows_sysbox || { run systemctl reload docker.service && sleep 1 && docker_knows_sysbox; } ||
        die "Docker knows no sysbox-runc after Sysbox was installed" "systemctl status sysbox docker; docker info --format '{{json .Runtimes}}'"
}

docker_knows_sysbox() { docker info --format '{{json .Runtimes}}' 2>/dev/null | grep '"sysbox-runc"' >/dev/null; }

# --- the box image ----------------------------------------------------------------------------------------

box_image() {
    if [[ $image != "$IMAGE" ]]; then
        [[ -z $box_image ]] || load_box_image
        note "boxes are made from $image, as the configuration says"
    elif [[ $box_image ]]; then
        load_box_image
    elif docker_answers; then
        # One that was loaded has a base that is not here, so that it would be built anew, and offline cannot be.
        [[ -n $(image_id) && -z $profile ]] || build_box_image
    elif ((dry_run)); then
        say "building the box image"
        run "$here/box/build.sh" --tag "$IMAGE" --profile "${profile:-minimal}"
    else
        warn "Docker does not run here, so that no box image can be made; boxes need one" \
            "before the first login: --box-image FILE now, or $here/box/build.sh --tag $IMAGE then"
    fi
}

docker_answers() { have docker && docker info >/dev/null 2>&1; }

# What the recipe's script says that is up to date is no change.
build_box_image() {
    packages mmdebstrap unzip
    local before
    before=$(image_id)
    say "building the box image, unless the one that is there is as its recipe says"
    note "+ $(told "$here/box/build.sh" --tag "$IMAGE" --profile "${profile:-minimal}")"
    ((!dry_run)) || return 0
    "$here/box/build.sh" --tag "$IMAGE" --profile "${profile:-minimal}" || die "the box image cannot be built, see above" \
        "where nothing can be fetched, take one that was saved elsewhere (docker save $IMAGE): --box-image FILE"
    [[ $(image_id) == "$before" ]] || changes=$((changes + 1))
}

image_id() { ! have docker || docker image inspect --format '{{.Id}}' "$IMAGE" 2>/dev/null || true; }

load_box_image() {
    if docker_answers || ((dry_run && !image_build)); then
        # The image's id is in the archive; one that Docker has by that name is not loaded again.
        [[ -z $(image_id) || $(archived_id) != "$(image_id)" ]] || return 0
        say "loading the box image from $box_image"
        run_as "docker load --input $box_image" load_image "$box_image"
    elif ((image_build)); then
        say "the box image is loaded at the first boot"
        install_loader
    else
        die "Docker does not answer, so that no image can be loaded" "systemctl status docker; docker info"
    fi
}

unpacked() {
    case $1 in
        *.zst) zstd --decompress --stdout --quiet "$1" ;;
        *.gz) gzip --decompress --stdout "$1" ;;
        *) cat "$1" ;;
    esac
}

# An image that was saved by another name gets the one that boxes are made from.
load_image() {
    local loaded
    loaded=$(unpacked "$1" | docker load --quiet | sed -n 's/^Loaded image\( ID\)\?: //p') || die "$1 cannot be loaded, see above"
    [[ $'\n'$loaded$'\n' == *$'\n'"$image"$'\n'* ]] || docker tag "${loaded%%$'\n'*}" "$image" ||
        die "$1 has not one image, but: ${loaded:-none}" "docker save $image makes one that has"
}

# Nothing, when the archive is of a kind that does not say.
archived_id() {
    local config
    config=$(unpacked "$box_image" | tar --extract --to-stdout manifest.json 2>/dev/null | jq --raw-output '.[0].Config' 2>/dev/null) || return 0
    config=${config##*/}
    echo "sha256:${config%.json}"
}

install_loader() {
    ((dry_run)) || [[ -s $WAITING_IMAGE ]] || mkdir -p "$(dirname "$WAITING_IMAGE")"
    [[ -s $WAITING_IMAGE ]] || run_as "unpack $box_image to $WAITING_IMAGE" unpack_image "$box_image" "$WAITING_IMAGE"
    put "/etc/systemd/system/$LOADER" 644 <<UNIT
# Written by Boxgate's installer for an image of a machine whose Docker did not run then.
[Unit]
Description=Boxgate's box image
ConditionPathExists=$WAITING_IMAGE
After=docker.service
Requires=docker.service
Before=boxgate-provisioner.service

[Service]
Type=oneshot
ExecStart=/usr/bin/docker load --quiet --input $WAITING_IMAGE
ExecStartPost=/bin/rm $WAITING_IMAGE
TimeoutStartSec=15min

[Install]
WantedBy=multi-user.target
UNIT
    systemctl is-enabled --quiet "$LOADER" 2>/dev/null || run systemctl enable "$LOADER"
}

unpack_image() { unpacked "$1" >"$2.part" && mv "$2.part" "$2"; }
