#!/usr/bin/env bash
# Builds the box image from the recipe in this folder.
#
#   ami/box/build.sh --tag boxgate/box:latest [--base IMAGE] [--cache DIR]
#
# --base   what the box is built on. Without it: ubuntu:24.04 when Docker has it or a
#          registry answers at once, else a Debian 12 made here with mmdebstrap.
# --cache  where kind, kubectl and what is needed to build them are kept
#          (default: ${XDG_CACHE_HOME:-~/.cache}/boxgate).
#
# Environment: DOCKER names the Docker client; GOPROXY is honoured where Go builds.
#
# The image carries a hash of everything it was made from in the label
# io.boxgate.recipe. When the tagged image has the right one, nothing is done.
set -euo pipefail

# A distribution's kubectl older than this is passed over: kubectl works with clusters
# one minor version older or newer than itself, and kind makes clusters of 1.36 and
# 1.37. (Debian 12 has 1.20.)
readonly KUBECTL_FLOOR=1.35

# The published checksums of the versions that tools/go.mod names; whoever changes
# those changes these. Where there is none, the program is built from its Go module,
# which tools/go.sum pins.
declare -rA KIND_SHA256=(
    [amd64]=aee6151561422756b764a4ae28e7f44cda5af5a9eead3cc9985112b1de8d8e0d
    [arm64]=20022bee6cfcd5086cb7234d218e3454e6090022f2a8f55d1fa7fcf42c3867a2
)
declare -rA KUBECTL_SHA256=(
    [amd64]=ebbd080e7c2e275093b55915722043257eb24004363e20acb3c4d71919f88336
)
# As the checksum database has it: `go mod download -json` prints it as "Sum".
declare -rA GO_SUM=(
    [amd64]=h1:ZOmGe1OnfREDMIdb1Qi4G9JSuDPBLGExZMQ4nis1RXM=
    [arm64]=h1:sYL/O6MqS68ML0kjsQ36WoYIpJqkw60TxizWUYUKQMc=
)

readonly FALLBACK_BASE=boxgate-base:bookworm
readonly LABEL=io.boxgate.recipe

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here

# pinned PATTERN: the version that follows PATTERN in go.mod.
pinned() { sed -nE "s|^[[:space:]]*$1([0-9.]+)( .*)?\$|\1|p" "$here/tools/go.mod"; }
KIND_VERSION=$(pinned 'sigs.k8s.io/kind v')
# The libraries of Kubernetes 1.36.3 are numbered 0.36.3.
KUBECTL_VERSION=1$(pinned 'k8s.io/kubectl v0')
GO_VERSION=$(pinned 'toolchain go')
readonly KIND_VERSION KUBECTL_VERSION GO_VERSION

say() { printf 'box image: %s\n' "$*"; }
die() {
    printf 'box image: error: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '           %s\n' "$@" >&2
    exit 1
}
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | sed '/^set /d'; }

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

# Sets base and base_id. What is already here is taken before anything is fetched, so
# that a second run asks no registry.
find_base() {
    if [[ -n $base ]]; then
        image_id "$base" >/dev/null || {
            say "pulling $base"
            timeout 900 "$docker" pull "$base" >&2 ||
                die "the base image $base is not here and cannot be pulled"
        }
    elif image_id ubuntu:24.04 >/dev/null; then
        base=ubuntu:24.04
    elif image_id "$FALLBACK_BASE" >/dev/null; then
        base=$FALLBACK_BASE
    elif say "looking for ubuntu:24.04 in a registry" && pull_if_answered ubuntu:24.04; then
        base=ubuntu:24.04
    else
        make_fallback_base
        base=$FALLBACK_BASE
    fi
    base_id=$(image_id "$base")
}

# --- kind and kubectl ---------------------------------------------------------------

# The name of the distribution's kubectl package if it is recent enough, else nothing.
packaged_kubectl() {
    local version
    version=$("$docker" run --rm "$base_id" sh -c '
        apt-get update -qq >/dev/null 2>&1
        apt-cache show --no-all-versions kubernetes-client 2>/dev/null' |
        sed -n 's/^Version: *//p') || true
    if [[ -n $version && $(printf '%s\n' "$KUBECTL_FLOOR" "$version" | sort -V | head -n 1) == "$KUBECTL_FLOOR" ]]; then
        echo kubernetes-client
    fi
}

# fetch NAME URL SHA256: the official release, or failure within seconds when it is
# out of reach.
fetch() {
    local name=$1 url=$2 sum=$3 file=$work/$1
    [[ -n $sum ]] && command -v curl >/dev/null || return 1
    curl --fail --silent --location --connect-timeout 5 --speed-limit 1000 --speed-time 15 \
        --output "$file" "$url" || return 1
    if ! sha256sum --check --status <<<"$sum  $file"; then
        say "warning: $url does not have the published checksum, not used"
        return 1
    fi
    chmod 755 "$file"
    mv "$file" "$bin/$name"
    say "$name: official release"
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

# build NAME PACKAGE [LDFLAGS]: from the Go module.
build() {
    local name=$1 package=$2 stamp=${3:-}
    [[ -n $go ]] || find_go
    say "$name: building from its Go module (some minutes)"
    (cd "$here/tools" && CGO_ENABLED=0 "$go" build -p 2 -trimpath -ldflags "-s -w $stamp" \
        -o "$work/$name" "$package") >"$work/go.log" 2>&1 || {
        tail -n 20 "$work/go.log" >&2
        die "$name cannot be built" "is the Go module proxy in reach? (GOPROXY)"
    }
    mv "$work/$name" "$bin/$name"
}

make_tools() {
    mkdir -p "$bin"
    # Sources and compiler caches are thrown away once the programs are there; until
    # then they stay, so that an interrupted build goes on where it was.
    export GOMODCACHE=$gowork/mod GOCACHE=$gowork/cache GOPATH=$gowork/path
    export GOFLAGS=-modcacherw GOTOOLCHAIN=auto GOWORK=off
    mkdir -p "$gowork"
    go=
    if [[ ! -x $bin/kind ]]; then
        fetch kind "https://github.com/kubernetes-sigs/kind/releases/download/v$KIND_VERSION/kind-linux-$arch" \
            "${KIND_SHA256[$arch]:-}" || build kind sigs.k8s.io/kind
    fi
    if [[ -z $kubectl_package && ! -x $bin/kubectl ]]; then
        fetch kubectl "https://dl.k8s.io/release/v$KUBECTL_VERSION/bin/linux/$arch/kubectl" \
            "${KUBECTL_SHA256[$arch]:-}" ||
            build kubectl ./kubectl "-X k8s.io/component-base/version.gitVersion=v$KUBECTL_VERSION"
    fi
    rm -rf "$gowork"
}

# --- the image ----------------------------------------------------------------------

# The build context, with modes that do not depend on the checkout's umask.
pack() {
    tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX "$@"
}

recipe() {
    {
        pack --directory "$here" Dockerfile build.sh setup rootfs tools
        echo "$base_id"
    } | sha256sum | cut -d' ' -f1
}

up_to_date() {
    [[ $("$docker" image inspect --format "{{index .Config.Labels \"$LABEL\"}}" "$tag" 2>/dev/null) == "$recipe" ]]
}

build_image() {
    local programs=(bin/kind)
    [[ -n $kubectl_package ]] || programs+=(bin/kubectl)
    say "building $tag on $base (some minutes; log: $cache/build.log)"
    pack --directory "$here" Dockerfile setup rootfs --directory "$(dirname "$bin")" "${programs[@]}" |
        DOCKER_BUILDKIT=$(builder) "$docker" build --tag "$tag" --label "$LABEL=$recipe" \
            --build-arg "BASE=$base" --build-arg "KUBECTL_PACKAGE=$kubectl_package" - \
            >"$cache/build.log" 2>&1 || {
        tail -n 40 "$cache/build.log" >&2
        die "docker build failed; the end of $cache/build.log is above"
    }
}

main() {
    local tag='' base='' cache=${XDG_CACHE_HOME:-$HOME/.cache}/boxgate
    while (($# > 0)); do
        case $1 in
        --tag | --base | --cache)
            [[ -n ${2:-} ]] || die "$1 needs a value"
            printf -v "${1#--}" %s "$2"
            shift 2
            ;;
        --help | -h) usage && exit ;;
        *) die "unknown argument: $1" "usage: build.sh --tag NAME [--base IMAGE] [--cache DIR]" ;;
        esac
    done
    [[ -n $tag ]] || die "--tag is missing" "usage: build.sh --tag NAME [--base IMAGE] [--cache DIR]"

    local docker='' base_id='' recipe='' kubectl_package='' go='' arch
    find_docker
    arch=$("$docker" version --format '{{.Server.Arch}}')

    mkdir -p "$cache"
    cache=$(cd "$cache" && pwd)
    local bin=$cache/kind-$KIND_VERSION-kubectl-$KUBECTL_VERSION-$arch/bin gowork=$cache/go
    work=$(mktemp -d "$cache/work.XXXXXX")
    trap 'rm -rf "$work"' EXIT

    # Two builds at once would do the same work twice.
    exec 9>"$cache/build.lock"
    flock --nonblock 9 || { say "waiting for another build" && flock 9; }

    find_base
    recipe=$(recipe)
    if up_to_date; then
        say "$tag is up to date"
        return
    fi
    kubectl_package=$(packaged_kubectl)
    make_tools
    build_image
    say "$tag is ready in ${SECONDS}s, $("$docker" image inspect --format '{{.Size}}' "$tag" | numfmt --to=si)B"
}

main "$@"
