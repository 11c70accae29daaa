# Shell functions of the scripts that build images: they look for Docker, a base and a Go, and fetch and pack.
# Sourced, not run. Who sources it sets, before it calls anything here:
#
#   what    what is being built, the first words of every message
#   docker  empty; find_docker sets it
#   work    a directory for things of this run
#   go      empty; find_go sets it
#   gowork  a directory for what find_go unpacks, and for Go's sources and compiler cache, see use_gowork
#   arch    the architecture that is built for, as Docker and Go call it
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # see above

readonly FALLBACK_BASE=boxgate-base:bookworm
ami=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly ami

# pinned PATTERN: the version that follows PATTERN in the go.mod of the box's tools.
pinned() { sed -nE "s|^[[:space:]]*$1([0-9.]+)( .*)?\$|\1|p" "$ami/box/tools/go.mod"; }

# As the checksum database has it: `go mod download -json` prints it as "Sum".
declare -rA GO_SUM=(
    [amd64]=h1:ZOmGe1OnfREDMIdb1Qi4G9JSuDPBLGExZMQ4nis1RXM=
    [arm64]=h1:sYL/O6MqS68ML0kjsQ36WoYIpJqkw60TxizWUYUKQMc=
)
GO_VERSION=$(pinned 'toolchain go')
readonly GO_VERSION

say() { printf '%s: %s\n' "$what" "$*"; }
die() {
    printf '%s: error: %s\n' "$what" "$1" >&2
    shift
    (($# == 0)) || printf '           %s\n' "$@" >&2
    exit 1
}

# What stands at the top of the script that was called.
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0" | sed '/^set /d'; }

# read_options "NAME…" SYNOPSIS WORD…: sets the caller's variables that are called as the options are.
read_options() {
    local names=" $1 " synopsis=$2
    shift 2
    while (($# > 0)); do
        [[ $1 != --help && $1 != -h ]] || { usage && exit; }
        [[ $1 == --* && $names == *" ${1#--} "* ]] || die "unknown argument: $1" "usage: $synopsis"
        [[ -n ${2:-} ]] || die "$1 needs a value"
        printf -v "${1#--}" %s "$2"
        shift 2
    done
}

# --- Docker -------------------------------------------------------------------------

# The distribution's own client first: another one in front of it in PATH may be too
# new or too old for the daemon, or lack its plug-ins.
find_docker() {
    local candidate
    for candidate in ${DOCKER:+"$DOCKER"} /usr/bin/docker docker; do
        if timeout 20 "$candidate" version --format '{{.Server.Version}}' >/dev/null 2>&1; then
            docker=$candidate
            return
        fi
        # Who names a client wants that one.
        [[ -z ${DOCKER:-} ]] || break
    done
    die "no Docker client can reach a Docker daemon" \
        "is Docker installed and running, and may you use it? try: ${DOCKER:-docker} version"
}

image_id() { "$docker" image inspect --format '{{.Id}}' "$1" 2>/dev/null; }

# BuildKit is part of the daemon, but clients from 23 on reach it only through the
# buildx plug-in, which distributions package apart. The recipe builds without it too.
builder() {
    local client
    client=$("$docker" version --format '{{.Client.Version}}')
    if ((${client%%.*} < 23)) || "$docker" buildx version >/dev/null 2>&1; then
        echo 1
    else
        echo 0
    fi
}

# --- the base -----------------------------------------------------------------------

# Pulls an image, but gives up after a few seconds when no registry answers. Docker
# says "Pulling from" once it has spoken to one.
pull_if_answered() {
    local log=$work/pull.log pull
    : >"$log"
    "$docker" pull "$1" >"$log" 2>&1 &
    pull=$!
    for ((tenths = 0; tenths < 80; tenths++)); do
        if ! kill -0 "$pull" 2>/dev/null || grep -q 'Pulling from' "$log"; then
            wait "$pull"
            return
        fi
        sleep 0.1
    done
    kill "$pull" 2>/dev/null || true
    wait "$pull" 2>/dev/null || true
    return 1
}

make_fallback_base() {
    command -v mmdebstrap >/dev/null ||
        die "no registry answers, and mmdebstrap, which makes a base without one, is missing" \
            "install it (apt-get install mmdebstrap), or give an image that Docker has: --base IMAGE"
    say "making $FALLBACK_BASE with mmdebstrap (about a minute)"
    local archive=http://deb.debian.org
    mmdebstrap --quiet --variant=minbase bookworm - \
        "deb $archive/debian bookworm main" \
        "deb $archive/debian bookworm-updates main" \
        "deb $archive/debian-security bookworm-security main" \
        2>"$work/mmdebstrap.log" |
        "$docker" import - "$FALLBACK_BASE" >/dev/null || {
        "$docker" image rm "$FALLBACK_BASE" >/dev/null 2>&1 || true
        tail -n 20 "$work/mmdebstrap.log" >&2
        die "mmdebstrap failed" \
            "it needs root, Debian's package archive and, on Ubuntu, the package debian-archive-keyring"
    }
}

# --- programs -----------------------------------------------------------------------

# fetch URL SHA256 FILE: the official release, or failure within seconds when it is
# out of reach.
fetch() {
    local url=$1 sum=$2 file=$3
    command -v curl >/dev/null || return 1
    curl --fail --silent --location --connect-timeout 5 --speed-limit 1000 --speed-time 15 \
        --output "$file" "$url" || return 1
    if ! sha256sum --check --status <<<"$sum  $file"; then
        say "warning: $url does not have the published checksum, not used"
        return 1
    fi
}

# Sets go to a Go that can build tools/. From 1.21 on, Go fetches the toolchain that
# go.mod names; for an older one the same toolchain is asked for as the module that it
# is, with the old Go itself, or with the distribution's, unpacked but not installed.
find_go() {
    local old
    if old=$(command -v go) && go_is_new "$old"; then
        go=$old
        return
    fi
    [[ -n $old ]] || old=$(unpack_packaged_go)
    go_is_new "$old" && { go=$old && return; }

    say "fetching the Go $GO_VERSION toolchain"
    local found dir sum
    found=$(cd "$gowork" && "$old" mod download -json "golang.org/toolchain@v0.0.1-go$GO_VERSION.linux-$arch") ||
        die "the Go toolchain cannot be fetched" "$found" \
            "install Go 1.21 or newer, or check GOPROXY (now: $("$old" env GOPROXY))"
    dir=$(sed -n 's/.*"Dir": "\(.*\)".*/\1/p' <<<"$found")
    sum=$(sed -n 's/.*"Sum": "\(.*\)".*/\1/p' <<<"$found")
    [[ $sum == "${GO_SUM[$arch]:-}" ]] ||
        die "the Go toolchain has another checksum than the one pinned here: $sum"
    # Modules carry no executable bits.
    chmod -R u+wx "$dir/bin" "$dir/pkg/tool"
    go=$dir/bin/go
}

# Sources and compiler caches are thrown away once the programs are there; until then they stay, so that an
# interrupted build goes on where it was.
use_gowork() {
    export GOMODCACHE=$gowork/mod GOCACHE=$gowork/cache GOPATH=$gowork/path
    export GOFLAGS=-modcacherw GOTOOLCHAIN=auto GOWORK=off
    mkdir -p "$gowork"
}

go_is_new() { [[ $("$1" env GOVERSION) =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= 21)); }

unpack_packaged_go() {
    local name dir=$gowork/packaged
    name=$(apt-cache depends golang-go 2>/dev/null | sed -n 's/.*Depends: \(golang-[0-9.]*-go\)$/\1/p' | head -n 1)
    [[ -n $name ]] ||
        die "kind and kubectl must be built, and neither Go nor a package of it was found" \
            "install Go 1.21 or newer, or run apt-get update and try again"
    say "no Go here: unpacking the distribution's (${name}) in the cache" >&2
    rm -rf "$dir"
    mkdir -p "$dir"
    (
        cd "$dir"
        # _apt may not read the cache; the note that says so helps nobody.
        apt-get download -qq "$name" "${name%-go}-src" 2>/dev/null
        for package in ./*.deb; do dpkg-deb -x "$package" .; done
    ) || die "the packages $name and ${name%-go}-src cannot be fetched" "run apt-get update and try again"
    echo "$dir/usr/lib/${name%-go}" | sed 's/golang-/go-/;s/$/\/bin\/go/'
}

# The build context, with modes that do not depend on the checkout's umask.
pack() {
    tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX "$@"
}
