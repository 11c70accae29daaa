# Where Sysbox comes from: its release package, and what that package's checksum is. Sourced by ./devhost and
# ami/install.sh, not run.
#
# SYSBOX_DEB=FILE takes a package that is here already, on a machine without a way out or for another build of it;
# SYSBOX_SHA256=SUM is then, or for an architecture whose checksum is not known here, what the file must have.
# shellcheck shell=bash

readonly SYSBOX_VERSION=0.7.1
readonly SYSBOX_RELEASES=https://github.com/nestybox/sysbox/releases/download/v$SYSBOX_VERSION

# Of the published packages. The one for arm64 was never seen by whoever wrote this, so nobody's word is taken for it.
declare -rA SYSBOX_SUMS=(
    [amd64]=9d6d5484f980d0a17f86c492c1262015c2afb66280bdb97215b79fde6a0261c5
)

sysbox_url() { echo "$SYSBOX_RELEASES/sysbox-ce_$SYSBOX_VERSION.linux_$1.deb"; }

# sysbox_sum ARCHITECTURE: nothing where none is known.
sysbox_sum() { echo "${SYSBOX_SHA256:-${SYSBOX_SUMS[$1]:-}}"; }

# sysbox_fault ARCHITECTURE: why its package cannot be taken, in words; nothing when all is well so far.
sysbox_fault() {
    local arch=$1 deb=${SYSBOX_DEB:-} name version
    if [[ -z $deb ]]; then
        [[ -n $(sysbox_sum "$arch") ]] ||
            echo "the checksum of its $arch package is not known here: SYSBOX_SHA256=SUM names it, SYSBOX_DEB=FILE a package that you have"
    elif [[ ! -r $deb ]]; then
        echo "$deb, which SYSBOX_DEB names, cannot be read"
    elif [[ -n ${SYSBOX_SHA256:-} ]] && ! sysbox_sum_fits "$deb" "$arch"; then
        echo "$deb does not have the checksum that SYSBOX_SHA256 names"
    elif ! name=$(dpkg-deb --field "$deb" Package 2>/dev/null) || [[ $name != sysbox-[ce]e ]]; then
        echo "$deb is not a package of Sysbox"
    elif version=$(dpkg-deb --field "$deb" Version) && ! sysbox_new_enough "$version"; then
        echo "$deb is Sysbox $version, and $SYSBOX_VERSION is the oldest that boxes work with"
    elif [[ $(dpkg-deb --field "$deb" Architecture) != "$arch" ]]; then
        echo "$deb is for $(dpkg-deb --field "$deb" Architecture), and this machine is $arch"
    fi
}

# The package's own versions look like 0.7.1.linux or 0.7.1-0.debian-bookworm.
sysbox_new_enough() { dpkg --compare-versions "$1" ge "$SYSBOX_VERSION"; }

sysbox_sum_fits() { sha256sum --check --status <<<"$(sysbox_sum "$2")  $1"; }

# sysbox_package ARCHITECTURE DIRECTORY: prints the checked package's file, in DIRECTORY when it had to be fetched.
# Status 1: it could not be fetched. Status 2: what was fetched is another file, and is gone again.
sysbox_package() {
    local arch=$1 deb=${SYSBOX_DEB:-}
    if [[ -z $deb ]]; then
        deb=$2/sysbox-$SYSBOX_VERSION-$arch.deb
        if [[ ! -f $deb ]]; then
            curl --fail --silent --location --connect-timeout 10 --output "$deb.part" "$(sysbox_url "$arch")" || return 1
            mv "$deb.part" "$deb"
        fi
        sysbox_sum_fits "$deb" "$arch" || { rm -f "$deb" && return 2; }
    fi
    # apt takes a path for a package's name unless it begins like a path.
    realpath "$deb"
}
