#!/usr/bin/env bash
# Makes an Ubuntu 22.04, 24.04, 26.04 or Debian 12, 13 machine a devhost, and upgrades one. `ami/install.sh --help`.
#
# Each step looks before it acts, so that a second run changes nothing and one that was cut off goes on where it was.
# All that would stand in the way is looked for first and told at once (install/preflight.sh); every change goes
# through install/change.sh, which --dry-run makes talk only. docs/install.md says what is done, and why so.
set -euo pipefail
shopt -s inherit_errexit

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
# shellcheck source=ami/sysbox.sh
. "$here/sysbox.sh"
# shellcheck source=ami/install/change.sh
. "$here/install/change.sh"
# shellcheck source=ami/install/ports.sh
. "$here/install/ports.sh"
# shellcheck source=ami/install/preflight.sh
. "$here/install/preflight.sh"
# shellcheck source=ami/install/docker.sh
. "$here/install/docker.sh"
# shellcheck source=ami/install/boxgate.sh
. "$here/install/boxgate.sh"
# shellcheck source=ami/install/sshd.sh
. "$here/install/sshd.sh"
# shellcheck source=ami/install/uninstall.sh
. "$here/install/uninstall.sh"

# shellcheck disable=SC2034 # these, like the options below, are for the parts
readonly DEFAULT_PORT=22 DEFAULT_SSHD_PORT=2222
readonly CONFIG=/etc/boxgate/boxgate.toml
readonly IMAGE=boxgate/box:latest

help() {
    cat <<'USAGE'
Usage: ami/install.sh [OPTIONS]        as root; run again to upgrade or to change something

Who may log in
  --user NAME --key FILE   the public keys of FILE may log in as NAME (repeatable; more keys are added to those there)
  --config FILE            FILE becomes /etc/boxgate/boxgate.toml; without it a short one is written when there is none

Boxes
  --runtime sysbox|runc    default sysbox; runc does not isolate: root in a box is root on this machine
  --i-understand-boxes-are-root-on-this-host
                           let several users have boxes under runc
  --box-image FILE         load the box image from FILE (docker save; .tar, .tar.gz or .tar.zst) instead of building it
  --profile minimal|full   build the box image here, with these tools (default: minimal when there is none, else it stays)

Ports
  --port PORT              where the gateway listens (default: as it is, 22 at first)
  --sshd-port PORT|off|keep
                           what becomes of this machine's own sshd where it has the gateway's port: it moves to PORT
                           (the default, 2222), is switched off, or stays (choose another --port then)
  --open-ports             open both ports in ufw or firewalld, if one of them is active

What is installed
  --packages DIR           the .deb files of Boxgate (default: beside this script or in dist/ of the clone; built there
                           if there are none)
  --no-docker              leave Docker, Sysbox and the box image to you
  --image-build            for chroots and Packer: units are enabled and nothing is started
  --allow-container        go on although this machine is a container

How
  --dry-run                look, tell what would be done, change nothing
  --yes                    ask nothing: for scripts
  --uninstall              remove Boxgate; configuration, keys, homes and Docker stay
  --purge                  with --uninstall: remove the boxes with their homes, configuration and keys too
  --help                   this text

Environment
  SYSBOX_DEB=FILE          Sysbox's package, where it cannot be fetched
  SYSBOX_SHA256=SUM        its checksum: needed for arm64 without SYSBOX_DEB

Exit codes: 0 done; 1 failed, or `boxgate doctor` found what must be mended; 2 not understood; 5 not confirmed.
USAGE
}

misused() {
    printf 'install.sh: %s\n    ami/install.sh --help\n' "$1" >&2
    exit "$NOT_UNDERSTOOD"
}

# Sets what the parts read. An option that was not given is empty, or 0.
# shellcheck disable=SC2034
read_arguments() {
    config='' runtime='' box_image='' profile='' port='' sshd_port='' packages_dir='' users=()
    understood=0 open_ports=0 no_docker=0 image_build=0 allow_container=0 dry_run=0 yes=0 uninstall=0 purge=0
    local user=''
    while (($#)); do
        case $1 in
            --user | --key | --config | --runtime | --box-image | --profile | --port | --sshd-port | --packages)
                [[ -n ${2:-} ]] || misused "$1 needs a value"
                ;;
        esac
        case $1 in
            --user)
                [[ -z $user ]] || misused "--user $user has no --key FILE"
                user=$2 && shift ;;
            --key)
                [[ -n $user ]] || misused "--key comes after the --user whose key it is"
                users+=("$user" "$2") user='' && shift ;;
            --config) config=$2 && shift ;;
            --runtime) runtime=$2 && shift ;;
            --i-understand-boxes-are-root-on-this-host) understood=1 ;;
            --box-image) box_image=$2 && shift ;;
            --profile) profile=$2 && shift ;;
            --port) port=$2 && shift ;;
            --sshd-port) sshd_port=$2 && shift ;;
            --open-ports) open_ports=1 ;;
            --packages) packages_dir=$2 && shift ;;
            --no-docker) no_docker=1 ;;
            --image-build) image_build=1 ;;
            --allow-container) allow_container=1 ;;
            --dry-run) dry_run=1 ;;
            --yes) yes=1 ;;
            --uninstall) uninstall=1 ;;
            --purge) purge=1 ;;
            --help | -h) help && exit ;;
            *) misused "unknown option $1" ;;
        esac
        shift
    done
    [[ -z $user ]] || misused "--user $user has no --key FILE"
    [[ $runtime =~ ^(|sysbox|runc)$ ]] || misused "--runtime is sysbox or runc, not $runtime"
    [[ $profile =~ ^(|minimal|full)$ ]] || misused "--profile is minimal or full, not $profile"
    [[ -z $port ]] || is_port "$port" || misused "--port is a number from 1 to 65535, not $port"
    [[ $sshd_port =~ ^(|off|keep)$ ]] || is_port "$sshd_port" || misused "--sshd-port is a port, off or keep, not $sshd_port"
    ((!purge || uninstall)) || misused "--purge goes with --uninstall"
}

# What was not asked for stays as an earlier run, or the configuration, has it.
settle() {
    local file=$CONFIG
    [[ -z $config ]] || file=$config
    [[ $port ]] || port=$(gateway_port)
    configured_runtime=$(configured runtime "$file")
    [[ $runtime ]] || runtime=${configured_runtime:-sysbox}
    image=$(configured image "$file")
    [[ $image ]] || image=$IMAGE
    settle_sshd
}

install_devhost() {
    settle
    preflight
    ((!dry_run)) || say "this is what would be done; nothing is"
    prerequisites
    limits
    if ((!no_docker)); then
        engine
        [[ $runtime != sysbox ]] || sysbox
    fi
    boxgate_packages
    configuration
    keys
    if ((!no_docker)); then box_image; fi
    open_firewall
    make_way_for_gateway
    units
    ((changes)) || say "there was nothing to change"
    ((!dry_run && !image_build)) || return 0
    summary
    doctor
}

main() {
    read_arguments "$@"
    if ((!dry_run && EUID == 0)); then
        exec 9>/run/lock/boxgate-install
        flock --nonblock 9 || die "another install.sh is at work on this machine" "wait for it"
    fi
    if ((uninstall)); then
        uninstall_devhost
    else
        install_devhost
    fi
}

main "$@"
