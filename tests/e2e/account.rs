//! What the gateway's log says that a connection did is what its client did.

use boxgate_tests::Devhost;
use boxgate_tests::local::random_bytes;

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn the_log_tells_what_a_connection_did() {
    let devhost = Devhost::start(&["alice"]);
    let alice = devhost.login("alice");
    // A number of bytes that no other connection moves.
    let sent = random_bytes(123_457);
    let terminal = ["-tt", "-o", "SetEnv=LC_TIME=C.UTF-8"];
    alice.ssh("cat; printf error >&2; exit 3").input(sent).finish().code(3);
    devhost.gateway.expect_line(&[
        "done",
        "channels: session 1; requests: exec 1,",
        "exits: failed 1; from the client: data 123457, eof 1, close 1; \
         from the box: data 123457, stderr 5, eof 1, close 1",
    ]);
    alice.ssh_with(terminal, "true").ok();
    devhost.gateway.expect_line(&["done", "requests: exec 1, pty-req 1, env 1,", "exits: ok 1;"]);
    alice.ssh("kill -TERM $$").finish().code(255);
    devhost.gateway.expect_line(&["done", "exit-signal 1"]);
    let forward = ["-W", "127.0.0.1:22"];
    alice.ssh_only(forward).ok().stdout_has("SSH-2.0-");
    devhost.gateway.expect_line(&["done", "channels: direct-tcpip 1"]);
    alice.ssh_only(["-W", "127.0.0.1:1"]).finish().failed();
    devhost.gateway.expect_line(&["done", "channels: direct-tcpip 1, refused 1"]);
}
