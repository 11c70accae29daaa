# This machine's own sshd, a real one here: it makes way for the gateway, and nobody is locked out or put out.
bats_require_minimum_version 1.5.0
load machine

@test "it moves to 2222 when told, and the gateway has 22" {
    on_a_machine <<'STORY'
        sshd_runs
        install --box-image box.tar --sshd-port 2222
        answers 2222 OpenSSH
        answers 22 Boxgate
        has /etc/ssh/sshd_config.d/boxgate.conf "Port 2222"
        said "security group"
        said "ssh -p 2222"
        : >calls
        install --box-image box.tar --sshd-port 2222
        said "there was nothing to change"
        answers 2222 OpenSSH
STORY
}
@test "it answers on its new port before it leaves the old one" {
    on_a_machine <<'STORY'
        sshd_runs
        install --box-image box.tar --sshd-port 2222
        grep -n '' said | grep -E 'Port|reload ssh' | sed 's/^[0-9]*: *//' >order
        [[ $(grep -c 'reload ssh.service' calls) == 2 ]]
STORY
}
@test "without --sshd-port it moves to 2222 where nobody is in over ssh" {
    on_a_machine <<<'sshd_runs; install --box-image box.tar; answers 2222 OpenSSH; answers 22 Boxgate'
}
@test "who installs over ssh must say so" {
    on_a_machine <<<'sshd_runs; export SSH_CONNECTION="192.0.2.1 5000 192.0.2.2 22"; refuses "somebody is here over ssh" "--sshd-port 2222" "security group"'
}
@test "somebody who is in over ssh is seen although sudo hides it" {
    on_a_machine <<<'sshd_runs; exec 8<>/dev/tcp/127.0.0.1/22; refuses "somebody is here over ssh"'
}
@test "over ssh --yes is enough" {
    on_a_machine <<<'sshd_runs; export SSH_CONNECTION="192.0.2.1 5000 192.0.2.2 22"; install --box-image box.tar --yes; answers 2222 OpenSSH'
}
@test "whoever is in stays in" {
    on_a_machine <<'STORY'
        sshd_runs
        mkdir -p /root/.ssh && cp alice.pub /root/.ssh/authorized_keys && chmod -R go= /root/.ssh
        mkfifo in && { ssh -tt -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i alice root@127.0.0.1 'while read -r line; do echo "got $line"; done' <in >out 2>err & }
        exec 7>in
        echo before >&7
        for ((i = 0; i < 100; i++)); do grep -q 'got before' out && break || sleep 0.1; done
        install --box-image box.tar --sshd-port 2222
        answers 22 Boxgate
        echo after >&7
        for ((i = 0; i < 100; i++)); do grep -q 'got after' out && break || sleep 0.1; done
        grep -q 'got after' out || wrong "the connection ended: $(cat out err)"
STORY
}
@test "ssh.socket moves, as on Ubuntu" {
    on_a_machine <<'STORY'
        rm units/ssh.service.enabled && touch units/ssh.socket.enabled && systemctl start ssh.socket && : >calls
        install --box-image box.tar --sshd-port 2200
        answers 2200 OpenSSH
        answers 22 Boxgate
        has /etc/systemd/system/ssh.socket.d/boxgate.conf ListenStream=2200
        called "systemctl daemon-reload"
STORY
}
@test "keep is a fault where it has the gateway's port" {
    on_a_machine <<<'sshd_runs; OPTIONS=(--sshd-port keep); refuses "which is to keep it" "--port PORT"'
}
@test "keep with another port for the gateway leaves it alone" {
    on_a_machine <<<'sshd_runs; install --box-image box.tar --sshd-port keep --port 2022; answers 22 OpenSSH; answers 2022 Boxgate; uncalled "ssh\."'
}
@test "off asks first" {
    on_a_machine <<'STORY'
        sshd_runs
        /boxgate/ami/install.sh --packages debs --sshd-port off >said 2>&1 </dev/null && wrong "it did not ask" || status=$?
        ((status == 5)) || wrong "it ended with $status"
        said "nothing was changed"
        [[ ! -s calls ]]
STORY
}
@test "off switches it off" {
    on_a_machine <<'STORY'
        sshd_runs
        install --box-image box.tar --sshd-port off --yes
        answers 22 Boxgate
        [[ ! -e units/ssh.service.enabled ]]
        ! pgrep -x sshd
STORY
}
@test "a port that another program has is refused" {
    on_a_machine <<<'sshd_runs; cp stand-ins/listener nginx; ./nginx 2222; OPTIONS=(--sshd-port 2222); refuses "port 2222, where sshd is to move, is taken by nginx"'
}
@test "the gateway's own port is refused" {
    on_a_machine <<<'sshd_runs; OPTIONS=(--sshd-port 22); refuses "cannot both have port 22"'
}
@test "a Port line of the operator's is hers to remove" {
    on_a_machine <<<'echo "Port 22" >>/etc/ssh/sshd_config; sshd_runs; OPTIONS=(--sshd-port 2222); refuses "/etc/ssh/sshd_config: Port 22" "take that line out"'
}
@test "so is a ListenAddress with a port" {
    on_a_machine <<<'echo "ListenAddress 0.0.0.0:22" >/etc/ssh/sshd_config.d/mine.conf; sshd_runs; OPTIONS=(--sshd-port 2222); refuses "ListenAddress 0.0.0.0:22"'
}
@test "an address without a port moves" {
    on_a_machine <<<'echo "ListenAddress 127.0.0.1" >/etc/ssh/sshd_config.d/mine.conf; sshd_runs; install --box-image box.tar --sshd-port 2222; answers 2222 OpenSSH; answers 22 Boxgate'
}
@test "a configuration without sshd_config.d is refused" {
    on_a_machine <<<'echo "UsePAM no" >/etc/ssh/sshd_config; sshd_runs; OPTIONS=(--sshd-port 2222); refuses "does not include sshd_config.d" "Include /etc/ssh"'
}
@test "a firewall that lets nobody in on the new port is a fault" {
    on_a_machine <<'STORY'
        printf '#!/bin/sh\n[ "$1" != status ] && echo "ufw $*" >>/machine/calls || echo "Status: active"\n' >stand-ins/ufw && chmod +x stand-ins/ufw
        sshd_runs
        OPTIONS=(--sshd-port 2222) && refuses "ufw lets nobody in on port 2222" "--open-ports"
        install --box-image box.tar --sshd-port 2222 --open-ports
        called "ufw allow 2222/tcp comment Boxgate"
        called "ufw allow 22/tcp comment Boxgate"
STORY
}
@test "a configuration that sshd refuses already is told before anything is changed" {
    on_a_machine <<<'sshd_runs; echo "Frobnicate yes" >/etc/ssh/sshd_config.d/zz.conf; OPTIONS=(--sshd-port 2222); refuses "its own configuration not valid" "Frobnicate"; answers 22 OpenSSH'
}
@test "a configuration that sshd refuses on the way moves nothing, and the running one is not touched" {
    on_a_machine <<'STORY'
        sshd_runs
        mv /usr/sbin/sshd /usr/sbin/sshd.real
        printf '#!/bin/sh\n[ "$1" != -t ] || [ ! -e /etc/ssh/sshd_config.d/boxgate.conf ] || { echo "no such port" >&2; exit 255; }\nexec /usr/sbin/sshd.real "$@"\n' >/usr/sbin/sshd
        chmod 755 /usr/sbin/sshd
        ! install --box-image box.tar --sshd-port 2222
        said "sshd refuses its configuration"
        said "is on port 22 as before"
        [[ ! -e /etc/ssh/sshd_config.d/boxgate.conf ]]
        answers 22 OpenSSH
        uncalled "ssh.service|start boxgate"
STORY
}
@test "an sshd that does not come to its new port is brought back, and the gateway not started" {
    on_a_machine <<'STORY'
        sshd_runs
        # As under a policy that keeps sshd from other ports: it goes on where it was.
        sed -i '/ssh.service) ! grep/s/.*/ssh.service) true ;;/' stand-ins/systemctl
        ! install --box-image box.tar --sshd-port 2222
        said "sshd does not answer on port 2222"
        said "is on port 22 as before"
        [[ ! -e /etc/ssh/sshd_config.d/boxgate.conf ]]
        answers 22 OpenSSH
        uncalled "start boxgate"
STORY
}
@test "an sshd that died on the way is started again on its old port" {
    on_a_machine <<'STORY'
        sshd_runs
        sed -i '/ssh.service) ! grep/s/.*/ssh.service) kill $(cat \/run\/sshd.pid); false ;;/' stand-ins/systemctl
        ! install --box-image box.tar --sshd-port 2222
        said "is on port 22 as before"
        answers 22 OpenSSH
STORY
}
@test "it moves a second time, to another port" {
    on_a_machine <<<'sshd_runs; install --box-image box.tar --sshd-port 2222; install --box-image box.tar --sshd-port 2200; answers 2200 OpenSSH; silent 2222; answers 22 Boxgate'
}
@test "in an image build its files say the port, and it is not touched" {
    on_a_machine <<'STORY'
        rmdir /run/systemd/system && rm /etc/ssh/ssh_host_*
        install --image-build --box-image box.tar
        has /etc/ssh/sshd_config.d/boxgate.conf "Port 2222"
        uncalled "ssh.service"
        [[ -z $(compgen -G '/etc/ssh/ssh_host_*') ]]
STORY
}
