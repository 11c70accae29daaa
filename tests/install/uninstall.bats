# The way back: without --purge nobody loses anything.
bats_require_minimum_version 1.5.0
load machine

@test "an uninstallation keeps what people have" {
    on_a_machine <<'STORY'
        install --user alice --key alice.pub --box-image box.tar
        echo 1234 >docker/ps && echo home >docker/volume && touch /var/lib/boxgate/gateway/host_key
        nft add table inet boxgate_boxgate && nft add table inet mine
        : >calls
        install --uninstall --yes
        called "docker stop --time 30 1234"
        called "apt-get remove boxgate boxgate-gateway boxgate-provisioner"
        uncalled "docker (rm|volume|network|image)|purge"
        [[ -e docker/volume && -e docker/image && -e /var/lib/boxgate/gateway/host_key ]]
        has /etc/boxgate/authorized_keys.d/alice ssh-ed25519
        [[ -e /etc/boxgate/boxgate.toml && -e /etc/docker/daemon.json && ! -e /etc/sysctl.d/99-boxgate.conf && ! -e /usr/bin/boxgate ]]
        [[ $(nft list tables) == "table inet mine" ]]
        silent 22
        getent passwd boxgate
STORY
}
@test "a second one has nothing to do" {
    on_a_machine <<'STORY'
        install --box-image box.tar
        install --uninstall --yes
        : >calls
        install --uninstall --yes
        [[ $(cat calls) == "systemctl daemon-reload" ]] || wrong "$(cat calls)"
STORY
}
@test "an installation after it finds everything again" {
    on_a_machine <<'STORY'
        install --user alice --key alice.pub --box-image box.tar --port 2022
        install --uninstall --yes
        install --box-image box.tar
        answers 22 Boxgate
        has /etc/boxgate/authorized_keys.d/alice ssh-ed25519
STORY
}
@test "a purge removes boxes, homes, keys and the user" {
    on_a_machine <<'STORY'
        install --user alice --key alice.pub --box-image box.tar
        echo 1234 >docker/ps && echo home >docker/volume && echo net >docker/network && : >calls
        install --uninstall --purge --yes
        called "docker rm --force --volumes 1234"
        called "docker volume rm home"
        called "docker network rm net"
        called "docker image rm --force boxgate/box:latest"
        called "apt-get purge boxgate boxgate-gateway boxgate-provisioner"
        [[ ! -e /etc/boxgate && ! -e /var/lib/boxgate ]]
        ! getent passwd boxgate
        [[ -e /etc/docker/daemon.json ]]
STORY
}
@test "it takes the boxes of the instance that the configuration names" {
    on_a_machine <<'STORY'
        install --box-image box.tar
        printf '[provisioner]\ninstance = "lab"\n' >>/etc/boxgate/boxgate.toml && nft add table inet boxgate_lab
        sed -i '2a echo "asked $*" >>/machine/calls' stand-ins/docker
        install --uninstall --yes
        called "asked ps --quiet --filter label=io.boxgate.instance=lab"
        [[ -z $(nft list tables) ]]
STORY
}
@test "nobody's data goes without a confirmation" {
    on_a_machine <<'STORY'
        install --box-image box.tar && : >calls
        for options in --uninstall "--uninstall --purge"; do
            # shellcheck disable=SC2086 # words
            /boxgate/ami/install.sh $options >said 2>&1 </dev/null && wrong "it did not ask" || status=$?
            ((status == 5)) || wrong "it ended with $status"
        done
        [[ ! -s calls && -e /etc/boxgate/boxgate.toml ]]
STORY
}
@test "on a terminal the confirmation is this machine's name" {
    on_a_machine <<'STORY'
        install --box-image box.tar && : >calls
        echo no | script -qec '/boxgate/ami/install.sh --uninstall --purge' /dev/null >said && wrong "it took no for an answer" || true
        [[ ! -s calls ]]
        uname -n | script -qec '/boxgate/ami/install.sh --uninstall --purge' /dev/null >said || wrong "it did not take the name"
        [[ ! -e /etc/boxgate ]]
STORY
}
@test "a dry run of it changes nothing" {
    on_a_machine <<'STORY'
        sshd_runs
        install --box-image box.tar && echo 1234 >docker/ps && : >calls
        before=$(changed)
        install --uninstall --purge --dry-run
        said "+ docker rm --force --volumes 1234"
        said "+ rm -r -- /etc/boxgate"
        [[ ! -s calls && $(changed) == "$before" ]] || wrong "$(cat calls; diff <(echo "$before") <(changed))"
        answers 22 Boxgate
STORY
}
@test "a purge without Docker is refused, so that no homes are forgotten" {
    on_a_machine <<<'install --box-image box.tar; rm units/docker.service.active; ! install --uninstall --purge --yes; said "boxes and homes cannot be removed"; [[ -e /etc/boxgate/boxgate.toml ]]'
}
@test "sshd gets its port back" {
    on_a_machine <<'STORY'
        sshd_runs
        install --box-image box.tar --sshd-port 2222
        install --uninstall --yes
        answers 22 OpenSSH
        silent 2222
        [[ ! -e /etc/ssh/sshd_config.d/boxgate.conf ]]
STORY
}
@test "an sshd that was switched off is switched on" {
    on_a_machine <<<'sshd_runs; install --box-image box.tar --sshd-port off --yes; install --uninstall --yes; answers 22 OpenSSH; [[ -e units/ssh.service.enabled ]]'
}
