# What an installation does, and that it does it once.
bats_require_minimum_version 1.5.0
load machine

@test "a bare machine becomes a devhost, and a second run changes nothing" {
    on_a_machine <<'STORY'
        install --user alice --key alice.pub --box-image box.tar.zst
        called "apt-get install docker.io"
        called "apt-get install $SYSBOX_DEB"
        called "docker load --quiet"
        called "boxgate doctor"
        answers 22 Boxgate
        has /etc/boxgate/authorized_keys.d/alice "$(cat alice.pub)"
        has /etc/boxgate/boxgate.toml 'runtime = "sysbox"'
        mode /etc/boxgate "root:boxgate 750"
        mode /etc/boxgate/boxgate.toml "root:boxgate 640"
        mode /etc/boxgate/authorized_keys.d "root:boxgate 750"
        mode /etc/boxgate/authorized_keys.d/alice "root:boxgate 640"
        mode /var/lib/boxgate "root:root 711"
        mode /var/lib/boxgate/gateway "boxgate:boxgate 700"
        mode /var/lib/boxgate/provisioner "root:root 700"
        [[ $(cat /proc/sys/kernel/pid_max) == 4194304 ]]
        said "SHA256:"
        said "ssh alice@"
        before=$(changed)
        : >calls
        install --user alice --key alice.pub --box-image box.tar.zst
        said "there was nothing to change"
        [[ $(cat calls) == "boxgate doctor" ]] || wrong "$(cat calls)"
        [[ $(changed) == "$before" ]] || wrong "$(diff <(echo "$before") <(changed))"
STORY
}

@test "a dry run tells everything and changes nothing" {
    on_a_machine <<'STORY'
        sshd_runs
        before=$(changed)
        install --dry-run --yes --user alice --key alice.pub --box-image box.tar.zst
        [[ $(changed) == "$before" ]] || wrong "$(diff <(echo "$before") <(changed))"
        [[ ! -s calls ]] || wrong "$(cat calls)"
        said "+ apt-get install --no-install-recommends docker.io"
        said "+ write /etc/docker/daemon.json"
        said "+ apt-get install $SYSBOX_DEB"
        said "+ write /etc/boxgate/authorized_keys.d/alice"
        said "+$(cat alice.pub)"
        said "+ docker load --input box.tar.zst"
        said "+Port 2222"
        said "+ systemctl start boxgate-gateway.socket"
        answers 22 OpenSSH
STORY
}

@test "a dry run of what is there already has nothing to tell" {
    on_a_machine <<<'install --box-image box.tar; install --box-image box.tar --dry-run; said "there was nothing to change"'
}

@test "a run that was cut off goes on where it was" {
    on_a_machine <<'STORY'
        echo boxgate-provisioner.service >stubborn
        ! install --box-image box.tar
        said "boxgate-provisioner.service does not start"
        said "journalctl -u boxgate-provisioner.service"
        rm stubborn && : >calls
        install --box-image box.tar
        uncalled "apt-get|docker load|sysctl"
        answers 22 Boxgate
STORY
}

@test "packages out of reach are said with what to do" {
    on_a_machine <<<'touch apt-fails; ! install; said "E: the archive is out of reach"; uncalled systemctl'
}

@test "new packages upgrade in place, without a stop of anything" {
    on_a_machine <<'STORY'
        install --box-image box.tar
        boxgate_debs 0.2.0 && : >calls
        install --box-image box.tar
        [[ $(dpkg-query -W -f '${Version}' boxgate-gateway) == 0.2.0 ]]
        uncalled "systemctl|docker"
STORY
}

@test "packages that were built anew are installed although their version is the same" {
    on_a_machine <<'STORY'
        install --box-image box.tar
        echo '# another' >>/tmp/deb/boxgate/usr/bin/boxgate && deb boxgate 0.1.0 && : >calls
        install --box-image box.tar
        called "apt-get install /machine/debs/boxgate_0.1.0_$(dpkg --print-architecture).deb"
        has /usr/bin/boxgate "# another"
STORY
}

@test "what the doctor finds is the end's exit code" {
    on_a_machine <<<'touch ill; ! install --box-image box.tar; said "FAIL everything"; said "its doctor found"'
}

# --- configuration and keys

@test "keys are added to those that are there" {
    on_a_machine <<'STORY'
        install --box-image box.tar --user alice --key alice.pub
        printf '# her laptop\n' >>/etc/boxgate/authorized_keys.d/alice
        cat bob.pub alice.pub >both
        install --box-image box.tar --user alice --key both --user bob --key bob.pub
        has /etc/boxgate/authorized_keys.d/alice "# her laptop"
        [[ $(grep -c ssh-ed25519 /etc/boxgate/authorized_keys.d/alice) == 2 ]]
        has /etc/boxgate/authorized_keys.d/bob "$(cat bob.pub)"
STORY
}

@test "a configuration that is there is never written again" {
    on_a_machine <<'STORY'
        install --box-image box.tar
        echo '# mine' >>/etc/boxgate/boxgate.toml
        install --box-image box.tar --port 2022
        has /etc/boxgate/boxgate.toml "# mine"
STORY
}

@test "a given configuration takes its place, and the old one is kept" {
    on_a_machine <<'STORY'
        install --box-image box.tar
        printf '[box]\nruntime = "sysbox"\n# new\n' >new.toml && : >calls
        install --box-image box.tar --config new.toml
        has /etc/boxgate/boxgate.toml "# new"
        grep -q authorized_keys.d /etc/boxgate/boxgate.toml.before-*
        called "systemctl reload boxgate-gateway.service"
        called "systemctl restart boxgate-provisioner.service"
        uncalled "stop|gateway.socket"
STORY
}

@test "a configuration with a fault is not taken" {
    on_a_machine <<'STORY'
        echo 'wrong = true' >bad.toml
        ! install --box-image box.tar --config bad.toml
        said "the configuration is not valid"
        said "bad.toml:1: wrong is no setting"
        [[ ! -e /etc/boxgate/boxgate.toml ]]
        install --box-image box.tar
        : >calls
        OPTIONS=(--config bad.toml) && refuses "bad.toml is no valid configuration" "wrong is no setting"
STORY
}

@test "without users it says how to let somebody in" {
    on_a_machine <<<'install --box-image box.tar; said "nobody may log in yet"'
}

# --- Docker and Sysbox

@test "Docker's settings are added to those that are there, which count more" {
    on_a_machine <<'STORY'
        mkdir /etc/docker
        echo '{"log-opts": {"max-size": "1g"}, "registry-mirrors": ["https://mirror.example.org"], "bip": "192.168.5.1/24", "runtimes": {"other": {"path": "/o"}}}' >/etc/docker/daemon.json
        install --box-image box.tar
        jq -e '."log-opts" == {"max-size": "1g", "max-file": "3"} and ."registry-mirrors" == ["https://mirror.example.org"] and .bip == "192.168.5.1/24"
            and ."live-restore" and (.runtimes | keys) == ["other", "sysbox-runc"] and ."default-address-pools"[0].size == 24' /etc/docker/daemon.json
        jq -e '.runtimes | keys == ["other"]' /etc/docker/daemon.json.before-boxgate
        : >calls
        install --box-image box.tar
        uncalled docker
STORY
}

@test "another driver of logs keeps its own options" {
    on_a_machine <<<'mkdir /etc/docker; echo "{\"log-driver\": \"journald\"}" >/etc/docker/daemon.json; install --box-image box.tar; jq -e "has(\"log-opts\") | not" /etc/docker/daemon.json'
}

@test "Docker's networks are where this machine has no route, and never where boxes are" {
    on_a_machine <<'STORY'
        ip route add 172.17.0.0/20 dev lo && ip route add 172.24.1.0/24 dev lo
        install --box-image box.tar
        jq -e '.bip == "172.18.0.1/16" and ."default-address-pools"[0].base == "192.168.224.0/20"' /etc/docker/daemon.json
STORY
}

@test "a Docker that runs already is told by a reload first, so that its containers outlive the restart" {
    on_a_machine <<'STORY'
        apt-get install docker-ce && touch units/docker.service.{active,enabled} && echo 1234 >docker/ps && : >calls
        install --box-image box.tar
        grep -E 'systemctl re(load|start) docker' calls | tr '\n' , | grep -x 'systemctl reload docker.service,systemctl restart docker.service,'
        uncalled "install docker.io"
STORY
}

@test "a Docker whose containers would end is not restarted" {
    on_a_machine <<'STORY'
        apt-get install docker.io && touch units/docker.service.active && echo 1234 >docker/ps
        mkdir /etc/docker && echo '{"live-restore": false}' >/etc/docker/daemon.json && : >calls
        install --box-image box.tar
        uncalled "restart docker"
        said "Docker was not restarted, since its containers would end"
STORY
}

@test "where Debian has Docker's client in a package of its own it is installed too" {
    on_a_machine <<'STORY'
        printf '#!/bin/sh\necho "docker-cli - client"\n' >stand-ins/apt-cache && chmod +x stand-ins/apt-cache
        install --box-image box.tar
        called "apt-get install docker.io docker-cli"
STORY
}

@test "Sysbox that is new enough stays" {
    on_a_machine <<<'sysbox_deb 0.8.0; dpkg -i "$SYSBOX_DEB"; install --box-image box.tar; uncalled sysbox'
}

@test "an older Sysbox is upgraded when nothing runs in it" {
    on_a_machine <<<'sysbox_deb 0.6.7; dpkg -i "$SYSBOX_DEB"; sysbox_deb; install --box-image box.tar; [[ $(dpkg-query -W -f "\${Version}" sysbox-ce) == 0.7.1.linux ]]'
}

@test "a Sysbox that is fetched must have the release's checksum" {
    on_a_machine <<'STORY'
        printf '#!/bin/sh\nwhile [ "$1" != --output ]; do shift; done\necho hello >"$2"\n' >stand-ins/curl && chmod +x stand-ins/curl
        unset SYSBOX_DEB
        ! install --box-image box.tar
        said "is not the package that was released, and was not installed"
        uncalled sysbox
STORY
}

@test "a Sysbox that is fetched and has the checksum is installed" {
    on_a_machine <<'STORY'
        cp "$SYSBOX_DEB" /tmp/release.deb
        printf '#!/bin/sh\necho "curl $*" >>/machine/calls\nwhile [ "$1" != --output ]; do shift; done\ncp /tmp/release.deb "$2"\n' >stand-ins/curl && chmod +x stand-ins/curl
        unset SYSBOX_DEB
        SYSBOX_SHA256=$(sha256sum /tmp/release.deb | cut -d' ' -f1) install --box-image box.tar
        grep -q 'curl.* https://github.com/nestybox/sysbox/releases/download/v0.7.1/sysbox-ce_0.7.1.linux_' calls
        [[ -x /usr/bin/sysbox-runc ]]
STORY
}

@test "a Sysbox that is out of reach is said with the way around" {
    on_a_machine <<'STORY'
        printf '#!/bin/sh\nexit 6\n' >stand-ins/curl && chmod +x stand-ins/curl && unset SYSBOX_DEB
        ! install --box-image box.tar
        said "Sysbox cannot be fetched from https://github.com/"
        said "SYSBOX_DEB=FILE"
STORY
}

@test "under runc there is no Sysbox, and a warning at the end" {
    on_a_machine <<<'install --runtime runc --box-image box.tar; uncalled sysbox; said "does not isolate"; jq -e "has(\"runtimes\") | not" /etc/docker/daemon.json; has /etc/boxgate/boxgate.toml "runtime = \"runc\""'
}

@test "--no-docker leaves Docker alone" {
    on_a_machine <<<'install --no-docker; uncalled "docker|sysbox"; [[ ! -e /etc/docker ]]'
}

@test "limits that are higher already stay so" {
    on_a_machine <<<'echo 9000000 >/proc/sys/fs/inotify/max_user_watches; install --box-image box.tar; has /etc/sysctl.d/99-boxgate.conf "max_user_watches = 9000000"'
}

@test "the host's own packet filter rules stay" {
    on_a_machine <<<'nft add table inet mine; nft list ruleset >/tmp/before; install --box-image box.tar; nft list ruleset | diff /tmp/before -'
}

@test "a box image that is there stays, when nothing is said of it" {
    on_a_machine <<<'install --box-image box.tar; : >calls; install; said "there was nothing to change"; uncalled "docker|mmdebstrap"'
}

@test "a box image of another name gets the one that boxes are made from" {
    on_a_machine <<<'echo boxgate/box:other >docker/loaded; install --box-image box.tar; called "docker tag boxgate/box:other boxgate/box:latest"'
}

# --- ports and images

@test "another port is the socket's, and moves without a stop of connections" {
    on_a_machine <<'STORY'
        install --box-image box.tar --port 2022
        answers 2022 Boxgate
        has /etc/systemd/system/boxgate-gateway.socket.d/port.conf ListenStream=2022
        install --box-image box.tar
        answers 2022 Boxgate
        said "there was nothing to change"
        install --box-image box.tar --port 443
        answers 443 Boxgate
        silent 2022
STORY
}

@test "ufw is opened only when asked" {
    on_a_machine <<'STORY'
        printf '#!/bin/sh\n[ "$1" != status ] && echo "ufw $*" >>/machine/calls || { echo "Status: active"; echo "443/tcp  ALLOW  Anywhere"; }\n' >stand-ins/ufw && chmod +x stand-ins/ufw
        install --box-image box.tar
        said "ufw lets nobody in on port 22"
        uncalled ufw
        install --box-image box.tar --open-ports
        called "ufw allow 22/tcp comment Boxgate"
        : >calls
        install --box-image box.tar --open-ports --port 443
        uncalled ufw
STORY
}

@test "an image build starts nothing, and its box image waits for the first boot" {
    on_a_machine <<'STORY'
        rmdir /run/systemd/system && echo chroot >container && touch no-engine
        sed -i 's/touch .*docker.service.*/touch \/machine\/units\/docker.service.enabled/' stand-ins/apt-get
        install --image-build --box-image box.tar.zst
        uncalled "systemctl (start|stop|reload|restart|daemon-reload|kill)|sysctl|doctor"
        for unit in boxgate-gateway.socket boxgate-gateway.service boxgate-provisioner.service docker.service boxgate-box-image.service; do [[ -e units/$unit.enabled ]] || wrong "$unit is not enabled"; done
        cmp /var/lib/boxgate/box-image.tar box.tar
        has /etc/systemd/system/boxgate-box-image.service "docker load"
        : >calls
        install --image-build --box-image box.tar.zst
        said "there was nothing to change"
STORY
}
