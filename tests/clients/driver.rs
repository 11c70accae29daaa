//! Runs the cases of a client library: a small program of its language gets them by name and prints a line of
//! JSON for each.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use boxgate_tests::Run;
use serde_json::{Value, json};

use crate::servers::{Server, Servers, WEB_PORT};
use crate::table::{Saw, compare};

/// For all cases of one family on one server, on a busy machine.
const LIMIT: Duration = Duration::from_secs(150);

/// Does every case on either server and compares what came of it, as JSON, with what is expected.
#[track_caller]
pub(crate) fn check(family: &str, program: impl Fn() -> Run, expected: &[(&str, &str)]) {
    let servers = Servers::of(family);
    let saw = servers.both.each_ref().map(|server| run(server, &program, expected));
    compare(family, expected, &saw);
}

/// The same where the box's sshd, which is the distribution's, cannot be the measure.
#[track_caller]
pub(crate) fn check_gateway(family: &str, program: impl Fn() -> Run, expected: &[(&str, &str)]) {
    let servers = Servers::of(family);
    let saw = run(&servers.both[0], &program, expected);
    compare(family, expected, &[saw.clone(), saw]);
}

fn run(server: &Server, program: impl Fn() -> Run, expected: &[(&str, &str)]) -> Vec<Saw> {
    let names = expected.iter().map(|(name, _)| name);
    let done = program().arg(where_and_whom(server)).args(names).within(LIMIT).ok();
    done.text().lines().map(read).collect()
}

fn where_and_whom(server: &Server) -> String {
    let login = &server.login;
    json!({
        "host": login.host, "port": login.port, "user": login.name.to_str(), "key": login.key,
        "wrong_key": server.wrong_key, "known_hosts": login.known_hosts, "place": server.place,
        "agent": server.agent, "web_port": WEB_PORT, "web_body": server.web_body,
    })
    .to_string()
}

fn read(line: &str) -> Saw {
    let saw: Value = serde_json::from_str(line).unwrap();
    (saw["case"].as_str().unwrap().to_owned(), saw["saw"].to_string())
}

/// Where `./devhost test` put what the lock files name.
#[track_caller]
pub(crate) fn tools() -> PathBuf {
    let tools = env::var_os("BOXGATE_CLIENTS").map(PathBuf::from).filter(|tools| tools.exists());
    tools.unwrap_or_else(|| panic!("BOXGATE_CLIENTS names no directory; ./devhost test makes it and sets it"))
}

fn source(path: &str) -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(path)).unwrap()
}

/// A Python driver, with the libraries of requirements.txt.
#[track_caller]
pub(crate) fn python(script: &str) -> Run {
    // Nothing is written beside the sources.
    Run::new(tools().join("venv/bin/python")).arg("-B").arg(source("python").join(script))
}

#[track_caller]
pub(crate) fn node(script: &str) -> Run {
    Run::new("node").env("NODE_PATH", tools().join("node_modules")).arg(source("node").join(script))
}

#[track_caller]
pub(crate) fn go() -> Run {
    Run::new(tools().join("go-client"))
}
