//! Programs that move files by SFTP: curl with libssh2, lftp, sshfs.

use std::fs;
use std::path::Path;

use boxgate_tests::Run;
use boxgate_tests::local::{make_tree, random_bytes};

use crate::servers::Server;
use crate::table::{self, Case, same};

const CURL: &[Case] = &[
    ("sftp there and back", |server| curl_there_and_back(server, "sftp"), "same 4194304"),
    ("scp there and back", |server| curl_there_and_back(server, "scp"), "same 4194304"),
    (
        "a directory's listing",
        |server| {
            let done = curl(server).arg("--list-only").arg(url(server, "sftp", "www/")).ok();
            let mut names: Vec<_> = done.text().lines().map(str::to_owned).collect();
            names.sort();
            names.join(" ")
        },
        ". .. body",
    ),
    (
        "the first and last bytes",
        |server| {
            let file = url(server, "sftp", "www/body");
            let part = |range: &str| curl(server).args(["-r", range]).arg(&file).ok().stdout;
            let body = fs::read(&server.web_body).unwrap();
            format!("{} {}", part("0-999") == body[..1000], part("-1000") == body[body.len() - 1000..])
        },
        "true true",
    ),
    (
        "commands",
        |server| {
            let (home, place) = ("/home/alice", &server.place);
            let quote = [
                format!("mkdir {home}/{place}-q"),
                format!("rename {home}/{place}-q {home}/{place}-r"),
                format!("rmdir {home}/{place}-r"),
            ];
            let quotes = quote.iter().flat_map(|command| ["-Q", command]);
            curl(server)
                .args(quotes)
                .args(["-o", "/dev/null"])
                .arg(url(server, "sftp", "www/body"))
                .finish()
                .status_text()
        },
        "0",
    ),
    (
        "a file that is not there",
        |server| curl(server).arg(url(server, "sftp", "no-such")).finish().status_text(),
        "78",
    ),
    (
        "a stranger's key",
        |server| {
            let public = server.wrong_key.with_extension("pub");
            let run = Run::new("curl")
                .env("HOME", &server.directory)
                .args(["-sS", "-u", "alice:", "--key"])
                .arg(&server.wrong_key);
            run.arg("--pubkey").arg(public).arg(url(server, "sftp", "www/body")).finish().status_text()
        },
        "67",
    ),
];

const LFTP: &[Case] = &[(
    "a mirror there and back",
    |server| {
        let (tree, back) = (server.directory.join("tree"), server.directory.join("back"));
        make_tree(&tree);
        let login = &server.login;
        let connect = format!(
            "ssh -a -x -F none -i {} -o IdentitiesOnly=yes -o UserKnownHostsFile={} -o BatchMode=yes -o LogLevel=ERROR",
            login.key.display(),
            login.known_hosts.display()
        );
        let commands = format!(
            "set sftp:connect-program '{connect}'; set cmd:fail-exit yes; open -u alice, sftp://{}:{}; \
         mirror -R {} {place}; mirror {place} {}; rm -r {place}",
            login.host,
            login.port,
            tree.display(),
            back.display(),
            place = server.place,
        );
        Run::new("lftp").env("HOME", &server.directory).args(["--norc", "-c", &commands]).ok();
        differences(&tree, &back)
    },
    "",
)];

const SSHFS: &[Case] = &[(
    "a mounted home",
    |server| {
        let (tree, mount) = (server.directory.join("fs-tree"), server.directory.join("mount"));
        make_tree(&tree);
        fs::create_dir(&mount).unwrap();
        let mounted = Mounted::new(server, &mount);
        let there = mount.join(&server.place);
        Run::new("cp").arg("-r").arg(&tree).arg(&there).ok();
        fs::rename(there.join("large"), there.join("renamed")).unwrap();
        drop(mounted);

        let again = Mounted::new(server, &mount);
        fs::rename(there.join("renamed"), there.join("large")).unwrap();
        let seen = differences(&tree, &there);
        fs::remove_dir_all(&there).unwrap();
        drop(again);
        seen
    },
    "",
)];

/// A home mounted here, until it is dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(server: &Server, mount: &'a Path) -> Self {
        let login = &server.login;
        let options = [
            format!("ssh_command=ssh -F none -i {} -o IdentitiesOnly=yes", login.key.display()),
            format!("UserKnownHostsFile={},BatchMode=yes,port={}", login.known_hosts.display(), login.port),
        ];
        let options = options.iter().flat_map(|option| ["-o", option]);
        Run::new("sshfs").arg(login.destination() + ":").arg(mount).args(options).ok();
        Self(mount)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        Run::new("fusermount3").arg("-u").arg(self.0).ok();
    }
}

fn differences(one: &Path, other: &Path) -> String {
    Run::new("diff").arg("-r").arg(one).arg(other).finish().text()
}

fn url(server: &Server, scheme: &str, path: &str) -> String {
    format!("{scheme}://{}:{}/home/alice/{path}", server.login.host, server.login.port)
}

/// As alice, with her known hosts where libssh2 looks for them.
fn curl(server: &Server) -> Run {
    let ssh = server.directory.join(".ssh");
    fs::create_dir_all(&ssh).unwrap();
    fs::copy(&server.login.known_hosts, ssh.join("known_hosts")).unwrap();
    let key = &server.login.key;
    let run = Run::new("curl").env("HOME", &server.directory).args(["-sS", "-u", "alice:", "--key"]).arg(key);
    run.arg("--pubkey").arg(key.with_extension("pub"))
}

fn curl_there_and_back(server: &Server, scheme: &str) -> String {
    let sent = random_bytes(4 << 20);
    let file = url(server, scheme, &format!("{}-{scheme}", server.place));
    let from = server.directory.join("upload");
    fs::write(&from, &sent).unwrap();
    curl(server).arg("-T").arg(from).arg(&file).ok();
    same(&sent, &curl(server).arg(&file).ok().stdout)
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn libssh2_by_curl() {
    table::check("curl", CURL);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn lftp() {
    table::check("lftp", LFTP);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn sshfs() {
    table::check("sshfs", SSHFS);
}
