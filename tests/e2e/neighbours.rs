//! Two users on one devhost see nothing of each other.
//!
//! Under runc that is a matter of courtesy, since both are root on the host; what is tested is that nothing of
//! one is where the other would come across it.

use boxgate_tests::{Devhost, docker};

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn each_has_a_machine_of_her_own() {
    let devhost = Devhost::shared();
    let (alice, bob) = (devhost.login("alice"), devhost.login("bob"));
    bob.ssh("echo private >bobs-file; hostname; ls -A /home").ok().stdout_is("bob\nbob\n");
    alice.ssh("hostname; ls -A /home").ok().stdout_is("alice\nalice\n");
    let container = |user| docker::inspect(&devhost.container(user))["Id"].clone();
    assert_ne!(container("alice"), container("bob"));
    let find = "sudo find / -path /proc -prune -o -name bobs-file -print";
    alice.ssh(find).ok().stdout_is("");
    bob.ssh(find).ok().stdout_is("/home/bob/bobs-file\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn processes_are_ones_own() {
    let devhost = Devhost::shared();
    let (alice, bob) = (devhost.login("alice"), devhost.login("bob"));
    let mut running = bob.ssh("echo up; exec sleep 7315").start();
    running.expect_stdout("up\n");
    bob.ssh("sudo ps axo args").ok().stdout_has("sleep 7315");
    let seen = alice.ssh("sudo ps axo args").ok().text();
    assert!(seen.contains("sshd") && !seen.contains("sleep 7315"), "alice sees:\n{seen}");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn networks_do_not_meet() {
    let devhost = Devhost::shared();
    let (alice, bob) = (devhost.login("alice"), devhost.login("bob"));
    let mut server = bob.ssh("exec python3 -u -m http.server 8201").start();
    server.expect_stdout("Serving HTTP");
    let network =
        &docker::inspect(&devhost.container("bob"))["NetworkSettings"]["Networks"][devhost.container("bob")];
    let address = network["IPAddress"].as_str().unwrap();
    let ours = devhost.network_prefix();
    assert!(
        address.starts_with(&ours),
        "bob's address {address} is none of this devhost's, which begin {ours}"
    );

    let fetch = format!("curl -sS --max-time 3 -o /dev/null http://{address}:8201/");
    bob.ssh(&fetch).ok();
    alice.ssh(&fetch).finish().failed();
    alice.ssh(&format!("timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/22'")).finish().failed();
    alice.ssh(&format!("sudo ping -c 1 -W 2 {address}")).finish().failed().stdout_has("100% packet loss");
}
