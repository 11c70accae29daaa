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
readonly LABEL=io.boxgate.recipe

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
# shellcheck disable=SC2034 # for lib.sh
readonly what="box image"
# shellcheck source=ami/lib.sh
. "$here/../lib.sh"

KIND_VERSION=$(pinned 'sigs.k8s.io/kind v')
# The libraries of Kubernetes 1.36.3 are numbered 0.36.3.
KUBECTL_VERSION=1$(pinned 'k8s.io/kubectl v0')
readonly KIND_VERSION KUBECTL_VERSION

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | sed '/^set /d'; }

# --- the base -----------------------------------------------------------------------

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
    use_gowork
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

recipe() {
    {
        pack --directory "$here" Dockerfile build.sh setup rootfs tools --directory "$here/.." kind-node lib.sh
        echo "$base_id"
    } | sha256sum | cut -d' ' -f1
}

up_to_date() {
    [[ $("$docker" image inspect --format "{{index .Config.Labels \"$LABEL\"}}" "$tag" 2>/dev/null) == "$recipe" ]]
}

build_image() {
    local context=$work/context
    mkdir -p "$context/bin" "$context/lib" "$context/share/images"
    ln "$bin/kind" "$context/lib/kind.real"
    [[ -n $kubectl_package ]] || ln "$bin/kubectl" "$context/bin/"
    "$here/../kind-node/build.sh" --output "$context/share/images" --cache "$cache"
    say "building $tag on $base (some minutes; log: $cache/build.log)"
    pack --directory "$here" Dockerfile setup rootfs --directory "$context" bin lib share |
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
