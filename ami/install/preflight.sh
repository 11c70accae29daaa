# Everything that would stand in the way, looked for before anything is changed and told all at once, each with its
# remedy. Sourced by install.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154 # options and what settle() found are install.sh's
# shellcheck disable=SC2153 # CONFIG is not config

# A box image takes about 2 GiB, as much again while it is made, and homes come on top.
readonly DISK_GIB=10 DISK_WITHOUT_DOCKER_GIB=1
# Of a machine with 2 GiB the kernel tells a little less. One box may have 4 GiB and is content with less.
readonly MEMORY_MIB=1800
# ID-mapped mounts: of files at all, and of overlayfs.
readonly KERNEL=5.12 KERNEL_GOOD=5.19
readonly DAEMON_JSON=/etc/docker/daemon.json

faults=0
fault() {
    ((faults)) || printf 'install.sh: this machine cannot become a devhost yet:\n' >&2
    faults=$((faults + 1))
    printf '\n  %s. %s\n' "$faults" "$1" >&2
    shift
    (($# == 0)) || printf '     %s\n' "$@" >&2
}

preflight() {
    say "looking whether anything stands in the way"
    preflight_machine
    preflight_kernel
    preflight_room
    if ((!no_docker)); then
        preflight_docker
        preflight_networks
        [[ $runtime != sysbox ]] || preflight_sysbox
    fi
    preflight_ports
    preflight_files
    if ((faults)); then
        printf '\n%s to mend, nothing was changed\n' "$faults" >&2
        exit 1
    fi
    [[ $sshd_to != off ]] || ((image_build)) ||
        confirm "This machine's own sshd is switched off: without a console nobody gets in but through the gateway."
}

preflight_machine() {
    ((EUID == 0)) || fault "it needs root" "sudo $0 …"
    local release
    # shellcheck source=/dev/null
    release=$(. /etc/os-release && echo "${ID:-unknown} ${VERSION_ID:-}")
    case $release in
        'ubuntu 22.04' | 'ubuntu 24.04' | 'ubuntu 26.04' | 'debian 12' | 'debian 13') ;;
        *) fault "$release is not a system that Boxgate is installed on" "take Ubuntu 22.04, 24.04, 26.04 or Debian 12, 13" ;;
    esac
    case $(uname --machine) in
        x86_64 | aarch64) ;;
        *) fault "there is no Boxgate for $(uname --machine)" "take a machine with an amd64 or arm64 processor" ;;
    esac
    { have ss && have ip; } || fault "ss and ip are missing, without which nobody can look at its ports and routes" "apt-get install iproute2"
    [[ -z $(dpkg --audit 2>/dev/null) ]] || fault "an installation of packages was cut off" "dpkg --configure -a && apt-get -f install"
    ((!image_build)) || return 0
    local container
    if ((!allow_container)) && container=$(systemd-detect-virt --container 2>/dev/null); then
        fault "it is a container ($container): boxes are to be its Docker's, and its kernel is another machine's" \
            "take a machine or a virtual one; --allow-container tries it all the same, --image-build makes an image"
    fi
    [[ -d /run/systemd/system ]] ||
        fault "systemd is not its init, so that nothing would start Boxgate" "boot it with systemd; in a chroot: --image-build"
}

preflight_kernel() {
    # The kernel that an image is built under is not the one that it will run with.
    ((!image_build)) || return 0
    local kernel
    kernel=$(uname --kernel-release)
    if [[ $runtime == sysbox ]]; then
        if dpkg --compare-versions "$kernel" lt "$KERNEL"; then
            fault "kernel $kernel has no ID-mapped mounts, which Sysbox needs: $KERNEL is the first that has them" \
                "install a newer one (Ubuntu: apt-get install linux-generic-hwe-\$(lsb_release -rs); Debian: from backports), then reboot"
        elif dpkg --compare-versions "$kernel" lt "$KERNEL_GOOD"; then
            warn "kernel $kernel cannot ID-map overlayfs, so that Sysbox makes boxes slowly; $KERNEL_GOOD can"
        fi
    fi
    if [[ ! -e /sys/fs/cgroup/cgroup.controllers ]]; then
        if [[ $runtime == sysbox ]]; then
            fault "it has cgroups of version 1, with which clusters do not run in boxes" \
                "add systemd.unified_cgroup_hierarchy=1 to GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub and reboot"
        else
            warn "it has cgroups of version 1: kubelets from 1.35 on refuse them unless told otherwise"
        fi
    fi
    # Nothing is made by a check. Without nft its package comes first.
    ! have nft || nft --check --file - <<<'table inet boxgate_check { chain forward { type filter hook forward priority 0; }; }' 2>/dev/null ||
        fault "nft cannot make rules, without which boxes reach each other and this machine" "is the kernel module nf_tables there? modprobe nf_tables"
}

# The nearest directory above a path that is there.
existing() {
    local path=$1
    while [[ ! -d $path ]]; do path=$(dirname "$path"); done
    echo "$path"
}

preflight_room() {
    local gib=$DISK_GIB path=/var/lib/docker free memory
    ((!no_docker)) || gib=$DISK_WITHOUT_DOCKER_GIB path=/var/lib/boxgate
    path=$(existing "$path")
    free=$(($(df --output=avail --block-size=1M "$path" | tail -n 1) + 0))
    ((free >= gib * 1024)) ||
        fault "$path has $free MiB left, and $gib GiB are the least that boxes need there" "make room, or mount a larger disk at /var/lib/docker"
    memory=$(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024))
    ((image_build || memory >= MEMORY_MIB)) ||
        fault "it has $memory MiB of memory, and 2 GiB are the least for a box and what looks after it" "take a larger machine"
}

preflight_docker() {
    local client
    client=$(realpath "$(command -v docker)" 2>/dev/null) || client=
    if [[ -d /var/snap/docker || $client == /snap/* || $client == /usr/bin/snap ]]; then
        fault "its Docker is the snap, which boxes' directories cannot be bound into" \
            "move what its containers hold, then: snap remove docker"
    fi
    ! installed podman-docker || fault "podman-docker stands where Docker's client is to be" "apt-get remove podman-docker"
    [[ -f $DAEMON_JSON ]] && have jq || return 0
    if ! jq --exit-status 'type == "object"' "$DAEMON_JSON" >/dev/null 2>&1; then
        fault "$DAEMON_JSON is no JSON object, so that nothing can be added to it" "mend it: jq . $DAEMON_JSON"
        return
    fi
    jq --exit-status '.iptables != false' "$DAEMON_JSON" >/dev/null ||
        fault "$DAEMON_JSON has \"iptables\": false, and boxes reach nothing without Docker's rules" "take that line out"
    jq --exit-status '(."userns-remap" // "") == ""' "$DAEMON_JSON" >/dev/null ||
        fault "$DAEMON_JSON has userns-remap, and boxes have user namespaces of their own" "take that line out"
}

preflight_networks() {
    local pool file=$CONFIG route
    [[ -z $config ]] || file=$config
    pool=$(configured network_pool "$file")
    pool=${pool:-10.201.0.0/16}
    # A network of Docker, boxes' among them, is Docker's own business.
    while read -r route; do
        ! overlap "$pool" "$route" || fault "boxes are to have the addresses $pool, and it has a route to $route" \
            "set provisioner.network_pool to a range that nothing else uses, in a file for --config"
    done < <(routes)
}

preflight_sysbox() {
    local has why arch
    arch=$(dpkg --print-architecture)
    if has=$(sysbox_version); then
        sysbox_new_enough "$has" && return
        [[ -z $(docker ps --quiet --filter runtime=sysbox-runc 2>/dev/null || docker ps --quiet 2>/dev/null) ]] ||
            fault "Sysbox $has is older than $SYSBOX_VERSION, and containers run that its upgrade would break" \
                "boxgate stop --all, end other containers of Sysbox, then run this again"
    fi
    why=$(sysbox_fault "$arch")
    [[ -z $why ]] || fault "Sysbox cannot be installed: $why" "take one from https://github.com/nestybox/sysbox/releases, or try without isolation: --runtime runc"
}

preflight_ports() {
    local who=''
    have ss || return 0
    ((image_build)) || who=$(listener "$port")
    case $who in
        '' | gateway) ;;
        sshd) preflight_sshd ;;
        *) fault "port $port, where the gateway is to listen, is taken by $who" "end it (systemctl status $who), or choose another: --port PORT" ;;
    esac
    [[ $who == sshd || -z $sshd_to ]] || preflight_sshd
    ((open_ports)) || let_in "$port" || warn "$(firewall) lets nobody in on port $port; --open-ports changes that"
}

# It is told to move. Whatever could lock the operator out is a fault.
preflight_sshd() {
    local who line wrong
    if [[ $sshd_port == keep ]]; then
        fault "port $port is taken by this machine's own sshd, which is to keep it" "choose another for the gateway: --port PORT"
        return
    fi
    ((image_build || yes)) || [[ $sshd_port ]] || ! over_ssh ||
        fault "somebody is here over ssh, and this machine's sshd would move from port $port to $sshd_to" \
            "say that you know: --sshd-port $sshd_to (or another, off, or keep with another --port for the gateway)" \
            "and let port $sshd_to in first, in the cloud's security group as in every firewall before this machine"
    [[ $sshd_to != off ]] || return 0
    [[ $sshd_to != "$port" ]] || fault "the gateway and sshd cannot both have port $port" "choose another --sshd-port or --port"
    if ((!image_build)); then
        who=$(listener "$sshd_to")
        # Without that directory, which a first connection makes, sshd cannot say.
        [[ ! -d /run/sshd ]] || wrong=$(/usr/sbin/sshd -t 2>&1) || fault "sshd finds its own configuration not valid, and would not start with it:" "$wrong"
        [[ -z $who || $who == sshd ]] || fault "port $sshd_to, where sshd is to move, is taken by $who" "choose another: --sshd-port PORT"
    fi
    grep -qiE '^[[:space:]]*Include[[:space:]]+"?/etc/ssh/sshd_config\.d/\*\.conf' /etc/ssh/sshd_config ||
        fault "/etc/ssh/sshd_config does not include sshd_config.d, so that sshd cannot be told another port beside it" \
            "put at its top: Include /etc/ssh/sshd_config.d/*.conf"
    while read -r line; do
        fault "sshd is told its port in a file of yours: $line" "take that line out (sshd's port is 22 without it), then run this again"
    done < <(sshd_port_lines)
    ((open_ports)) || let_in "$sshd_to" ||
        fault "$(firewall) lets nobody in on port $sshd_to, where sshd is to move" "--open-ports, or open it yourself"
}

preflight_files() {
    local i name file
    for ((i = 0; i < ${#users[@]}; i += 2)); do
        name=${users[i]} file=${users[i + 1]}
        [[ $name =~ ^[a-z][a-z0-9_-]{0,31}$ && $name != root && $name != box ]] ||
            fault "nobody can log in as $name" "a login name has small letters, digits, - and _, begins with a letter, and is neither root nor box"
        if [[ ! -r $file ]]; then
            fault "$name's key file $file cannot be read" "--user $name --key FILE.pub"
        elif grep -q 'PRIVATE KEY' "$file"; then
            fault "$file is a private key" "give the public one: --user $name --key $file.pub"
        elif have ssh-keygen && ! ssh-keygen -l -f "$file" >/dev/null 2>&1; then
            fault "$file has no public key" "--user $name --key FILE.pub"
        fi
    done
    ((${#users[@]} <= 2 || understood)) || [[ $runtime != runc || $configured_runtime ]] ||
        fault "under runc root in one user's box is root in everybody's" "if that is fine here: --i-understand-boxes-are-root-on-this-host"
    if [[ $config && ! -r $config ]]; then
        fault "$config, which is to be the configuration, cannot be read"
    elif [[ $config ]] && have boxgate-gateway && ! valid "$config"; then
        fault "$config is no valid configuration:" "$config_faults"
    fi
    [[ -z $configured_runtime || $configured_runtime == "$runtime" ]] ||
        fault "--runtime says $runtime and ${config:-$CONFIG} says $configured_runtime" "edit the file, and leave the option out"
    [[ -z $box_image || -r $box_image ]] || fault "the box image $box_image cannot be read"
    ((!no_docker)) || [[ -z $box_image$profile ]] || fault "--no-docker leaves the box image to you" "leave --box-image and --profile out"
    preflight_packages
}
