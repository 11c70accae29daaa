//! Tools that bring OpenSSH along: git, Ansible, and Docker's client with `-H ssh://`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use boxgate_tests::docker::{busybox_root, program};
use boxgate_tests::local::random_bytes;
use boxgate_tests::{Run, until};

use crate::driver;
use crate::servers::Server;
use crate::table::{self, Case, same};

const GIT: &[Case] = &[(
    "push and clone",
    |server| {
        let place = &server.place;
        server.login.ssh(&format!("git init --quiet --bare {place}.git")).ok();
        let (work, clone) = (server.directory.join("work"), server.directory.join("clone"));
        git(server).arg("init").arg("--quiet").arg(&work).ok();
        let body = random_bytes(4 << 20);
        fs::write(work.join("body"), &body).unwrap();
        let at_work = || {
            git(server).arg("-C").arg(&work).args([
                "-c",
                "user.name=alice",
                "-c",
                "user.email=alice@example.org",
            ])
        };
        at_work().args(["add", "body"]).ok();
        at_work().args(["commit", "--quiet", "-m", "A body"]).ok();
        let url =
            format!("ssh://{}:{}/home/alice/{place}.git", server.login.destination(), server.login.port);
        at_work().args(["push", "--quiet", &url, "HEAD:refs/heads/main"]).ok();
        git(server).args(["clone", "--quiet", "--branch", "main", &url]).arg(&clone).ok();
        let missing = git(server).args(["ls-remote", &format!("{url}-none")]).finish().status_text();
        format!("{}, {missing}", same(&body, &fs::read(clone.join("body")).unwrap()))
    },
    "same 4194304, 128",
)];

const ANSIBLE: &[Case] = &[
    ("ping", |server| summary(ansible(server, "ping", "")), "SUCCESS"),
    (
        "copy",
        |server| {
            let file = server.directory.join("copied");
            fs::write(&file, random_bytes(1 << 20)).unwrap();
            let there = format!("/home/alice/{}-copied", server.place);
            let done =
                summary(ansible(server, "copy", &format!("src={} dest={there} mode=0640", file.display())));
            let back = server.login.ssh(&format!("cat {there}; stat -c %a {there} >&2")).finish();
            format!(
                "{done}, {}, {}",
                same(&fs::read(file).unwrap(), &back.stdout),
                back.errors().lines().last().unwrap_or_default()
            )
        },
        "CHANGED, same 1048576, 640",
    ),
    (
        "command",
        |server| {
            let done = ansible(server, "command", "echo as ordered").finish();
            done.text().lines().last().unwrap_or_default().to_owned()
        },
        "as ordered",
    ),
    (
        "a command that fails",
        |server| {
            let done = ansible(server, "command", "false").finish();
            format!("{} {}", done.status_text(), done.text().contains("rc=1"))
        },
        "2 true",
    ),
];

const DOCKER: &[Case] = &[(
    "an image is loaded, listed and removed",
    |server| {
        // Docker in the box starts with its first use.
        until("Docker in the box", Duration::from_secs(60), || {
            let info = docker(server).args(["version", "--format", "{{.Server.Os}}"]).finish();
            if info.succeeded() { Ok(()) } else { Err(info.to_string()) }
        });
        let image = format!("{}:latest", server.place);
        docker(server).args(["import", "-", &image]).input(busybox_root(None)).ok();
        let os = docker(server).args(["image", "inspect", "--format", "{{.Os}}", &image]).ok().text();
        let saved = docker(server).args(["save", &image]).ok().stdout.len() > 500_000;
        docker(server).args(["image", "rm", &image]).ok();
        let name = docker(server).args(["info", "--format", "{{.Name}}"]).ok().text();
        format!("{os} {saved} {name}")
    },
    "linux true alice",
)];

fn git(server: &Server) -> Run {
    Run::new("git").env("GIT_SSH", ssh(server)).env("HOME", &server.directory).env("GIT_CONFIG_NOSYSTEM", "1")
}

fn docker(server: &Server) -> Run {
    let directory = ssh(server).parent().unwrap().to_owned();
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
    let host = format!("ssh://{}:{}", server.login.destination(), server.login.port);
    Run::new(program()).env("PATH", path).env("HOME", &server.directory).args(["-H", &host])
}

/// A program called `ssh` that knows alice's key: these tools have no flag for it.
fn ssh(server: &Server) -> PathBuf {
    let file = server.directory.join("bin/ssh");
    if !file.exists() {
        fs::create_dir(server.directory.join("bin")).unwrap();
        let login = &server.login;
        let script = format!(
            "#!/bin/sh\nexec /usr/bin/ssh -F none -i {} -o IdentitiesOnly=yes -o UserKnownHostsFile={} -o BatchMode=yes \
             -o LogLevel=ERROR \"$@\"\n",
            login.key.display(),
            login.known_hosts.display()
        );
        fs::write(&file, script).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    file
}

fn ansible(server: &Server, module: &str, arguments: &str) -> Run {
    let login = &server.login;
    let (temporary, settings) = (server.directory.join("ansible"), server.directory.join("ansible.cfg"));
    fs::write(&settings, "").unwrap();
    let common = format!(
        "-F none -o IdentitiesOnly=yes -o UserKnownHostsFile={} -o LogLevel=ERROR",
        login.known_hosts.display()
    );
    let variables = format!("ansible_port={} ansible_python_interpreter=/usr/bin/python3", login.port);
    let run = Run::new(driver::tools().join("venv/bin/ansible"))
        .env("HOME", &server.directory)
        .env("ANSIBLE_HOME", &temporary)
        .env("ANSIBLE_CONFIG", &settings)
        .env("ANSIBLE_SSH_CONTROL_PATH_DIR", temporary.join("cp"))
        .env("ANSIBLE_SSH_ARGS", "-o ControlMaster=auto -o ControlPersist=2s");
    let run = run
        .arg("all")
        .arg("-i")
        .arg(format!("{},", login.host))
        .args(["-u", "alice", "--private-key"])
        .arg(&login.key);
    run.args(["--ssh-common-args", &common, "-e", &variables, "-m", module, "-a", arguments])
        .within(Duration::from_secs(60))
}

/// `host | SUCCESS => {…` without the host and what follows.
fn summary(ansible: Run) -> String {
    let done = ansible.finish();
    let text = done.text();
    let word = text.split(" | ").nth(1).and_then(|rest| rest.split(' ').next());
    match word {
        Some(word @ ("SUCCESS" | "CHANGED")) => word.to_owned(),
        _ => done.to_string(),
    }
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn git_over_ssh() {
    table::check("git", GIT);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn ansible_over_ssh() {
    table::check("ansible", ANSIBLE);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn docker_over_ssh() {
    table::check("docker", DOCKER);
}
