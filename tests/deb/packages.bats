# The Debian packages, on a machine without a network that systemd runs. The stories are one, in this order: dpkg's states
# follow each other. BOXGATE_DEBS has the packages, of version 0.1.0-1.
# shellcheck disable=SC2016 # what is in single quotes is for the machine's shell
bats_require_minimum_version 1.5.0

setup_file() {
    export MACHINE=boxgate-deb-test-$$ NEWER=$BATS_FILE_TMPDIR
    local deb unpacked=$NEWER/unpacked
    # What is in them is not what an upgrade is tested for.
    for deb in "$BOXGATE_DEBS"/*.deb; do
        dpkg-deb --raw-extract "$deb" "$unpacked"
        sed -i 's/^Version: .*/Version: 0.2.0-1/' "$unpacked/DEBIAN/control"
        dpkg-deb --build -Zgzip -z1 "$unpacked" "$NEWER" >/dev/null
        rm -r "$unpacked"
    done
    # The options are those of a box under plain runc.
    "$DOCKER" run --detach --name "$MACHINE" --network none --cgroupns=private --cap-add ALL --cap-drop SYS_RESOURCE \
        --security-opt seccomp=unconfined --security-opt apparmor=unconfined --device-cgroup-rule 'a *:* rwm' --env container=docker \
        --volume "$BOXGATE_DEBS:/debs:ro" --volume "$NEWER:/newer:ro" boxgate/deb-test:latest /usr/lib/boxgate/init-runc
    # "degraded" is what it is without the settings of a box.
    on_machine 'for try in {1..120}; do [[ ! $(systemctl is-system-running) =~ running|degraded ]] || exit 0; sleep 0.5; done; exit 1'
    on_machine 'systemctl mask --now ssh.service ssh.socket'
}
teardown_file() { "$DOCKER" rm --force --volumes "$MACHINE" >/dev/null; }

on_machine() { "$DOCKER" exec "$MACHINE" bash -c "set -euo pipefail; $1"; }
# What dpkg and the packages' scripts say is in `output`, for bats's `run`.
dpkg_does() { run on_machine "dpkg $1 2>&1" && echo "$output" && ((status == 0)); }
says() { grep -qF -- "$1" <<<"$output"; }
# is FILE OWNER:GROUP MODE
is() {
    local seen
    seen=$(on_machine "stat --format='%U:%G %a' $1") && echo "$1: $seen" && [[ $seen == "$2 $3" ]]
}
# The processes of the gateway: a supervisor and its workers.
supervisor() { on_machine 'systemctl show --property MainPID --value boxgate-gateway'; }
gateways() { on_machine 'pgrep -c boxgate-gateway || true'; }

@test "an installation makes user and directories, enables the units and starts nothing without a configuration" {
    dpkg_does "--install /debs/*.deb"
    says "not started, as there is no /etc/boxgate/boxgate.toml yet"
    on_machine 'getent passwd boxgate | grep ":/usr/sbin/nologin$"'
    is /etc/boxgate root:boxgate 750
    is /etc/boxgate/authorized_keys.d root:boxgate 750
    is /var/lib/boxgate root:root 711
    is /var/lib/boxgate/gateway boxgate:boxgate 700
    is /var/lib/boxgate/provisioner root:root 700
    is /run/boxgate root:boxgate 750
    local unit
    for unit in boxgate-gateway.socket boxgate-gateway.service boxgate-provisioner.service; do
        [[ $(on_machine "systemctl is-enabled $unit") == enabled ]]
        [[ $(on_machine "systemctl is-active $unit || true") == inactive ]]
    done
}

@test "programs, manuals, completions and the box image's recipe are where they belong" {
    local program
    for program in /usr/bin/boxgate /usr/sbin/boxgate-gateway /usr/sbin/boxgate-provisioner; do
        is "$program" root:root 755
        on_machine "$program --version" | grep -E "^${program##*/} [0-9]"
    done
    on_machine 'for page in boxgate boxgate-ls boxgate-gateway boxgate-provisioner; do man --pager=cat $page | grep -iqF "${page%%-*}"; done'
    on_machine 'test -s /usr/share/bash-completion/completions/boxgate -a -s /usr/share/zsh/vendor-completions/_boxgate'
    on_machine 'test -s /usr/share/fish/vendor_completions.d/boxgate.fish -a -s /usr/share/boxgate/ami/lib.sh'
    is /usr/share/boxgate/ami/box/build.sh root:root 755
    is /usr/share/boxgate/ami/box/rootfs/usr/lib/boxgate/init-runc root:root 755
    is /usr/share/boxgate/ami/kind-node/build.sh root:root 755
}

@test "an upgrade with a configuration starts what did not run" {
    on_machine 'printf "[gateway]\nmax_connections = 100\n" >/etc/boxgate/boxgate.toml'
    dpkg_does "--install /newer/*.deb"
    [[ $(on_machine 'systemctl is-active boxgate-gateway.socket boxgate-gateway boxgate-provisioner' | sort -u) == active ]]
    is /etc/boxgate/boxgate.toml root:boxgate 640
    on_machine 'exec 3<>/dev/tcp/127.0.0.1/22; head -n 1 <&3' | grep -F SSH-2.0-
}

@test "an upgrade lets the new version take over and ends nobody's connection" {
    local before
    before=$(supervisor)
    "$DOCKER" exec --detach "$MACHINE" bash -c 'exec 3<>/dev/tcp/127.0.0.1/22; head -n 1 <&3 >/run/said; cat <&3 >>/run/said; echo ended >>/run/said'
    on_machine 'for try in {1..50}; do [[ ! -s /run/said ]] || exit 0; sleep 0.1; done; exit 1'
    dpkg_does "--install /debs/*.deb"
    [[ $(supervisor) != "$before" && $(gateways) == 3 ]]
    run ! on_machine 'grep ended /run/said'
    on_machine 'grep max_connections /etc/boxgate/boxgate.toml'
}

@test "with a faulty configuration the old version goes on, and the upgrade says so" {
    local before
    before=$(supervisor)
    on_machine 'cp -p /etc/boxgate/boxgate.toml /run; echo "[nonsense]" >>/etc/boxgate/boxgate.toml'
    dpkg_does "--install /newer/*.deb"
    says "boxgate.toml:3: nonsense: is not a setting"
    says "so the old version goes on until they are mended"
    [[ $(supervisor) == "$before" && $(on_machine 'systemctl is-active boxgate-provisioner') == active ]]
    on_machine 'cp -p /run/boxgate.toml /etc/boxgate'
}

@test "what the operator disabled stays so" {
    on_machine 'systemctl disable boxgate-provisioner'
    dpkg_does "--install /debs/*.deb"
    [[ $(on_machine 'systemctl is-enabled boxgate-provisioner || true') == disabled ]]
}

@test "a removal ends everything and keeps configuration and keys" {
    dpkg_does "--remove boxgate boxgate-gateway boxgate-provisioner"
    on_machine 'for try in {1..50}; do pgrep boxgate- >/dev/null || exit 0; sleep 0.1; done; pgrep -a boxgate-; exit 1'
    on_machine 'grep ended /run/said'
    on_machine 'test -s /etc/boxgate/boxgate.toml -a -s /var/lib/boxgate/gateway/ssh_host_ed25519_key'
    [[ $(on_machine 'systemctl list-units --failed --no-legend "boxgate-gateway*" "boxgate-provisioner*"') == "" ]]
}

@test "a purge removes the configuration with the last of them, and never the keys" {
    dpkg_does "--purge boxgate boxgate-gateway"
    on_machine 'test -s /etc/boxgate/boxgate.toml'
    dpkg_does "--purge boxgate-provisioner"
    says "/var/lib/boxgate and the boxes in Docker stay"
    on_machine 'test ! -e /etc/boxgate -a -s /var/lib/boxgate/gateway/ssh_host_ed25519_key'
}
