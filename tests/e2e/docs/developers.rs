//! What `docs/developers.md` says.

use std::fs;

use boxgate_tests::local::{free_port, make_tree, serve_http};
use boxgate_tests::{Devhost, Run, Setup};

use super::{Block, Laptop, blocks};
use crate::forwarding::{assert_fetches, serve_in_box};

const PAGE: &str = include_str!("../../../docs/developers.md");
/// What `docker_inside.rs` and `kubernetes.rs` do, with images and clusters of their own.
const DONE_ELSEWHERE: [(&str, usize); 2] = [("Docker", 1), ("Kubernetes", 2)];

/// The commands of the one block of a section, line by line and without the comments.
#[track_caller]
fn commands(section: &str) -> Vec<&'static str> {
    let blocks = blocks(PAGE, section);
    let [Block { kind: "sh", text }] = blocks[..] else { panic!("other blocks than expected: {blocks:?}") };
    let lines = text.lines().map(|line| line.split(" # ").next().unwrap().trim_end());
    lines.filter(|line| !line.starts_with('#')).collect()
}

/// Somebody's own machine, which knows the host by its name.
fn laptop(devhost: &Devhost) -> Laptop {
    Laptop::new(devhost, &devhost.login("alice"))
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn the_first_login_and_several_boxes() {
    let devhost = Setup::of(&["alice"]).start();
    let laptop = laptop(&devhost);
    let [login] = commands("The first login")[..] else { panic!("one command") };
    laptop.types(login).input("hostname; sudo -n id -u\n").ok().stdout_is("alice\n0\n");

    let [new, hostname, ls, rm] = commands("Several boxes")[..] else { panic!("four commands") };
    laptop.types(new).ok();
    laptop.types(hostname).ok().stdout_is("web\n");
    laptop.types(ls).ok().stdout_has("alice\t").stdout_has("alice+web\t");
    laptop.types(rm).ok();
    laptop.types(ls).ok().stdout_has("alice\t");

    let [ready, throwaway] = commands("The lobby")[..] else { panic!("two commands") };
    laptop.types(ready).ok().stdout_is("alice\n");
    laptop.types(throwaway).ok().stderr_has("No rule to make target 'test'");
    assert_eq!(laptop.types(ls).ok().text().lines().count(), 1, "the throwaway box is gone");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn files() {
    let devhost = Setup::of(&["alice"]).start();
    let laptop = laptop(&devhost);
    let here = devhost.directory().join("project");
    make_tree(&here);
    git(&here, &["init", "-q", "-b", "main"]);
    git(&here, &["add", "-A"]);
    git(&here, &["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "first"]);
    let typed = |line: &str| laptop.types(&format!("cd {} && {line}", devhost.directory().display()));

    let [scp, rsync, clone, tar] = commands("Files")[..] else { panic!("four commands") };
    typed(scp).ok();
    fs::write(here.join("later"), "came later").unwrap();
    typed(rsync).ok();
    devhost.login("alice").ssh("cat project/later").ok().stdout_is("came later");
    typed(clone).ok();
    git(&devhost.directory().join("project-of-the-box"), &["rev-parse", "--verify", "main"]);
    typed(tar).ok();
    typed("diff -r --no-dereference project copy/project").ok();
}

fn git(directory: &std::path::Path, words: &[&str]) {
    Run::new("git").arg("-C").arg(directory).args(words).ok();
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn ports() {
    let devhost = Setup::of(&["alice"]).start();
    let (laptop, alice) = (laptop(&devhost), devhost.login("alice"));
    let [local, remote, socks] = commands("Ports")[..] else { panic!("three commands") };
    // What the page takes on one's own machine may be taken on this one.
    let (port, proxy) = (free_port().to_string(), free_port().to_string());
    let own = serve_http(b"from here").to_string();
    let _server = serve_in_box(&alice, 3000, b"from the box");
    let _forwards = [
        laptop.types(&format!("exec {}", local.replace("8000", &port))).start(),
        laptop.types(&format!("exec {}", remote.replace("9000", &own))).start(),
        laptop.types(&format!("exec {}", socks.replace("1080", &proxy))).start(),
    ];
    assert_fetches(&[&format!("http://localhost:{port}/body")], b"from the box");
    assert_fetches(
        &["--socks5-hostname", &format!("127.0.0.1:{proxy}"), "http://localhost:3000/body"],
        b"from the box",
    );
    alice.ssh("curl -sS --retry 5 --retry-connrefused http://localhost:5000/").ok().stdout_is("from here");
}

#[test]
fn no_block_is_without_a_test() {
    let here =
        ["The first login", "Files", "Ports", "Several boxes", "The lobby"].map(|section| (section, 1));
    let all = here.iter().chain(&DONE_ELSEWHERE);
    for (section, count) in all.clone() {
        assert_eq!(blocks(PAGE, section).len(), *count, "blocks of {section}");
    }
    let known: usize = all.map(|(_, count)| count).sum();
    assert_eq!(known, PAGE.matches("\n```").count() / 2, "blocks that stories do, and blocks of the page");
}
