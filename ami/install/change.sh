# How the installer changes the machine: every change goes through one of these, which tells it first and, with
# --dry-run, does not make it. What only looks does not come here. Sourced by install.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154 # dry_run and yes are options of install.sh

# shellcheck disable=SC2034 # the first is for install.sh
readonly NOT_UNDERSTOOD=2 NOT_CONFIRMED=5
# What was, or would be, changed.
changes=0

say() { printf '\e[1m==>\e[0m %s\n' "$*"; }
note() { printf '    %s\n' "$@"; }
warn() { printf '\e[33m    warning:\e[0m %s\n' "$@" >&2; }
die() {
    printf 'install.sh: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '    %s\n' "$@" >&2
    exit 1
}
have() { command -v "$1" >/dev/null; }

# A line that can be read, and run again.
told() {
    local words
    printf -v words ' %q' "$@"
    echo "${words:1}"
}

# run COMMAND…
run() { run_as "$(told "$@")" "$@"; }

# run_as WORDS COMMAND…: for a function, told in words that can be run too.
run_as() {
    changes=$((changes + 1))
    printf '    + %s\n' "$1"
    ((dry_run)) || "${@:2}"
}

# put FILE MODE [OWNER]: gives FILE what standard input has, unless it is so already.
put() {
    local file=$1 mode=$2 owner=${3:-root:root} new status=0
    new=$(mktemp)
    cat >"$new"
    if ! cmp --quiet "$new" "$file"; then
        changes=$((changes + 1))
        printf '    + write %s (%s %s)\n' "$file" "$owner" "$mode"
        ((!dry_run)) || { diff --unified=1 --new-file "$file" "$new" | tail --lines=+3 | sed 's/^/      /' || true; }
        ((dry_run)) || place "$new" "$file" "$mode" "$owner" || status=$?
    fi
    rm -f "$new"
    return $status
}

# Beside the old one first, so that whoever reads it finds the old one or the new one, whole.
place() {
    mkdir -p "$(dirname "$2")" &&
        install -m "$3" -o "${4%:*}" -g "${4#*:}" "$1" "$2.boxgate-new" &&
        mv "$2.boxgate-new" "$2"
}

# drop PATH…: removes those that are there.
drop() {
    local path
    for path; do
        [[ ! -e $path && ! -L $path ]] || run rm -r -- "$path"
    done
}

# packages NAME…: installs those that are not.
packages() {
    local name missing=()
    for name; do installed "$name" || missing+=("$name"); done
    ((${#missing[@]})) || return 0
    ((updated)) || run_apt update
    updated=1
    run_apt install --no-install-recommends "${missing[@]}" || die "these packages cannot be installed: ${missing[*]}" \
        "what apt-get says is above; then run this again, it goes on where it was"
}
updated=0

# Another apt, as of unattended-upgrades at a first boot, ends sooner or later. needrestart would restart services that
# nobody asked to be restarted. What dpkg says of each package is in /var/log/apt/term.log.
run_apt() { run_as "apt-get $(told "$@")" apt_get "$@"; }
apt_get() {
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get -qq --yes -o DPkg::Lock::Timeout=300 -o DPkg::Use-Pty=0 "$@" </dev/null >/dev/null
}

installed() { [[ $(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

# confirm QUESTION: goes on when the answer is this machine's name.
confirm() {
    local answer='' name
    ((!yes && !dry_run)) || return 0
    name=$(uname --nodename)
    if [[ -t 0 ]]; then
        read -r -p "$1 Type this machine's name, $name, to go on: " answer || true
        [[ $answer != "$name" ]] || return 0
    fi
    printf 'install.sh: not confirmed, nothing was changed\n    without a terminal: --yes\n' >&2
    exit "$NOT_CONFIRMED"
}
