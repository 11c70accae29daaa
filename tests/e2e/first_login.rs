//! The first login makes the box, and it is a machine of one's own: a shell, root, Docker.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use boxgate_tests::Devhost;
use boxgate_tests::docker::{self, busybox_root};
use boxgate_tests::ssh::file_option;

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn the_first_login_makes_the_box_and_later_ones_find_it() {
    let devhost = Devhost::start(&["alice"]);
    let alice = devhost.login("alice");
    let told = ["-o", "LogLevel=INFO"];

    // Progress is for the person: a program that reads standard output sees nothing of it.
    let first = alice.ssh_with(told, "whoami").ok().stdout_is("alice\n");
    let first = first.stderr_has("boxgate: making your box").stderr_has("not isolated");
    let made = devhost.objects();
    assert_eq!(made.containers, [devhost.container("alice")], "containers after {first}");
    assert_eq!((made.volumes.len(), made.networks.len()), (2, 1), "of {made:?}");

    let limits = &docker::inspect(&devhost.container("alice"))["HostConfig"];
    assert_eq!(limits["Memory"], 1 << 30, "the memory limit of {limits}");

    let later = alice.ssh_with(told, "whoami").ok().stdout_is("alice\n");
    later.stderr_lacks("making").stderr_lacks("waking").took_at_most(Duration::from_secs(5));
    assert_eq!(devhost.objects(), made);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_new_client_learns_the_gateways_host_key_and_nothing_else() {
    let devhost = Devhost::shared();
    let known_hosts = devhost.directory().join("known_hosts.new_client");
    let accept = ["-o".into(), "StrictHostKeyChecking=accept-new".into(), "-o".into()];
    let fresh = accept.into_iter().chain([file_option("UserKnownHostsFile", &known_hosts)]);
    devhost.login("alice").ssh_with(fresh, "true").ok().stderr_is("");

    let learned = fs::read_to_string(&known_hosts).unwrap();
    let all = fs::read_to_string(devhost.directory().join("known_hosts")).unwrap();
    let key_of = |line: &str| line.split(' ').nth(2).map(str::to_owned);
    let known: Vec<_> = all.lines().map(key_of).collect();
    assert!(!learned.is_empty() && learned.lines().all(|line| known.contains(&key_of(line))), "{learned}");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn the_gateway_shows_three_host_keys_and_keeps_them_to_itself() {
    let devhost = Devhost::shared();
    for (algorithm, file) in
        [("ssh-ed25519", "ed25519"), ("ecdsa-sha2-nistp256", "ecdsa"), ("rsa-sha2-512", "rsa")]
    {
        let option = format!("HostKeyAlgorithms={algorithm}");
        devhost.login("alice").ssh_with(["-o", &option], "true").ok();
        let key = devhost.directory().join(format!("gateway/ssh_host_{file}_key"));
        assert_eq!(fs::metadata(&key).unwrap().mode() & 0o777, 0o600, "mode of {}", key.display());
    }
    devhost.login("alice").ssh_with(["-o", "HostKeyAlgorithms=ssh-rsa"], "true").finish().code(255);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn the_box_is_a_machine_of_ones_own() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    alice.ssh("whoami; pwd; hostname; echo $0").ok().stdout_is("alice\n/home/alice\nalice\nbash\n");
    alice.ssh("sudo -n id -u").ok().stdout_is("0\n");
    alice.ssh("sudo touch /etc/boxgate/box.json").finish().failed().stderr_has("Read-only file system");
    // A login shell reads the profile, as a shell on any machine does.
    alice.ssh("echo 'export FROM_PROFILE=yes' >>~/.profile").ok();
    alice
        .ssh_only(["-T"])
        .input("echo $FROM_PROFILE; shopt -q login_shell && echo login\n")
        .ok()
        .stdout_is("yes\nlogin\n");
    alice.ssh("systemctl is-system-running --wait").finish().stdout_is("running\n");
    // Nor is anybody kept out while it boots: its sshd answers before all is done.
    alice.ssh("systemd-tmpfiles --cat-config | grep -c /run/nologin").finish().stdout_is("0\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn docker_runs_in_the_box() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    alice.ssh("docker info --format '{{.ServerVersion}}'").ok();
    // Images come over standard input: tests have no registry.
    alice.ssh("docker import - tiny").input(busybox_root(None)).ok();
    alice
        .ssh("docker save tiny >tiny.tar && docker image rm tiny && docker load <tiny.tar && rm tiny.tar")
        .ok();
    let run = "docker run --rm -v /home/alice:/mine tiny /bin/busybox";
    alice
        .ssh(&format!("{run} sh -c 'echo from the inside; echo kept >/mine/made-inside'"))
        .ok()
        .stdout_is("from the inside\n");
    alice.ssh("cat made-inside").ok().stdout_is("kept\n");
    alice.ssh(&format!("{run} sh -c 'exit 9'")).finish().code(9);
}
