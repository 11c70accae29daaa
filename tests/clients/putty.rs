//! `PuTTY`'s `plink`, `psftp` and `pscp`.

use std::fs;
use std::time::Duration;

use boxgate_tests::local::{free_port, random_bytes};
use boxgate_tests::{Run, until};

use crate::servers::{Server, WEB_PORT, without_banner};
use crate::table::{self, Case, fetched, same};

const CASES: &[Case] = &[
    (
        "exit codes",
        |server| {
            let code = |code: &str| plink(server, &[]).arg(format!("exit {code}")).finish().status_text();
            ["0", "1", "42", "255"].map(code).join(" ")
        },
        "0 1 42 255",
    ),
    (
        "streams",
        |server| {
            // The first byte is none that could belong to what the client itself says before.
            let sent = [&b"!"[..], &random_bytes(4 << 20)].concat();
            let done = plink(server, &[]).arg("tee /dev/stderr").input(sent.clone()).ok();
            format!("{}, {}", same(&sent, &done.stdout), same(&sent, &without_banner(&done.stderr)))
        },
        "same 4194305, same 4194305",
    ),
    (
        "compression",
        |server| {
            let sent = "compress me ".repeat(100_000).into_bytes();
            same(&sent, &plink(server, &["-C"]).arg("cat").input(sent.clone()).ok().stdout)
        },
        "same 1200000",
    ),
    (
        "a terminal",
        |server| {
            let done = plink(server, &["-t"]).arg("tty | cut -d / -f 1-3; exit 3").finish();
            format!("{} {:?}", done.status_text(), done.text())
        },
        r#"3 "/dev/pts\r""#,
    ),
    (
        "a channel as its own streams",
        |server| {
            let target = format!("127.0.0.1:{WEB_PORT}");
            let done = plink(server, &["-nc", &target]).input("GET /body HTTP/1.0\r\n\r\n").finish();
            fetched(server, &done.stdout)
        },
        "same 3000000",
    ),
    (
        "a local forward",
        |server| {
            let port = free_port();
            let forward = format!("127.0.0.1:{port}:127.0.0.1:{WEB_PORT}");
            let _forward = plink(server, &["-N", "-L", &forward]).start();
            let body = until("an answer", Duration::from_secs(10), || {
                let url = format!("http://127.0.0.1:{port}/body");
                let got = Run::new("curl").args(["-sS", "--max-time", "10", &url]).finish();
                if got.succeeded() { Ok(got.stdout) } else { Err(got.to_string()) }
            });
            same(&fs::read(&server.web_body).unwrap(), &body)
        },
        "same 3000000",
    ),
    (
        "a remote forward",
        |server| {
            let (there, here) = (free_port(), boxgate_tests::local::serve_http(b"from here"));
            let forward = format!("127.0.0.1:{there}:127.0.0.1:{here}");
            let fetch = format!("curl -sS --retry 5 --retry-connrefused http://127.0.0.1:{there}/");
            plink(server, &["-R", &forward]).arg(fetch).ok().text()
        },
        "from here",
    ),
    (
        "an agent in the box",
        |server| {
            let run = plink(server, &["-A"]).arg("ssh-add -l | cut -d ' ' -f 1,3-");
            run.env("SSH_AUTH_SOCK", &server.agent).ok().text()
        },
        "256 alice (ED25519)",
    ),
    ("an unknown subsystem", |server| plink(server, &["-s"]).arg("no-such").finish().status_text(), "1"),
    (
        "psftp there and back",
        |server| {
            let (sent, back) = (server.directory.join("sent"), server.directory.join("back"));
            fs::write(&sent, random_bytes(4 << 20)).unwrap();
            let place = &server.place;
            let batch = server.directory.join("batch");
            let lines = format!(
                "mkdir {place}\ncd {place}\nput {} one\nmv one two\nls\nget two {}\ndel two\ncd ..\nrmdir {place}\n",
                sent.display(),
                back.display()
            );
            fs::write(&batch, lines).unwrap();
            putty(server, "psftp", &["-b", batch.to_str().unwrap()]).arg(server.login.destination()).ok();
            same(&fs::read(sent).unwrap(), &fs::read(back).unwrap())
        },
        "same 4194304",
    ),
    (
        "pscp by its old protocol",
        |server| {
            let (sent, back) = (server.directory.join("scp-sent"), server.directory.join("scp-back"));
            fs::write(&sent, random_bytes(1 << 20)).unwrap();
            let there = format!("{}:{}-scp", server.login.destination(), server.place);
            putty(server, "pscp", &["-scp"]).arg(&sent).arg(&there).ok();
            putty(server, "pscp", &["-scp"]).arg(&there).arg(&back).ok();
            same(&fs::read(sent).unwrap(), &fs::read(back).unwrap())
        },
        "same 1048576",
    ),
];

/// One of its programs, up to the host.
fn putty(server: &Server, program: &str, options: &[&str]) -> Run {
    let login = &server.login;
    let key = server.directory.join("key.ppk");
    if !key.exists() {
        Run::new("puttygen").arg(&login.key).args(["-O", "private", "-o"]).arg(&key).ok();
    }
    let known = Run::new("ssh-keygen").args(["-lf"]).arg(&login.known_hosts).ok().text();
    let fingerprints = known.lines().filter_map(|line| line.split(' ').nth(1));
    let host_keys = fingerprints.flat_map(|fingerprint| ["-hostkey", fingerprint]);
    let run =
        Run::new(program).env("HOME", &server.directory).args(["-batch", "-i"]).arg(key).args(host_keys);
    run.args(options).arg("-P").arg(login.port.to_string())
}

fn plink(server: &Server, options: &[&str]) -> Run {
    putty(server, "plink", &[&["-ssh", "-no-antispoof"], options].concat()).arg(server.login.destination())
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn putty_programs() {
    table::check("putty", CASES);
}
