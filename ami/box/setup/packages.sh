#!/bin/sh
# Installs the box's packages into the image. Runs once, inside `docker build`.
set -eu
export DEBIAN_FRONTEND=noninteractive

# Container base images leave manual pages out and replace `man` by a stub. A box
# is a machine for people, so both are undone before anything is installed.
for file in /etc/dpkg/dpkg.cfg.d/*; do
    [ ! -f "$file" ] || sed -i '/^path-exclude/d; /^path-include/d' "$file"
done
if [ "$(dpkg-divert --truename /usr/bin/man)" = /usr/bin/man.REAL ]; then
    rm -f /usr/bin/man
    dpkg-divert --quiet --remove --rename /usr/bin/man
fi

# No daemon may start during the build. Removed again below: in the box itself
# `apt-get install nginx` should start nginx, as on any machine.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d

apt-get update -qq

# Indexing every manual page on each installation costs seconds and serves only
# `apropos`.
if [ -x /usr/bin/debconf-set-selections ]; then
    echo 'man-db man-db/auto-update boolean false' | debconf-set-selections
fi

# The machine itself.
packages='systemd systemd-sysv dbus dbus-user-session libpam-systemd sudo adduser passwd
    openssh-server openssh-client xauth ca-certificates locales tzdata kmod
    iproute2 iputils-ping iptables procps psmisc netcat-openbsd'
# Docker. The recommended cgroupfs-mount would fight systemd over /sys/fs/cgroup.
packages="$packages docker.io"
# What people work with.
packages="$packages bash-completion build-essential pkg-config git curl wget gnupg jq dtach
    python3 python3-venv python3-pip vim nano less tmux rsync zip unzip xz-utils bzip2
    file man-db manpages manpages-dev zstd"

# Newer distributions ship these apart; older ones have them inside docker.io, or
# not at all.
for package in docker-cli docker-buildx docker-compose-v2; do
    if apt-cache show "$package" >/dev/null 2>&1; then
        packages="$packages $package"
    fi
done

# shellcheck disable=SC2086 # these are lists
apt-get install -y -qq --no-install-recommends $packages ${TOOL_PACKAGES:-}

# Base packages that were unpacked while manual pages were excluded: unpack those
# again whose pages are missing.
incomplete=
for package in $(dpkg-query -W -f '${Package}\n'); do
    page=$(dpkg -L "$package" 2>/dev/null | grep -m1 '^/usr/share/man/man.*\.gz$') || continue
    [ -e "$page" ] || incomplete="$incomplete $package"
done
if [ -n "$incomplete" ]; then
    # shellcheck disable=SC2086 # a list
    apt-get install -y -qq --no-install-recommends --reinstall $incomplete
fi

# Whoever calls runc gets the wrapper of rootfs/, which says when it is needed; a
# diversion also survives upgrades of the package.
runc=$(command -v runc)
mkdir -p /usr/lib/boxgate
dpkg-divert --quiet --local --rename --divert /usr/lib/boxgate/runc.real --add "$runc"
ln -s /usr/lib/boxgate/runc "$runc"

rm -f /usr/sbin/policy-rc.d
# Docker's base images make apt forget its caches, which slows apt in a long-lived
# machine and breaks completion of package names.
rm -f /etc/apt/apt.conf.d/docker-clean
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log \
    /var/log/alternatives.log
