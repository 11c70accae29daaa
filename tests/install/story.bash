# What stories of an installation say. They run in a machine of their own, see `machine`.
# shellcheck shell=bash
# shellcheck disable=SC2119,SC2120 # stories give versions

# install [OPTION…]: with alice's key, packages and Sysbox at hand. What it says is in /machine/said.
install() { /boxgate/ami/install.sh --packages /machine/debs "$@" >/machine/said 2>&1 </dev/null || { ended=$? && cat /machine/said && return $ended; }; }

# refuses PART…: the installation fails before it changes anything, and its message has each PART. OPTIONS go with it.
refuses() {
    local before part
    before=$(changed)
    if /boxgate/ami/install.sh --packages /machine/debs "${OPTIONS[@]}" >/machine/said 2>&1 </dev/null; then
        wrong "it did not refuse"
    fi
    for part; do said "$part"; done
    [[ $(changed) == "$before" ]] || wrong "it changed something: $(diff <(echo "$before") <(changed))"
    [[ ! -s calls ]] || wrong "it did something: $(cat calls)"
}
OPTIONS=()

said() { grep -qF -- "$1" /machine/said || wrong "it does not say: $1"; }
unsaid() { ! grep -qF -- "$1" /machine/said || wrong "it says: $1"; }
called() { grep -qxF -- "$1" /machine/calls || wrong "it did not do: $1, but: $(cat /machine/calls)"; }
uncalled() { ! grep -qE -- "$1" /machine/calls || wrong "it did: $(grep -E -- "$1" /machine/calls)"; }
has() { grep -qF -- "$2" "$1" || wrong "$1 lacks: $2; it has: $(cat "$1")"; }
mode() { [[ $(stat -c '%U:%G %a' "$1") == "$2" ]] || wrong "$1 is $(stat -c '%U:%G %a' "$1"), not $2"; }
answers() { timeout 3 bash -c "exec 3<>/dev/tcp/127.0.0.1/$1 && head -c 30 <&3" 2>/dev/null | grep -q "$2" || wrong "nothing on port $1 says $2"; }
silent() { ! timeout 1 bash -c "exec 3<>/dev/tcp/127.0.0.1/$1" 2>/dev/null || wrong "something listens on port $1"; }
wrong() {
    printf '\n%s\n--- what it said:\n' "$1" >&2
    cat /machine/said >&2
    exit 1
}

# Every file of the machine, with what it has: that nothing was changed can be seen by it.
changed() {
    find /etc /usr/sbin /usr/bin/boxgate /usr/lib/systemd/system /usr/share/boxgate /var/lib/boxgate /var/lib/dpkg/status /run /machine/units \
        -xdev \( -type f -o -type d \) -not -path '/run/lock*' -not -path '/run/sshd*' -printf '%p %m %u %s %T@\n' 2>/dev/null | sort || true
}

# deb NAME VERSION [FILE…]: a package in debs/, with those files of the stand-in's directory in it.
deb() {
    local dir=/tmp/deb/$1
    mkdir -p "$dir/DEBIAN" debs
    printf 'Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: a test <nobody@example.org>\nDescription: stands in\n' \
        "$1" "$2" "${ARCH:-$(dpkg --print-architecture)}" >"$dir/DEBIAN/control"
    # As every package's builder does.
    (cd "$dir" && find . -path ./DEBIAN -prune -o -type f -exec md5sum {} + | sed 's| \./| |' >DEBIAN/md5sums)
    dpkg-deb --build --root-owner-group "$dir" "debs/$1_$2_${ARCH:-$(dpkg --print-architecture)}.deb" >/dev/null
}

# Boxgate's packages of a version: programs that answer, and the user that the real one's postinst makes.
boxgate_debs() {
    local version=${1:-0.1.0} dir=/tmp/deb
    mkdir -p "$dir/boxgate/usr/bin" "$dir/boxgate-gateway/usr/sbin" "$dir/boxgate-gateway/DEBIAN" "$dir/boxgate-provisioner/usr/sbin"
    printf '#!/bin/sh\necho "boxgate $*" >>/machine/calls\n[ ! -e /machine/ill ] || { echo "FAIL everything"; exit 1; }\n# %s\n' "$version" >"$dir/boxgate/usr/bin/boxgate"
    cp stand-ins/listener "$dir/boxgate-gateway/usr/sbin/boxgate-gateway"
    printf '#!/bin/sh\ngetent passwd boxgate >/dev/null || useradd --system --user-group --no-create-home boxgate\n' >"$dir/boxgate-gateway/DEBIAN/postinst"
    printf '#!/bin/sh\n' >"$dir/boxgate-provisioner/usr/sbin/boxgate-provisioner"
    chmod 755 "$dir"/*/usr/*bin/* "$dir/boxgate-gateway/DEBIAN/postinst"
    deb boxgate "$version"
    deb boxgate-gateway "$version"
    deb boxgate-provisioner "$version"
}

# Sysbox's package, which the real way of installing it goes with.
sysbox_deb() {
    local dir=/tmp/deb/sysbox-ce
    mkdir -p "$dir/usr/bin"
    printf '#!/bin/sh\necho sysbox-runc\n' >"$dir/usr/bin/sysbox-runc"
    chmod 755 "$dir/usr/bin/sysbox-runc"
    deb sysbox-ce "${1:-0.7.1.linux}"
    export SYSBOX_DEB=/machine/debs/sysbox-ce_${1:-0.7.1.linux}_${ARCH:-$(dpkg --print-architecture)}.deb
}

: >calls
boxgate_debs
sysbox_deb
ssh-keygen -q -t ed25519 -N '' -C alice -f alice
ssh-keygen -q -t ed25519 -N '' -C bob -f bob
touch units/ssh.service.enabled
# An archive as `docker save` makes it.
mkdir -p /tmp/image && echo '[{"Config":"blobs/sha256/1234","RepoTags":["boxgate/box:latest"]}]' >/tmp/image/manifest.json
tar -C /tmp/image -cf box.tar manifest.json && zstd -q box.tar
# Where a story has no sshd it says so.
sshd_runs() { systemctl start ssh.service && : >calls; }
