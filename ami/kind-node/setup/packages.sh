#!/bin/sh
# The Debian packages of a node, and no more of them than a node uses. Runs once, inside `docker build`.
set -eu
export DEBIAN_FRONTEND=noninteractive
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get update -qq
apt-get install -y -qq --no-install-recommends \
    systemd conntrack iptables nftables iproute2 ethtool util-linux mount kmod procps \
    ca-certificates jq busybox-static containerd runc

# kind's CNI wants four of the plug-ins; the package has fifteen.
mkdir -p /opt/cni/bin /tmp/cni
(cd /tmp/cni && apt-get download -qq containernetworking-plugins 2>/dev/null && dpkg-deb -x ./*.deb .)
for plugin in host-local loopback portmap ptp; do
    cp "/tmp/cni/usr/lib/cni/$plugin" /opt/cni/bin/
done
rm -rf /tmp/cni /usr/sbin/policy-rc.d /usr/share/doc /usr/share/man /usr/share/locale \
    /var/lib/apt/lists /var/cache/apt /var/cache/debconf/*-old /var/log/*.log /var/log/apt
