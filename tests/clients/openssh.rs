//! OpenSSH's own programs, asked for what stories do not ask: every algorithm, and the same answers as sshd's.

use std::time::Duration;

use boxgate_tests::Finished;
use boxgate_tests::local::random_bytes;

use crate::servers::Server;
use crate::table::{self, Case};

const LIMIT: Duration = Duration::from_secs(20);

const CASES: &[Case] = &[
    (
        "exit codes",
        |server| {
            let code = |code: &str| server.login.ssh(&format!("exit {code}")).finish().status_text();
            ["0", "1", "42", "255"].map(code).join(" ")
        },
        "0 1 42 255",
    ),
    ("a signal", |server| server.login.ssh("kill -TERM $$").finish().status_text(), "255"),
    (
        "streams",
        |server| {
            let sent = random_bytes(8 << 20);
            let done = server.login.ssh("tee /dev/stderr").input(sent.clone()).ok();
            format!("{} {}", done.stdout == sent, done.stderr == sent)
        },
        "true true",
    ),
    (
        "sftp's subsystem, asked for by name",
        |server| {
            let mut sftp = server.login.ssh_with(["-s"], "sftp").start();
            sftp.write("\0\0\0\x05\x01\0\0\0\x03");
            let version = sftp.expect_stdout("\x02\0\0\0\x03");
            // Its extensions follow.
            format!("{:?}", &version[4..9])
        },
        r#""\u{2}\0\0\0\u{3}""#,
    ),
    (
        "an unknown subsystem",
        |server| said(&server.login.ssh_with(["-s"], "no-such").finish()),
        "255: subsystem request failed on channel 0",
    ),
    (
        "a terminal",
        |server| {
            let done = server.login.ssh_with(["-tt"], "tty | cut -d / -f 1-3; echo $TERM; exit 3").finish();
            format!("{} {:?}", done.status_text(), done.text())
        },
        r#"3 "/dev/pts\r\nxterm\r""#,
    ),
    (
        "every key exchange",
        |server| {
            each(
                server,
                "KexAlgorithms",
                &[
                    // Not sntrup761x25519-sha512@openssh.com, which waits for a well-kept crate.
                    "curve25519-sha256",
                    "curve25519-sha256@libssh.org",
                    "ecdh-sha2-nistp256",
                    "ecdh-sha2-nistp384",
                    "ecdh-sha2-nistp521",
                    "diffie-hellman-group14-sha256",
                    "diffie-hellman-group16-sha512",
                    "diffie-hellman-group18-sha512",
                ],
            )
        },
        "",
    ),
    (
        "every cipher",
        |server| {
            each(
                server,
                "Ciphers",
                &[
                    "chacha20-poly1305@openssh.com",
                    "aes128-gcm@openssh.com",
                    "aes256-gcm@openssh.com",
                    "aes128-ctr",
                    "aes192-ctr",
                    "aes256-ctr",
                ],
            )
        },
        "",
    ),
    (
        "every MAC",
        |server| each(server, "MACs", &["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"]),
        "",
    ),
    ("compression", |server| each(server, "Compression", &["yes", "no"]), ""),
    (
        "keys exchanged every mebibyte, both ways",
        |server| {
            let sent = random_bytes(24 << 20);
            let done =
                server.login.ssh_with(["-o", "RekeyLimit=1M"], "tee /dev/stderr").input(sent.clone()).ok();
            format!("{} {}", done.stdout == sent, done.stderr == sent)
        },
        "true true",
    ),
    (
        "a stranger's key",
        |server| {
            let login = boxgate_tests::Login { key: server.wrong_key.clone(), ..server.login.clone() };
            said(&login.ssh("true").finish()).replace(&login.destination(), "alice@server")
        },
        "255: alice@server: Permission denied (publickey).",
    ),
    (
        "an agent in the box",
        |server| {
            let run = server.login.ssh_with(["-A"], "ssh-add -l | cut -d ' ' -f 1,3-");
            run.env("SSH_AUTH_SOCK", &server.agent).ok().text()
        },
        "256 alice (ED25519)",
    ),
    (
        "a remote forward of a port that the server chooses",
        |server| {
            let port = boxgate_tests::local::serve_http(b"from here");
            let forward = format!("0:127.0.0.1:{port}");
            let mut ssh = server
                .login
                .ssh_with(
                    ["-o", "LogLevel=INFO", "-R", &forward],
                    "read -r port; curl -sS http://localhost:$port/",
                )
                .start();
            let said = ssh.expect_stderr("Allocated port ");
            let port = said.split("Allocated port ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
            ssh.write(&format!("{port}\n"));
            ssh.finish_within(LIMIT).text()
        },
        "from here",
    ),
];

/// The exit code and the last line of standard error.
fn said(done: &Finished) -> String {
    format!(
        "{}: {}",
        done.status_text(),
        done.errors().trim_end().lines().last().unwrap_or_default().trim_end()
    )
}

/// Logs in and moves data with each value of an option alone. Returns those that failed, and why.
fn each(server: &Server, option: &str, values: &[&str]) -> String {
    let sent = random_bytes(200_000);
    let fails = |value: &&str| {
        let done =
            server.login.ssh_with(["-o", &format!("{option}={value}")], "cat").input(sent.clone()).finish();
        if done.stdout == sent { None } else { Some(format!("{value} {}", said(&done))) }
    };
    values.iter().filter_map(fails).collect::<Vec<_>>().join("; ")
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn openssh() {
    table::check("openssh", CASES);
}
