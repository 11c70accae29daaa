#!/usr/bin/env bash
# Makes the archive of the node image with which `kind create cluster` in a box needs no download.
#
#   ami/kind-node/build.sh --output DIR [--cache DIR]
#
# --output  gets node.tar.zst, for `docker load`, and node.json, which says what it is
# --cache   where archives, and what is needed to make them, are kept (default: ${XDG_CACHE_HOME:-~/.cache}/boxgate)
#
# The image is the official one of the pinned kind where a registry answers. Elsewhere it is made here, in about a
# quarter of an hour, from Go modules and Debian packages: the programs of bin/, and kind's own files out of its
# module. Such a node makes clusters of one node; its volumes are directories of the node (kubernetes.io/host-path).
#
# Environment: DOCKER names the Docker client; GOPROXY and GOFLAGS are honoured where Go builds. BOXGATE_NODE=made
# asks no registry.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
# shellcheck disable=SC2034 # for lib.sh
readonly what="node image"
# shellcheck source=ami/lib.sh
. "$here/../lib.sh"

# What kind 0.33.0 takes by itself: its constant Image in pkg/apis/config/defaults. A change of kind's version in
# tools/go.mod changes this line too; the build checks that they agree wherever it has kind's source.
readonly OFFICIAL=kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5

KIND_VERSION=$(pinned 'sigs.k8s.io/kind v')
KUBERNETES=$(sed -nE 's|^[[:space:]]*k8s.io/kubernetes (v[0-9.]+)$|\1|p' "$here/bin/go.mod")
readonly KIND_VERSION KUBERNETES
readonly MADE=boxgate/kind-node:$KUBERNETES

# --- the official image -------------------------------------------------------------------------------------

official() {
    [[ ${BOXGATE_NODE:-} != made ]] || return 1
    image_id "$OFFICIAL" >/dev/null && return
    say "looking for ${OFFICIAL%@*} in a registry"
    pull_if_answered "$OFFICIAL"
}

# An archive keeps no digest, so in the box the image has its tag alone.
keep_official() {
    "$docker" tag "$OFFICIAL" "${OFFICIAL%@*}"
    keep "${OFFICIAL%@*}" "${OFFICIAL#*:}" "the official image, ${OFFICIAL#*@}"
}

# --- our own ------------------------------------------------------------------------------------------------

programs() { echo "$cache/kind-node-$KUBERNETES-$arch-$(pack --directory "$here" bin | sha256sum | head -c 16)"; }

build_programs() {
    local file=$1
    [[ ! -x $file ]] || return 0
    use_gowork
    find_go
    say "building Kubernetes $KUBERNETES, etcd and CoreDNS from their Go modules (about ten minutes)"
    local version=k8s.io/component-base/version
    # Linking takes 2.6 GB; two packages at a time leave the machine usable.
    (cd "$here/bin" && CGO_ENABLED=0 "$go" build -p 2 -trimpath -ldflags "-s -w -X $version.gitVersion=$KUBERNETES \
        -X $version.gitMajor=1 -X $version.gitMinor=$(cut -d. -f2 <<<"$KUBERNETES")" -o "$work/kube-node" .) \
        >"$work/go.log" 2>&1 || {
        tail -n 20 "$work/go.log" >&2
        die "the programs of the node image cannot be built" "is the Go module proxy in reach? (GOPROXY)"
    }
    mv "$work/kube-node" "$file"
    rm -rf "$gowork"
}

# Sets module to the folder of kind's source. Its checksum is in the go.sum of the box's tools.
find_kind() {
    use_gowork
    find_go
    module=$(cd "$here/../box/tools" && "$go" mod download -json "sigs.k8s.io/kind@v$KIND_VERSION" |
        sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
    [[ -d $module ]] || die "the source of kind $KIND_VERSION cannot be fetched" "is the Go module proxy in reach? (GOPROXY)"
    grep -qF "\"$OFFICIAL\"" "$module/pkg/apis/config/defaults/image.go" ||
        die "kind $KIND_VERSION takes another node image than $OFFICIAL" "set OFFICIAL in ami/kind-node/build.sh to its own"
}

# The images that kubeadm asks for, and the one that kind's containerd makes pods with.
needed_images() {
    "$work/kubeadm" config images list --kubernetes-version "$KUBERNETES" 2>/dev/null
    sed -n 's/^ *sandbox_image = "\(.*\)"$/\1/p' "$module/images/base/files/etc/containerd/config.toml"
}

make_node() {
    local file module='' context=$work/context images
    file=$(programs)
    build_programs "$file"
    find_kind
    ln -sf "$file" "$work/kubeadm"
    images=$(needed_images | tr '\n' ' ')
    image_id "$FALLBACK_BASE" >/dev/null || make_fallback_base

    mkdir -p "$context"
    cp -r "$module/images/base/files" "$context/files"
    # Modules carry no executable bits, and the licence notes are about programs that are not in here.
    chmod -R u=rwX,go=rX "$context/files"
    chmod 755 "$context"/files/usr/local/bin/* "$context"/files/kind/bin/*
    rm -rf "$context/files/LICENSES"
    cp "$file" "$context/kube-node"
    cp -r "$here/setup" "$here/Dockerfile" "$context/"
    say "building $MADE on $FALLBACK_BASE"
    pack --directory "$context" . |
        DOCKER_BUILDKIT=$(builder) "$docker" build --tag "$MADE" --build-arg "BASE=$FALLBACK_BASE" \
            --build-arg "VERSION=$KUBERNETES" --build-arg "IMAGES=$images" - >"$cache/node.log" 2>&1 || {
        tail -n 40 "$cache/node.log" >&2
        die "docker build failed; the end of $cache/node.log is above"
    }
    rm -rf "$gowork"
    keep "$MADE" "$KUBERNETES" "built from Go modules and Debian packages"
}

# --- the archive --------------------------------------------------------------------------------------------

# keep IMAGE VERSION SOURCE: as archive in the cache; then Docker need not have it.
keep() {
    say "packing $1"
    "$docker" save "$1" | zstd --quiet --threads=2 -9 -o "$work/node.tar.zst"
    "$docker" image rm "$1" >/dev/null
    printf '{"image": "%s", "kubernetes": "%s", "source": "%s"}\n' "$1" "$2" "$3" >"$work/node.json"
    mkdir -p "$store"
    mv "$work/node.tar.zst" "$work/node.json" "$store/"
}

main() {
    local output='' cache=${XDG_CACHE_HOME:-$HOME/.cache}/boxgate
    local synopsis="build.sh --output DIR [--cache DIR]"
    read_options "output cache" "$synopsis" "$@"
    [[ -n $output ]] || die "--output is missing" "usage: $synopsis"
    command -v zstd >/dev/null || die "zstd is missing" "apt-get install zstd"

    local docker='' go='' arch
    find_docker
    arch=$("$docker" version --format '{{.Server.Arch}}')
    mkdir -p "$cache" "$output"
    cache=$(cd "$cache" && pwd)
    local gowork=$cache/go-node
    work=$(mktemp -d "$cache/work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    exec 8>"$cache/node.lock"
    flock --nonblock 8 || { say "waiting for another build" && flock 8; }

    local store
    store=$cache/node-$(recipe)
    if [[ ! -f $store/node.json ]]; then
        if official; then keep_official; else make_node; fi
    fi
    ln -f "$store/node.json" "$store/node.tar.zst" "$output/" 2>/dev/null || cp "$store"/* "$output/"
}

# What the archive is made from, but for the base: Debian's updates alone make no new one.
recipe() { { pack --directory "$here" . && echo "$KIND_VERSION $arch ${BOXGATE_NODE:-}"; } | sha256sum | head -c 16; }

main "$@"
