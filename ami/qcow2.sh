#!/usr/bin/env bash
# Builds the qcow2 of devhost.pkr.hcl, for a hypervisor at hand: dist/qcow2.
#
#   ami/qcow2.sh [OPTION OF packer build]…      for example: ami/qcow2.sh -var profile=minimal
#
# Needs packer, qemu-system-x86, KVM and the packages that `./devhost deb` leaves in dist/.
# The machine lets in a key made for this build alone, which ami/clean removes from it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
seed=$(mktemp -d)
trap 'rm -rf "$seed"' EXIT

mkdir "$seed/served"
ssh-keygen -q -t ed25519 -N '' -C 'image build' -f "$seed/key"
printf '#cloud-config\nssh_authorized_keys:\n  - %s\n' "$(cat "$seed/key.pub")" >"$seed/served/user-data"
printf 'instance-id: image-build\n' >"$seed/served/meta-data"

if [[ $(packer version) != *" v1."[0-6].* ]]; then
    packer init "$here"
    template=$here
else
    template=$here/devhost.pkr.hcl
fi
packer build -only=qemu.amd64 \
    -var "qcow2_seed=$seed/served" -var "qcow2_key=$seed/key" \
    -var "qcow2_checksum=file:https://cloud-images.ubuntu.com/releases/24.04/release/SHA256SUMS" \
    "$@" "$template"
