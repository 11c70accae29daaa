# Gets the tools of tools/tools.list for build.sh, which sources this. Sets, beside what lib.sh names:
#
#   packages  the distribution's packages that are tools
#   had       a line of JSON for each tool that was had
#   missing   the same for those that were not
# shellcheck shell=bash
# shellcheck disable=SC2154 # here, cache, work, context, arch and profile are build.sh's

# Go for the tools that are built from published modules. Go verifies a toolchain that it fetches with its checksum
# database, and the modules with their own go.sum.
readonly MODULE_GO=go1.27.4

tools_list() { sed 's/^[[:space:]]*//; /^#/d; /^$/d' "$here/tools/tools.list"; }

# The versions of all packages that the list names and the distribution has: NAME VERSION.
packaged() {
    # shellcheck disable=SC2016 # the container's shell expands it
    tools_list | sed -n 's/^package \([^ ]*\) .*/\1/p' | "$docker" run --rm --interactive "$base_id" sh -c '
        apt-get update -qq >/dev/null 2>&1
        while read -r name; do
            version=$(apt-cache show --no-all-versions "$name" 2>/dev/null | sed -n "s/^Version: *//p")
            [ -z "$version" ] || echo "$name $version"
        done' || true
}

# get_tools: makes $context/usr of all that no package has.
get_tools() {
    local name='' of='' version='' into='' lines=()
    local -A available=()
    while read -r name version; do available[$name]=$version; done < <(packaged)
    name=''
    while read -r key rest; do
        if [[ $key == tool ]]; then
            [[ -z $name ]] || get_tool
            read -r name of version <<<"$rest"
            into=local/bin/$name lines=()
        elif [[ $key == into ]]; then
            into=$rest
        else
            lines+=("$key $rest")
        fi
    done < <(tools_list)
    get_tool
    rm -rf "$gowork"
}

# One tool, whose lines were read.
get_tool() {
    [[ $of == always || $profile == full ]] || return 0
    local kept=$cache/tools/$name-$version-$arch source reason='the distribution has no package of it that is recent enough'
    if source=$(from_package); then
        packages+=("${source#package }")
        packages[-1]=${packages[-1]%% *}
    elif [[ -e $kept ]]; then
        source=$(cat "$kept.source")
    else
        mkdir -p "$cache/tools"
        rm -rf "$work/tool"
        source=''
        # Each sets source where it succeeds, and else perhaps reason.
        from_release || from_go || true
        if [[ -n $source ]]; then
            echo "$source" >"$kept.source"
            mv "$work/tool" "$kept"
        fi
    fi
    if [[ -z $source ]]; then
        [[ $of != always ]] || die "$name cannot be had: $reason" "see ami/box/tools/tools.list for where it is looked for"
        say "without $name: $reason"
        missing+=("{\"name\": \"$name\", \"version\": \"$version\", \"reason\": \"$reason\"}")
        return
    fi
    [[ $source == package* ]] && version=${source##* }
    had+=("{\"name\": \"$name\", \"version\": \"$version\", \"source\": \"$source\"}")
    say "$name $version: $source"
    [[ $source != package* ]] || return 0
    mkdir -p "$context/usr/$(dirname "$into")"
    cp -al "$kept" "$context/usr/$into"
}

# lines_of KEY: of the tool.
lines_of() { printf '%s\n' "${lines[@]}" | sed -n "s/^$1 //p"; }

from_package() {
    local package floor have
    read -r package floor < <(lines_of package) || return 1
    have=${available[$package]:-}
    [[ -n $have ]] && dpkg --compare-versions "$have" ge "$floor" || return 1
    echo "package $package $have"
}

from_release() {
    local sum url member
    read -r _ sum url member < <(lines_of release | grep "^$arch ") || return 1
    if [[ $sum == - ]]; then
        reason="no published checksum of its release is known here"
        return 1
    fi
    reason="its release cannot be fetched"
    fetch "$url" "$sum" "$work/release" || return 1
    if [[ -n ${member:-} ]]; then
        unpack "$member" || { reason="its release has no $member in it" && return 1; }
    else
        mv "$work/release" "$work/tool"
    fi
    chmod -R u+rwX,go+rX "$work/tool"
    [[ -d $work/tool ]] || chmod 755 "$work/tool"
    source="official release"
}

unpack() {
    rm -rf "$work/unpacked"
    mkdir "$work/unpacked"
    case $url in
    *.zip) unzip -q "$work/release" -d "$work/unpacked" ;;
    *) tar --extract --gzip --file "$work/release" --directory "$work/unpacked" ;;
    esac && mv "$work/unpacked/$1" "$work/tool"
}

from_go() {
    local line
    if line=$(lines_of here) && [[ -n $line ]]; then
        from_here "$line"
    elif line=$(lines_of module) && [[ -n $line ]]; then
        from_module "$line"
    elif line=$(lines_of tree | grep "^$arch ") && [[ -n $line ]]; then
        from_tree "$line"
    else
        return 1
    fi
}

# go_build DIRECTORY PACKAGE [-X NAME=VALUE]…
go_build() {
    local directory=$1 package=$2
    shift 2
    say "building $name from its Go module (some minutes)"
    (cd "$directory" && CGO_ENABLED=0 "$go" build -p 2 -mod=readonly -trimpath -ldflags "-s -w $*" \
        -o "$work/tool" "$package") >"$work/go.log" 2>&1 && return
    tail -n 20 "$work/go.log" >&2
    reason="it cannot be built from its Go module"
    return 1
}

from_here() {
    use_gowork
    [[ -n $go ]] || find_go
    # shellcheck disable=SC2086 # a list of words
    go_build "$here/tools" $1 || return 1
    source="built from its Go module"
}

# download MODULE SUM: sets directory to its files, if they are those that SUM is of.
download() {
    local said
    use_gowork
    [[ -n $go ]] || find_go
    reason="its Go module cannot be fetched"
    export GOTOOLCHAIN=$MODULE_GO
    said=$(cd "$gowork" && "$go" mod download -json "$1" 2>"$work/go.log") || return 1
    directory=$(sed -n 's/.*"Dir": "\(.*\)".*/\1/p' <<<"$said")
    grep -qF "\"Sum\": \"$2\"" <<<"$said" && return
    reason="its Go module has another checksum than the one in tools.list"
    return 1
}

from_module() {
    local sum module rest directory=''
    read -r sum module rest <<<"$1"
    download "$module" "$sum" || return 1
    # Built in a copy: as a main module, so that its own go.mod and go.sum are what counts.
    rm -rf "$work/source"
    cp -r "$directory" "$work/source"
    chmod -R u+w "$work/source"
    # shellcheck disable=SC2086 # a list of words
    go_build "$work/source" $rest || return 1
    source="built from its Go module"
}

from_tree() {
    local sum module directory=''
    read -r _ sum module <<<"$1"
    download "$module" "$sum" || return 1
    cp -r "$directory" "$work/tool"
    # Modules carry no executable bits.
    chmod -R u=rwX,go=rX "$work/tool"
    find "$work/tool/bin" "$work/tool/pkg/tool" -type f -exec chmod 755 {} +
    source="its Go module"
}
