//! dropbear's `dbclient`, which routers and small systems have.

use std::fs;
use std::time::Duration;

use boxgate_tests::local::{free_port, random_bytes};
use boxgate_tests::{Finished, Run, until};

use crate::servers::{Server, WEB_PORT, without_banner};
use crate::table::{self, Case, fetched, same};

const CASES: &[Case] = &[
    (
        "exit codes",
        |server| {
            let code = |code: &str| dbclient(server, &[]).arg(format!("exit {code}")).finish().status_text();
            ["0", "1", "42", "255"].map(code).join(" ")
        },
        "0 1 42 255",
    ),
    (
        "streams",
        |server| {
            // The first byte is none that could belong to what the client itself says before.
            let sent = [&b"!"[..], &random_bytes(4 << 20)].concat();
            let done = into_files(server, &[], Some("tee /dev/stderr"), &sent).code(0);
            format!("{}, {}", same(&sent, &done.stdout), same(&sent, &without_banner(&done.stderr)))
        },
        "same 4194305, same 4194305",
    ),
    (
        "every cipher",
        |server| {
            let sent = random_bytes(200_000);
            let fails = |cipher: &&str| {
                let done = into_files(server, &["-c", cipher], Some("cat"), &sent);
                if done.stdout == sent { None } else { Some(format!("{cipher} {}", done.errors())) }
            };
            ["chacha20-poly1305@openssh.com", "aes128-ctr", "aes256-ctr"].iter().filter_map(fails).collect()
        },
        "",
    ),
    (
        "a channel as its own streams",
        |server| {
            let target = format!("127.0.0.1:{WEB_PORT}");
            let done = into_files(server, &["-B", &target], None, b"GET /body HTTP/1.0\r\n\r\n");
            fetched(server, &done.stdout)
        },
        "same 3000000",
    ),
    (
        "a local forward",
        |server| {
            let port = free_port();
            let forward = format!("127.0.0.1:{port}:127.0.0.1:{WEB_PORT}");
            let _forward = dbclient(server, &["-N", "-L", &forward]).start();
            curl(server, port)
        },
        "same 3000000",
    ),
    (
        "a remote forward",
        |server| {
            let (there, here) = (free_port(), boxgate_tests::local::serve_http(b"from here"));
            let forward = format!("127.0.0.1:{there}:127.0.0.1:{here}");
            let fetch = format!("curl -sS --retry 5 --retry-connrefused http://127.0.0.1:{there}/");
            dbclient(server, &["-R", &forward]).arg(fetch).ok().text()
        },
        "from here",
    ),
    (
        "an agent in the box",
        |server| {
            let run = dbclient(server, &["-A"]).arg("ssh-add -l | cut -d ' ' -f 1,3-");
            run.env("SSH_AUTH_SOCK", &server.agent).ok().text()
        },
        "256 alice (ED25519)",
    ),
    (
        "a subsystem",
        |server| {
            let mut sftp = dbclient(server, &["-s"]).arg("sftp").start();
            sftp.write("\0\0\0\x05\x01\0\0\0\x03");
            let said = sftp.expect_stdout("\x02\0\0\0\x03");
            format!("{:?}", &said[4..9])
        },
        r#""\u{2}\0\0\0\u{3}""#,
    ),
];

/// Fetches the body from a forward's end here, when it is up.
fn curl(server: &Server, port: u16) -> String {
    let body = until("an answer", Duration::from_secs(10), || {
        let got = Run::new("curl")
            .args(["-sS", "--max-time", "10", &format!("http://127.0.0.1:{port}/body")])
            .finish();
        if got.succeeded() { Ok(got.stdout) } else { Err(got.to_string()) }
    });
    same(&fs::read(&server.web_body).unwrap(), &body)
}

/// Runs a client to its end, whatever that is, with files as its standard output and standard error.
///
/// dbclient 2022.83 never ends, with sshd as with the gateway, if its channel is closed before a pipe has taken the
/// last of the data. It looks for channels before it writes, and then waits for a server that has said all.
fn into_files(server: &Server, options: &[&str], command: Option<&str>, input: &[u8]) -> Finished {
    let files = ["output", "errors"].map(|name| server.directory.join(name));
    let script = r#"exec dbclient "${@:3}" >"$1" 2>"$2""#;
    let run = Run::new("bash").args(["-c", script, "bash"]).args(&files);
    let mut done = log_in(run, server, options).args(command).input(input).finish();
    [done.stdout, done.stderr] = files.map(|file| fs::read(file).unwrap());
    done
}

fn dbclient(server: &Server, options: &[&str]) -> Run {
    log_in(Run::new("dbclient"), server, options)
}

/// Adds what has a client log in.
fn log_in(client: Run, server: &Server, options: &[&str]) -> Run {
    let login = &server.login;
    let key = server.directory.join("dropbear_key");
    if !key.exists() {
        Run::new("dropbearconvert").args(["openssh", "dropbear"]).arg(&login.key).arg(&key).ok();
    }
    // Twice: its file of known hosts knows no ports. Others here check the host key.
    let run = client.env("HOME", &server.directory).args(["-y", "-y", "-i"]).arg(key).args(options);
    run.arg("-p").arg(login.port.to_string()).arg(login.destination())
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn dropbear() {
    table::check("dropbear", CASES);
}
