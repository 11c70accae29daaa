# What stands in the way of an installation: each is found before anything is changed, and told with its remedy.
bats_require_minimum_version 1.5.0
load machine

@test "a distribution that Boxgate is not made for" {
    on_a_machine <<<'printf "ID=fedora\nVERSION_ID=42\n" >/etc/os-release; refuses "fedora 42 is not a system" "take Ubuntu 22.04"'
}
@test "an Ubuntu that is too old" {
    on_a_machine <<<'printf "ID=ubuntu\nVERSION_ID=20.04\n" >/etc/os-release; refuses "ubuntu 20.04 is not a system"'
}
@test "a processor that there are no packages for" {
    on_a_machine <<<'echo riscv64 >processor; refuses "there is no Boxgate for riscv64" "amd64 or arm64"'
}
@test "somebody who is not root" {
    on_a_machine <<'STORY'
        chmod 755 /tmp /machine
        ! setpriv --reuid 65534 --regid 65534 --clear-groups /boxgate/ami/install.sh --packages /machine/debs >/tmp/said 2>&1
        cp /tmp/said . && said "it needs root" && said "sudo"
STORY
}
@test "a container" {
    on_a_machine <<<'echo docker >container; refuses "it is a container (docker)" "--allow-container"'
}
@test "another init than systemd" {
    on_a_machine <<<'rmdir /run/systemd/system; refuses "systemd is not its init" "--image-build"'
}
@test "a kernel without ID-mapped mounts" {
    on_a_machine <<<'echo 5.10.0-30-amd64 >kernel; refuses "kernel 5.10.0-30-amd64 has no ID-mapped mounts" "5.12 is the first" "then reboot"'
}
@test "the same kernel will do for runc" {
    on_a_machine <<<'echo 5.10.0-30-amd64 >kernel; OPTIONS=(--runtime runc --box-image none.tar); refuses "none.tar cannot be read" && unsaid ID-mapped'
}
@test "cgroups of version 1 under Sysbox" {
    on_a_machine <<<'rm /sys/fs/cgroup/cgroup.controllers; refuses "cgroups of version 1" "systemd.unified_cgroup_hierarchy=1"'
}
@test "a full disk" {
    on_a_machine <<<'echo 9000 >disk; refuses "has 9000 MiB left" "10 GiB" "mount a larger disk"'
}
@test "little memory" {
    on_a_machine <<<'echo "MemTotal: 1000000 kB" >/proc/meminfo; refuses "976 MiB of memory" "take a larger machine"'
}
@test "Docker as a snap" {
    on_a_machine <<<'mkdir -p /var/snap/docker; refuses "its Docker is the snap" "snap remove docker"'
}
@test "Podman in Docker's place" {
    on_a_machine <<<'apt-get install podman-docker; : >calls; refuses "podman-docker stands where" "apt-get remove podman-docker"'
}
@test "a daemon.json that is no JSON" {
    on_a_machine <<<'mkdir /etc/docker; echo "{," >/etc/docker/daemon.json; refuses "daemon.json is no JSON object" "jq ."'
}
@test "a Docker that makes no packet filter rules" {
    on_a_machine <<<'mkdir /etc/docker; echo "{\"iptables\": false}" >/etc/docker/daemon.json; refuses "\"iptables\": false" "take that line out"'
}
@test "a Docker with user namespaces for all" {
    on_a_machine <<<'mkdir /etc/docker; echo "{\"userns-remap\": \"default\"}" >/etc/docker/daemon.json; refuses "userns-remap"'
}
@test "a network where boxes are to be" {
    on_a_machine <<<'ip route add 10.201.4.0/24 dev lo; refuses "boxes are to have the addresses 10.201.0.0/16" "10.201.4.0/24" "provisioner.network_pool"'
}
@test "a network around where boxes are to be" {
    on_a_machine <<<'ip route add 10.0.0.0/8 dev lo; refuses "a route to 10.0.0.0/8"'
}
@test "a network where the given configuration has boxes" {
    on_a_machine <<<'printf "[provisioner]\nnetwork_pool = \"172.30.0.0/16\"\n" >c.toml; ip route add 172.30.1.0/24 dev lo; ip route add 10.201.0.0/16 dev lo
        OPTIONS=(--config c.toml); refuses "the addresses 172.30.0.0/16" && unsaid 10.201'
}
@test "a network of Docker's own is none of that" {
    on_a_machine <<<'ip link add br-1 type bridge && ip link set br-1 up && ip addr add 10.201.0.1/28 dev br-1; OPTIONS=(--box-image none.tar); refuses none.tar && unsaid 10.201'
}
@test "an installation of packages that was cut off" {
    on_a_machine <<<'printf "Package: half\nStatus: install ok half-configured\nMaintainer: x\nArchitecture: all\nVersion: 1\nDescription: x\n\n" >/var/lib/dpkg/status
        refuses "an installation of packages was cut off" "dpkg --configure -a"'
}
@test "Sysbox for a processor whose checksum nobody knows" {
    on_a_machine <<<'unset SYSBOX_DEB; printf "#!/bin/sh\n[ \"\$1\" != --print-architecture ] && exec /usr/bin/dpkg \"\$@\" || echo arm64\n" >stand-ins/dpkg; chmod +x stand-ins/dpkg
        refuses "its arm64 package is not known here" "SYSBOX_SHA256=SUM" "SYSBOX_DEB=FILE"'
}
@test "a Sysbox package that cannot be read" {
    on_a_machine <<<'export SYSBOX_DEB=/none.deb; refuses "/none.deb, which SYSBOX_DEB names, cannot be read"'
}
@test "a Sysbox package with another checksum" {
    on_a_machine <<<'export SYSBOX_SHA256=00; refuses "does not have the checksum that SYSBOX_SHA256 names"'
}
@test "something else in place of Sysbox's package" {
    on_a_machine <<<'export SYSBOX_DEB=$(ls /machine/debs/boxgate_*); refuses "is not a package of Sysbox"'
}
@test "a Sysbox package that is too old" {
    on_a_machine <<<'sysbox_deb 0.7.0.linux; refuses "is Sysbox 0.7.0.linux, and 0.7.1 is the oldest"'
}
@test "a Sysbox package for another processor" {
    on_a_machine <<<'ARCH=s390x sysbox_deb 0.7.2; export SYSBOX_DEB=$(ls /machine/debs/*s390x.deb); refuses "is for s390x, and this machine is"'
}
@test "an old Sysbox whose containers run" {
    on_a_machine <<<'sysbox_deb 0.6.7; dpkg -i debs/sysbox-ce_0.6.7* >/dev/null; touch units/docker.service.active; echo 1234 >docker/ps; sysbox_deb
        refuses "Sysbox 0.6.7 is older than 0.7.1, and containers run" "boxgate stop --all"'
}
@test "another program on the gateway's port" {
    on_a_machine <<<'cp stand-ins/listener nginx; ./nginx 22; refuses "port 22, where the gateway is to listen, is taken by nginx" "--port PORT"'
}
@test "no packages of Boxgate" {
    on_a_machine <<<'rm debs/boxgate-gateway*; refuses "packages for amd64 are not there" "./devhost deb"'
}
@test "packages for another processor only" {
    on_a_machine <<<'for f in debs/boxgate*; do mv $f ${f/_$(dpkg --print-architecture)/_riscv64}; done; refuses "are not there"'
}
@test "a configuration that cannot be read" {
    on_a_machine <<<'OPTIONS=(--config none.toml); refuses "none.toml, which is to be the configuration, cannot be read"'
}
@test "a box image that cannot be read" {
    on_a_machine <<<'OPTIONS=(--box-image none.tar); refuses "the box image none.tar cannot be read"'
}
@test "a key file that cannot be read" {
    on_a_machine <<<'OPTIONS=(--user alice --key none.pub); refuses "alice'\''s key file none.pub cannot be read"'
}
@test "a private key" {
    on_a_machine <<<'OPTIONS=(--user alice --key alice); refuses "alice is a private key" "--key alice.pub"'
}
@test "a key file without a key" {
    on_a_machine <<<'echo hello >k; OPTIONS=(--user alice --key k); refuses "k has no public key"'
}
@test "a name that nobody can log in with" {
    on_a_machine <<<'OPTIONS=(--user Alice --key alice.pub --user box --key bob.pub); refuses "nobody can log in as Alice" "nobody can log in as box"'
}
@test "several users under runc" {
    on_a_machine <<<'OPTIONS=(--runtime runc --user alice --key alice.pub --user bob --key bob.pub); refuses "root in everybody" "--i-understand-boxes-are-root-on-this-host"'
}
@test "a runtime that the configuration contradicts" {
    on_a_machine <<<'printf "[box]\nruntime = \"sysbox\"\n" >c.toml; OPTIONS=(--config c.toml --runtime runc); refuses "--runtime says runc and c.toml says sysbox" "leave the option out"'
}
@test "a box image for a Docker that is left alone" {
    on_a_machine <<<'OPTIONS=(--no-docker --box-image box.tar); refuses "--no-docker leaves the box image to you"'
}
@test "everything at once" {
    on_a_machine <<<'echo 5.10.0 >kernel; echo 10 >disk; mkdir -p /var/snap/docker; OPTIONS=(--box-image none.tar); refuses "1. kernel" "2. /var/lib" "3. its Docker is the snap" "4. the box image" "4 to mend, nothing was changed"'
}
@test "what is not understood ends with 2" {
    on_a_machine <<'STORY'
        for options in --frobnicate "--port 0" "--port 70000" "--sshd-port no" "--runtime kata" "--profile big" --purge --port "--key alice.pub" "--user alice"; do
            status=0
            # shellcheck disable=SC2086 # words
            /boxgate/ami/install.sh $options >said 2>&1 || status=$?
            ((status == 2)) || wrong "$options ended with $status"
            said "ami/install.sh --help"
        done
STORY
}
