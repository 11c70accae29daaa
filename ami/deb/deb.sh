# The Debian packages: `./devhost deb` and its test. Sourced by devhost, whose say, die, apt_packages and paths it uses.
#
# What a package holds stands in the crates' Cargo.toml, for cargo-deb; what is generated for it goes to `deb` beside the
# programs. Packages of another architecture are cross-compiled, and what their programs print runs under qemu's emulation.
# shellcheck shell=bash
# shellcheck disable=SC2154 # see above

readonly CARGO_DEB=3.8.0 ARM64=aarch64-unknown-linux-gnu

# deb [--arch ARCH] [--out DIR] [--fast]: the three packages, and one with debug symbols for each.
deb() {
    local arch='' out=$ROOT/dist how=(--dbgsym --compress-debug-symbols=zlib)
    while (($#)); do
        case $1 in
            --arch | --out) (($# > 1)) || die "$1 needs a value" "./devhost help" ;;
            --fast) how=(--fast --strip) && shift && continue ;;
            *) die "unknown option $1" "./devhost help" ;;
        esac
        case $1 in
            --arch) arch=$2 ;;
            --out) out=$2 ;;
        esac
        shift 2
    done
    deb_tools
    local native target=() run=()
    native=$(dpkg --print-architecture)
    deb_target "${arch:-$native}"
    say "building the programs for ${arch:-$native}"
    (cd "$ROOT" && cargo build --quiet --release --locked "${target[@]}" -p boxgate-gateway -p boxgate-provisioner)
    pack "$out" "${how[@]}"
}

deb_tools() {
    apt_packages dpkg-shlibdeps=dpkg-dev help2man=help2man objcopy=binutils
    setup
    cargo_deb=$CACHE/cargo-deb-$CARGO_DEB/bin/cargo-deb
    [[ -x $cargo_deb ]] || {
        say "installing cargo-deb"
        (cd "$ROOT" && cargo install --quiet --locked "cargo-deb@$CARGO_DEB" --root "$CACHE/cargo-deb-$CARGO_DEB")
    }
}

# deb_target ARCH: sets the caller's `target`, cargo's arguments, and `run`, what a program for it is started with.
deb_target() {
    [[ $1 != "$(dpkg --print-architecture)" ]] || return 0
    [[ $1 == arm64 ]] || die "no packages can be made here for the architecture $1" "./devhost deb --arch arm64, or on such a machine without --arch"
    arm64_toolchain
    target=(--target "$ARM64")
    run=(qemu-aarch64-static -L /usr/aarch64-linux-gnu)
}

# --- for another architecture ---------------------------------------------------------------------------

# Exports what cargo needs to build for arm64 here and to run what it built.
arm64_toolchain() {
    apt_packages aarch64-linux-gnu-gcc=gcc-aarch64-linux-gnu qemu-aarch64-static=qemu-user-static
    [[ -e /usr/aarch64-linux-gnu/lib/libc.so.6 && -e /usr/aarch64-linux-gnu/include/stdio.h ]] || apt_packages arm64-libc=libc6-dev-arm64-cross
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='qemu-aarch64-static -L /usr/aarch64-linux-gnu'
    # Another compiler than that of the other builds would have cargo build those anew: each has its own directory.
    export CARGO_TARGET_DIR=$CACHE/target-arm64
    (cd "$ROOT" && has_std) || (cd "$ROOT" && rustup target add "$ARM64" >/dev/null 2>&1 && has_std) || debian_rust
}
has_std() { compgen -G "$(rustc --print sysroot)/lib/rustlib/$ARM64/lib/libstd-*.rlib" >/dev/null; }

# Where rustup's server cannot be reached, Debian has a compiler that is new enough together with its library for arm64.
# It is unpacked, not installed, and asked for by nobody else. Its packages are those that apt trusts Debian's key for.
debian_rust() {
    local rust=$CACHE/debian-rust
    if [[ ! -e $rust/complete ]]; then
        say "fetching Debian's Rust for arm64, as rustup cannot fetch its own"
        [[ -e /usr/share/keyrings/debian-archive-keyring.gpg ]] || apt_packages debian-keys=debian-archive-keyring
        rm -rf "$rust"
        mkdir -p "$rust"/{lists/partial,archives/partial,bin}
        debian_rust_sources "$rust"
        (
            export APT_CONFIG=$rust/apt.conf
            cd "$rust/archives"
            apt-get update -qq && apt-get download -qq {rustc-web,libstd-rust-web-1.96,libllvm22,libstd-rust-web-dev}:amd64 libstd-rust-web-dev:arm64
        ) >&2 || die "Debian's Rust for arm64 cannot be fetched" "install rustup's: rustup target add $ARM64"
        local package
        for package in "$rust"/archives/*.deb; do dpkg-deb --extract "$package" "$rust"; done
        rm -rf "$rust/archives" "$rust/lists"
        # shellcheck disable=SC2016 # for the script that is written
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q "$@"\n' "$rust/usr/lib/x86_64-linux-gnu" "$rust/usr/bin/rustc" >"$rust/bin/rustc"
        chmod 755 "$rust/bin/rustc"
        "$rust/bin/rustc" --version >/dev/null || die "Debian's Rust does not run here" "install rustup's: rustup target add $ARM64"
        touch "$rust/complete"
    fi
    export RUSTC=$rust/bin/rustc
}

# debian_rust_sources DIRECTORY: a configuration of apt that knows Debian 12 alone, and nothing of what is installed.
debian_rust_sources() {
    local key='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]'
    cat >"$1/sources.list" <<SOURCES
deb $key http://deb.debian.org/debian-security bookworm-security main
deb $key http://deb.debian.org/debian bookworm main
SOURCES
    cat >"$1/apt.conf" <<CONF
APT::Architecture "amd64";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "root";
Dir::Etc::sourcelist "$1/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$1/lists";
Dir::State::status "/dev/null";
Dir::Cache "$1";
CONF
}

# --- packing --------------------------------------------------------------------------------------------

# pack DIRECTORY [OPTION…]: packs the programs that were built for `target`; OPTIONs are cargo-deb's.
pack() {
    local out=$1 made version
    shift
    version=$(deb_version)
    made=$CARGO_TARGET_DIR/${target[1]:+${target[1]}/}release
    generate "$made" "$version"
    mkdir -p "$out"
    say "packing version $version into $out"
    local package
    for package in "boxgate-gateway" "boxgate-provisioner" "boxgate-provisioner --variant daemon"; do
        # shellcheck disable=SC2086 # two words are meant
        (cd "$ROOT" && "$cargo_deb" deb --quiet --no-build --deb-version "$version" \
            "${target[@]}" --output "$out/" "$@" -p $package >/dev/null)
    done
    check_libc "$out" "$version"
}

# cargo-deb only warns when it finds no libraries. And what a newer system's C library gave is not on an older one.
check_libc() {
    local file needs
    for file in "$1"/boxgate*_"$2"_*.deb; do
        needs=$(dpkg-deb --field "$file" Depends | sed -nE 's/.*\blibc6(:arm64)? \(>= ([0-9.]+)\).*/\2/p')
        [[ $needs ]] || die "$file does not say which C library it needs" "was dpkg-shlibdeps able to read its programs?"
        ! dpkg --compare-versions "$needs" gt 2.35 ||
            say "${file##*/} needs glibc $needs: built on Debian 12 or Ubuntu 22.04 it would run on both"
    done
}

# The changelog says whether there is a release of what is here. What is not released yet comes before it, in the order of
# commits; BOXGATE_DEB_VERSION says otherwise.
deb_version() {
    local released when commit='' git=(git -c "safe.directory=$ROOT" -C "$ROOT")
    released=$(sed -nE '/^\[workspace.package\]/,/^\[/s/^version = "(.*)"/\1/p' "$ROOT/Cargo.toml")
    if [[ ${BOXGATE_DEB_VERSION:-} ]]; then
        echo "$BOXGATE_DEB_VERSION"
    elif ! grep -m 1 '^## ' "$ROOT/CHANGELOG.md" | grep -q Unreleased; then
        echo "$released-1"
    else
        when=$("${git[@]}" log -1 --format=%ct 2>/dev/null) || when=$(stat --format=%Y "$ROOT/CHANGELOG.md")
        commit=.$("${git[@]}" rev-parse --short=8 HEAD 2>/dev/null) || commit=
        # What nobody committed is newer than any commit.
        [[ -z $("${git[@]}" status --porcelain 2>/dev/null) ]] || when=$(date +%s) commit=
        echo "$released~$(date --utc --date="@$when" +%Y%m%d.%H%M%S)$commit-1"
    fi
}

# generate DIRECTORY VERSION: what packages hold beside programs and the files of this repository, into DIRECTORY/deb.
generate() {
    local programs=$1 into=$1/deb package
    rm -rf "$into"
    mkdir -p "$into"/{man,completions,changelog}
    "${run[@]}" "$programs/boxgate" man "$into/man" 2>/dev/null
    "${run[@]}" "$programs/boxgate" completions bash >"$into/completions/boxgate"
    "${run[@]}" "$programs/boxgate" completions zsh >"$into/completions/_boxgate"
    "${run[@]}" "$programs/boxgate" completions fish >"$into/completions/boxgate.fish"
    manual boxgate-gateway "the SSH server through which people reach their boxes"
    manual boxgate-provisioner "makes, wakes and stops the boxes that people log in to"
    gzip -9n "$into"/man/* "$into"/*.8
    for package in boxgate boxgate-gateway boxgate-provisioner; do
        debian_changelog "$package" "$2" | gzip -9n >"$into/changelog/$package.gz"
    done
}

# manual PROGRAM SUMMARY: of a daemon, from its --help. help2man starts what is called as the program is.
manual() {
    mkdir "$into/start"
    printf '#!/bin/sh\nexec %s "$@"\n' "${run[*]} $programs/$1" >"$into/start/$1"
    chmod 755 "$into/start/$1"
    help2man --no-info --section 8 --name "$2" --output "$into/$1.8" "$into/start/$1"
    rm -r "$into/start"
}

# debian_changelog PACKAGE VERSION: CHANGELOG.md as Debian writes one. Each entry's lines become one.
debian_changelog() {
    local when
    when=$(git -c "safe.directory=$ROOT" -C "$ROOT" log -1 --format=%ct 2>/dev/null) || when=$(stat --format=%Y "$ROOT/CHANGELOG.md")
    awk -v package="$1" -v version="$2" -v when="$(LC_ALL=C date --utc --rfc-email --date="@$when")" '
        function wrap(text, i, n, word, line) {
            n = split(text, word, " ")
            line = "  *"
            for (i = 1; i <= n; i++) {
                if (length(line) + length(word[i]) > 78) { print line; line = "   " }
                line = line " " word[i]
            }
            print line
        }
        function entry() { if (text) wrap(text); text = "" }
        function close_version() { entry(); if (open) printf "\n -- Boxgate maintainers <maintainers@boxgate.invalid>  %s\n\n", when }
        /^## / {
            close_version(); open = 1
            printf "%s (%s) unstable; urgency=medium\n\n", package, first++ ? $2 "-1" : version
            next
        }
        /^- / { entry(); text = substr($0, 3); next }
        /^ / { text = text " " $0 }
        END { close_version() }
    ' "$ROOT/CHANGELOG.md"
}

# --- the test -------------------------------------------------------------------------------------------

# On a machine that is a container of the box image: it has systemd, and only nftables is added. The programs are those
# that were built for the other tests.
test_packages() {
    local debs ended=0
    debs=$(mktemp -d)
    BOXGATE_DEB_VERSION=0.1.0-1 "$ROOT/devhost" deb --fast --out "$debs" &&
        lintian --allow-root --fail-on error "$debs"/*.deb &&
        printf 'FROM %s\nRUN apt-get update -qq && apt-get install -y -qq --no-install-recommends nftables\n' "$IMAGE" |
        "$DOCKER" build --quiet --tag boxgate/deb-test:latest - &&
        DOCKER=$DOCKER BOXGATE_DEBS=$debs bats --tap tests/deb || ended=1
    rm -r "$debs"
    return $ended
}
