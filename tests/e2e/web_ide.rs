//! A real web IDE in a box, used in a real browser through a forward, as `docs/ides.md` says. `./devhost test` fetches
//! both and has this story run by itself: a browser keeps both cores busy for a while.

use std::env;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxgate_tests::local::free_port;
use boxgate_tests::{Run, Setup, until};
use serde_json::{Value, json};

use crate::docs::{BROWSER, IDES, Laptop, blocks};

/// For an installation of ninety packages, and for a browser, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Where the box's pip finds what the page has it install: no index is asked.
const PIP: &str = "[global]\nno-index = true\nfind-links = /home/alice/wheels\n";

/// Where `./devhost test` put what the lock files name.
#[track_caller]
fn tools() -> PathBuf {
    let tools = env::var_os("BOXGATE_WEB_IDE").map(PathBuf::from).filter(|tools| tools.exists());
    tools.unwrap_or_else(|| panic!("BOXGATE_WEB_IDE names no directory; ./devhost test makes it and sets it"))
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn jupyterlab_through_a_forward_in_chromium() {
    let devhost = Setup::of(&["alice"]).set("box.memory", "\"2GiB\"").start();
    let (alice, port) = (devhost.login("alice"), free_port().to_string());
    let laptop = Laptop::new(&devhost, &alice);
    let page = blocks(IDES, BROWSER);
    let [commands, entry] = &page[..] else { panic!("other blocks than expected: {page:?}") };
    // 8888 may be taken on this machine.
    let commands = commands.text.replace("8888", &port);
    let [install, serve, list, forward]: [&str; 4] = commands.lines().collect::<Vec<_>>().try_into().unwrap();
    let config = format!("{}\n{}\n", blocks(IDES, "IDEs")[1].text, entry.text.replace("8888", &port));
    fs::write(laptop.config(), config).unwrap();

    let wheels = tools().join("wheels");
    laptop.types(&format!("scp -q -r {} devhost:wheels", wheels.display())).within(PATIENCE).ok();
    alice.ssh("mkdir -p .config/pip && cat >.config/pip/pip.conf").input(PIP).ok();
    laptop.types(install).within(PATIENCE).ok();
    laptop.types(serve).ok();
    let begin = format!("http://localhost:{port}/");
    let url = until("the server", PATIENCE, || {
        let said = laptop.types(list).ok().text();
        said.split_whitespace().find(|word| word.starts_with(&begin)).map(str::to_owned).ok_or(said)
    });

    let forward = laptop.types(forward).start();
    until_listening(&port);
    use_it(&url);
    alice.ssh("cat typed").ok().stdout_is("typed in alice\n");

    // Without the forward it goes on, and the other one finds its kernel.
    drop(forward);
    let _forward = laptop.types("exec ssh -N devhost-lab").start();
    until_listening(&port);
    let status = url.replace("/?", "/api/status?");
    Run::new("curl").args(["-sS", "--max-time", "10", &status]).ok().stdout_has("\"kernels\": 1");
}

fn until_listening(port: &str) {
    until("the forward", PATIENCE, || {
        TcpStream::connect(format!("127.0.0.1:{port}")).map_err(|fault| fault.to_string())
    });
}

#[track_caller]
fn chromium() -> String {
    let found = Run::shell("command -v chromium google-chrome").finish().text();
    let needed = "chromium is needed: ./devhost test installs it, or apt-get install chromium";
    found.lines().next().unwrap_or_else(|| panic!("{needed}")).to_owned()
}

/// Everything that comes back from the box comes over `WebSockets`: with none of them the script fails.
#[track_caller]
fn use_it(url: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("web-ide/use.js");
    let order = json!({
        "url": url, "chromium": chromium(),
        "first": "import socket; name = socket.gethostname(); print(f'{name} has {6 * 7}')",
        "second": "print(name, 'is still known')",
        "typed": "echo typed in $(hostname) | tee typed", "answer": "typed in alice",
    });
    let used =
        Run::new("node").env("NODE_PATH", tools().join("node_modules")).arg(script).arg(order.to_string());
    let saw: Value = serde_json::from_str(&used.within(PATIENCE).ok().text()).unwrap();
    assert_eq!(
        (&saw["first"], &saw["second"]),
        (&json!("alice has 42"), &json!("alice is still known")),
        "{saw}"
    );
    assert!(saw["sockets"].as_u64() >= Some(3), "two kernels' and a terminal's WebSockets: {saw}");
}
