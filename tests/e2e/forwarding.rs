//! Forwards of every kind: they need nothing of the gateway but its silence.

use std::fs;
use std::time::Duration;

use boxgate_tests::local::{free_port, random_bytes, serve_http, serve_http_at};
use boxgate_tests::{Devhost, Login, Run, Running, until, until_succeeds};

const LIMIT: Duration = Duration::from_secs(15);

/// Runs a web server in alice's box, which serves `body` as `/body`.
#[track_caller]
pub(crate) fn serve_in_box(alice: &Login, port: u16, body: &[u8]) -> Running {
    alice.ssh(&format!("mkdir -p www-{port} && cat >www-{port}/body")).input(body).ok();
    let serve = format!("exec python3 -u -m http.server --bind 127.0.0.1 --directory www-{port} {port}");
    let mut server = alice.ssh(&serve).start();
    server.expect_stdout("Serving HTTP");
    server
}

/// Waits until the forward answers, and must then get just this.
#[track_caller]
pub(crate) fn assert_fetches(curl: &[&str], body: &[u8]) {
    let fetch = || Run::new("curl").args(["-sS", "--max-time", "10"]).args(curl);
    until_succeeds("an answer", LIMIT, fetch).stdout_is(body);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_local_forward_reaches_a_server_in_the_box() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let body = random_bytes(3_000_000);
    let _server = serve_in_box(&alice, 8101, &body);
    let port = free_port();
    let forward = format!("127.0.0.1:{port}:127.0.0.1:8101");
    let _forward = alice.ssh_only(["-N", "-L", &forward]).start();
    assert_fetches(&[&format!("http://127.0.0.1:{port}/body")], &body);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_forward_to_a_closed_port_is_refused_and_the_connection_lives_on() {
    let devhost = Devhost::shared();
    let port = free_port();
    let forward = format!("127.0.0.1:{port}:127.0.0.1:1");
    let mut connection = devhost.login("alice").ssh_with(["-L", &forward], "echo up; cat").start();
    connection.expect_stdout("up\n");
    Run::new("curl")
        .args(["-sS", "--max-time", "10", &format!("http://127.0.0.1:{port}/")])
        .finish()
        .stdout_is("");
    connection.write("still here\n");
    connection.expect_stdout("still here\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_remote_forward_reaches_a_server_here() {
    let devhost = Devhost::shared();
    let body = random_bytes(1_000_000);
    let forward = format!("9101:127.0.0.1:{}", serve_http(&body));
    let with_forward = ["-o", "ExitOnForwardFailure=yes", "-R", &forward];
    devhost.login("alice").ssh_with(with_forward, "curl -sS http://127.0.0.1:9101/").ok().stdout_is(&body);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_remote_forward_of_port_0_is_told_its_port() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let forward = format!("0:127.0.0.1:{}", serve_http(b"by a port of the box's choice"));
    let mut connection = alice.ssh_only(["-o", "LogLevel=INFO", "-N", "-R", &forward]).start();
    let said = connection.expect_stderr(" for remote forward");
    let port = said.split("Allocated port ").nth(1).and_then(|rest| rest.split(' ').next());
    let fetch = format!("curl -sS http://127.0.0.1:{}/", port.unwrap());
    alice.ssh(&fetch).ok().stdout_is("by a port of the box's choice");
    drop(connection);
    until("end of the forward", LIMIT, || match alice.ssh(&fetch).finish() {
        still if still.succeeded() => Err(still.to_string()),
        _ => Ok(()),
    });
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_socks_proxy_sees_the_network_as_the_box_does() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let _server = serve_in_box(&alice, 8102, b"by the box's own name");
    let proxy = format!("127.0.0.1:{}", free_port());
    let _proxy = alice.ssh_only(["-N", "-D", &proxy]).start();
    assert_fetches(&["--socks5-hostname", &proxy, "http://localhost:8102/body"], b"by the box's own name");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn unix_sockets_are_forwarded_both_ways() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let (here, served) = (devhost.directory().join("docker.sock"), devhost.directory().join("served.sock"));
    let to_docker = format!("{}:/var/run/docker.sock", here.display());
    let _forward = alice.ssh_only(["-N", "-L", &to_docker]).start();
    assert_fetches(&["--unix-socket", here.to_str().unwrap(), "http://docker/_ping"], b"OK");

    serve_http_at(&served, b"by a socket here");
    let to_us = format!("/home/alice/there.sock:{}", served.display());
    let fetch = "curl -sS --unix-socket there.sock http://here/";
    alice.ssh_with(["-R", &to_us], fetch).ok().stdout_is("by a socket here");
    // A second login takes over the socket that the first one left behind.
    alice.ssh_with(["-R", &to_us], fetch).ok().stdout_is("by a socket here");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn an_agent_is_at_hand_in_the_box_only_when_it_is_forwarded() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let socket = devhost.directory().join("agent.sock");
    let _agent = Run::new("ssh-agent").arg("-D").arg("-a").arg(&socket).start();
    until("the agent", LIMIT, || socket.exists().then_some(()).ok_or("no socket".to_owned()));
    let with_agent = |run: Run| run.env("SSH_AUTH_SOCK", &socket);
    with_agent(Run::new("ssh-add").arg("-q").arg(&alice.key)).ok();
    let listed = Run::new("ssh-keygen").arg("-lf").arg(&alice.key).ok().text();
    let fingerprint = listed.split(' ').nth(1).unwrap();
    with_agent(alice.ssh_with(["-A"], "ssh-add -l")).ok().stdout_has(fingerprint);
    with_agent(alice.ssh("ssh-add -l")).finish().code(2).stdout_is("");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn x11_is_forwarded() {
    let devhost = Devhost::shared();
    let with_display =
        devhost.login("alice").ssh_with(["-Y"], "echo $DISPLAY; xauth list").env("DISPLAY", "127.0.0.1:77");
    with_display.ok().stdout_has("localhost:1").stdout_has("MIT-MAGIC-COOKIE-1");
}

/// An sshd with keys of its own, run by alice in her box where only she can reach it.
#[track_caller]
fn inner_sshd(devhost: &Devhost, alice: &Login, port: u16) -> Running {
    let inner = devhost.directory().join("inner");
    boxgate_tests::devhost::make_key(&inner);
    alice
        .ssh("mkdir -p inner && cat >inner/authorized")
        .input(fs::read(inner.with_extension("pub")).unwrap())
        .ok();
    alice.ssh("ssh-keygen -q -t ed25519 -N '' -f inner/host_key").ok();
    let options = "-o HostKey=~/inner/host_key -o AuthorizedKeysFile=~/inner/authorized -o PidFile=none \
                   -o ListenAddress=127.0.0.1 -o UsePAM=no -o StrictModes=no";
    let options = options.replace('~', "/home/alice");
    let mut sshd = alice.ssh(&format!("exec /usr/sbin/sshd -D -e -f /dev/null -p {port} {options}")).start();
    sshd.expect_stderr("Server listening");
    sshd
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn the_box_is_a_jump_host() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let _sshd = inner_sshd(&devhost, &alice, 2022);
    let host_key = alice.ssh("cat inner/host_key.pub").ok().text();
    let known_hosts = devhost.directory().join("inner.known_hosts");
    fs::write(&known_hosts, format!("[127.0.0.1]:2022 {host_key}\n")).unwrap();
    let inner = Login { key: devhost.directory().join("inner"), known_hosts, port: 2022, ..alice.clone() };
    let config = devhost.directory().join("jump.config");
    fs::write(&config, alice.config_block("gateway") + &inner.config_block("inner")).unwrap();

    let jump = Run::new("ssh").arg("-F").arg(&config).args(["-J", "gateway", "inner"]);
    let sent = random_bytes(1_000_000);
    jump.arg("cat; echo on port ${SSH_CONNECTION##* } >&2")
        .input(sent.clone())
        .ok()
        .stdout_is(&sent)
        .stderr_is("on port 2022\n");
}
