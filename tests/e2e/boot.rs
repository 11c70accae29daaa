//! A machine as its operator gets it: Debian, `ami/install.sh`, a boot. Real systemd with its sandboxes and sockets, cgroup
//! v2, a kernel with all capabilities: nothing of this machine but its time is in it. `./devhost test` makes the
//! machine and runs this story at its end, `./devhost test --boot` nothing else.

use boxgate_tests::Login;
use boxgate_tests::docker::busybox_root;
use boxgate_tests::machine::{Machine, PATIENCE};

const UNITS: &str =
    "boxgate-gateway.socket boxgate-gateway.service boxgate-provisioner.service docker.service";

#[test]
#[ignore = "needs a machine: ./devhost test --boot makes it and runs it"]
fn an_installed_machine_boots_serves_and_boots_again() {
    let mut machine = Machine::boot();
    assert_settled(&machine);
    machine.first_login("echo kept >kept; uname -n").stdout_is("alice\n");
    let alice = machine.alice();
    alice.ssh("docker import - tiny").input(busybox_root(None)).within(PATIENCE).ok();
    assert_runs_containers(&alice);
    machine.show("boxgate ls; boxgate doctor").code(0);
    assert_hardened(&machine);

    for order in ["reload", "restart"] {
        let mut live = alice.ssh("echo in; cat").within(PATIENCE).start();
        live.expect_stdout("in\n");
        machine.root(&format!("systemctl {order} boxgate-gateway")).ok();
        alice.ssh("true").within(PATIENCE).ok();
        live.write("alive\n");
        live.expect_stdout("alive\n");
        live.finish_within(PATIENCE).code(0);
    }

    machine.reboot();
    assert_settled(&machine);
    // Her box was shut down, not killed: it came as far as systemd's last target.
    machine.root("boxgate logs alice").ok().stdout_has("System Shutdown");
    // With the host key of before: ssh knows no other.
    alice.ssh("cat kept").within(PATIENCE).ok().stdout_is("kept\n");
    assert_runs_containers(&alice);
}

/// Every unit started, ours among them.
#[track_caller]
fn assert_settled(machine: &Machine) {
    let state = machine.show("systemctl is-system-running --wait; systemctl --failed --no-legend --plain");
    state.code(0).stdout_is("running\n");
    machine.show(&format!("systemctl is-active {UNITS} && systemd-analyze")).code(0);
}

/// Docker in the box, on the machine's own kernel: overlayfs on a volume, and cgroup v2 in cgroup v2.
#[track_caller]
fn assert_runs_containers(alice: &Login) {
    let run =
        "docker run --rm --memory 64m tiny /bin/busybox sh -c 'echo nested; cat /sys/fs/cgroup/memory.max'";
    alice.ssh(run).within(PATIENCE).ok().stdout_is("nested\n67108864\n");
    alice
        .ssh("docker info --format '{{.Driver}} {{.CgroupVersion}}'")
        .within(PATIENCE)
        .ok()
        .stdout_is("overlay2 2\n");
}

/// What `systemd-analyze security` makes of the units, from 0 (safe) to 10. The gateway faces the network.
#[track_caller]
fn assert_hardened(machine: &Machine) {
    machine.show("systemd-analyze security --no-pager boxgate-provisioner | tail -n 1");
    machine.show("systemd-analyze security --no-pager --threshold 15 boxgate-gateway | grep -v ✓; exit ${PIPESTATUS[0]}").code(0);
}
