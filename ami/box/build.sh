#!/usr/bin/env bash
# Builds the box image from the recipe in this folder.
#
#   ami/box/build.sh --tag boxgate/box:latest [--profile minimal|full] [--base IMAGE] [--cache DIR]
#
# --profile  which tools are in it: kind and kubectl (minimal, the default), or all of tools/tools.list (full)
# --base     what the box is built on. Without it: ubuntu:24.04 when Docker has it or a
#            registry answers at once, else a Debian 12 made here with mmdebstrap.
# --cache    where tools, the node image and what is needed to build them are kept
#            (default: ${XDG_CACHE_HOME:-~/.cache}/boxgate).
#
# Environment: DOCKER names the Docker client; GOPROXY is honoured where Go builds.
#
# The image carries a hash of everything it was made from in the label
# io.boxgate.recipe. When the tagged image has the right one, nothing is done.
set -euo pipefail

readonly LABEL=io.boxgate.recipe PROFILE_LABEL=io.boxgate.profile

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
# shellcheck disable=SC2034 # for lib.sh
readonly what="box image"
# shellcheck source=ami/lib.sh
. "$here/../lib.sh"

# shellcheck source=ami/box/tools.sh
. "$here/tools.sh"

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

# --- the image ----------------------------------------------------------------------

recipe() {
    {
        pack --directory "$here" Dockerfile build.sh setup rootfs tools tools.sh --directory "$here/.." kind-node lib.sh
        echo "$base_id $profile"
    } | sha256sum | cut -d' ' -f1
}

up_to_date() {
    [[ $("$docker" image inspect --format "{{index .Config.Labels \"$LABEL\"}}" "$tag" 2>/dev/null) == "$recipe" ]]
}

build_image() {
    local context=$work/context packages=() had=() missing=()
    mkdir -p "$context/usr/share/boxgate/images"
    get_tools
    "$here/../kind-node/build.sh" --output "$context/usr/share/boxgate/images" --cache "$cache"
    tell_tools >"$context/usr/share/boxgate/tools.json"
    say "building $tag on $base (some minutes; log: $cache/build.log)"
    pack --directory "$here" Dockerfile setup rootfs --directory "$context" usr |
        DOCKER_BUILDKIT=$(builder) "$docker" build --tag "$tag" --label "$LABEL=$recipe" --label "$PROFILE_LABEL=$profile" \
            --build-arg "BASE=$base" --build-arg "TOOL_PACKAGES=${packages[*]}" - \
            >"$cache/build.log" 2>&1 || {
        tail -n 40 "$cache/build.log" >&2
        die "docker build failed; the end of $cache/build.log is above"
    }
}

# What the image says of its tools.
tell_tools() {
    local IFS=,
    printf '{"profile": "%s",\n"tools": [%s],\n"missing": [%s]}\n' "$profile" "${had[*]}" "${missing[*]}"
}

main() {
    local tag='' base='' profile=minimal cache=${XDG_CACHE_HOME:-$HOME/.cache}/boxgate
    local synopsis="build.sh --tag NAME [--profile minimal|full] [--base IMAGE] [--cache DIR]"
    read_options "tag base cache profile" "$synopsis" "$@"
    [[ -n $tag ]] || die "--tag is missing" "usage: $synopsis"
    [[ $profile == minimal || $profile == full ]] || die "--profile is minimal or full, not $profile"

    local docker='' base_id='' recipe='' go='' arch
    find_docker
    arch=$("$docker" version --format '{{.Server.Arch}}')

    mkdir -p "$cache"
    cache=$(cd "$cache" && pwd)
    local gowork=$cache/go
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
    build_image
    say "$tag is ready in ${SECONDS}s, $("$docker" image inspect --format '{{.Size}}' "$tag" | numfmt --to=si)B"
}

main "$@"
