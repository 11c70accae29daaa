#!/usr/bin/env bash
# Makes patches/made-by-devhost-setup/russh: the published russh, checked against Cargo.lock, with the
# patches in russh/ applied in order. Does nothing when that is already there. Safe when two run at once.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
out=made-by-devhost-setup
patches=(russh/*.patch)

# The stamp is what was applied, so a changed patch is noticed here and by the gateway's build script.
current() {
    cat "${patches[@]}" | cmp -s - "$out/stamp"
}

current && exit
# The directory itself is the lock: cargo locks Cargo.lock for its own use.
exec 9<russh
flock 9
current && exit

cargo fetch --locked --quiet --manifest-path Cargo.toml
# Two lines: where cargo unpacked the crate that the lock file names, once its checksum was right.
manifest=$(cargo metadata --locked --offline --format-version 1 --manifest-path Cargo.toml |
    grep -o '"[^"]*/russh-0\.[^/"]*/Cargo\.toml"' | sort -u | tr -d '"')
[[ -f $manifest ]] || { echo "patches: cannot find the source of russh: '$manifest'" >&2; exit 1; }

mkdir -p target
new=$(mktemp -d target/new.XXXXXX)
trap 'rm -rf "$new"' EXIT
cp -r "$(dirname "$manifest")" "$new/russh"
for patch in "${patches[@]}"; do
    patch --directory="$new/russh" -p1 --fuzz=0 --no-backup-if-mismatch --silent <"$patch" ||
        { echo "patches: $patch does not apply to $(dirname "$manifest")" >&2; exit 1; }
done
cat "${patches[@]}" >"$new/stamp"
chmod 755 "$new"

# What is there is whole at any moment: moved aside and replaced, never edited.
old=$(mktemp -d target/old.XXXXXX)
trap 'rm -rf "$new" "$old"' EXIT
[[ ! -e $out ]] || mv "$out" "$old/"
mv "$new" "$out"
echo "patches: russh is patched (${#patches[@]} patches)"
