//! Questions and answers between boxes, this host and a machine elsewhere, by `probe.py`.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::process::{Child, Command};
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep};

const PROBE: &str = include_str!("probe.py");
/// A question that gets no answer, not even a refusal.
pub(crate) const SILENT: &str = "silent";
/// Python starts in a tenth of a second, unless the machine is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a box is told at each target. `source`, when not empty, is where it pretends to be.
pub(crate) fn ask(container: &str, source: &str, targets: &[String]) -> Vec<String> {
    let mut command = Command::new("docker");
    command.args(["exec", container, "python3", "-c", PROBE]);
    if !source.is_empty() {
        command.args(["--from", source]);
    }
    let output = command.args(targets).output().unwrap();
    let answers = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    answers.lines().map(str::to_owned).collect()
}

/// The same on this host, from one of its addresses.
pub(crate) fn ask_from_host(source: &str, target: &str) -> String {
    let output = Command::new("python3").args(["-c", PROBE, "--from", source, target]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A program that answers with one word, until it is dropped.
pub(crate) struct Answering {
    process: Child,
    said: NamedTempFile,
}

impl Answering {
    /// `around` is what the program is run by: `ip netns exec NAME`, or nothing.
    pub(crate) async fn start(around: &[&str], word: &str, at: &[&str]) -> Self {
        let said = NamedTempFile::new().unwrap();
        let arguments = [around, &["python3", "-c", PROBE, "--serve", word], at].concat();
        let output = File::options().append(true).open(said.path()).unwrap();
        let process = Command::new(arguments[0]).args(&arguments[1..]).stdout(output).spawn().unwrap();
        let answering = Self { process, said };
        let begun = Instant::now();
        while answering.said().matches("serving").count() < at.len() {
            assert!(begun.elapsed() < PATIENCE, "{arguments:?} does not serve");
            sleep(Duration::from_millis(10)).await;
        }
        answering
    }

    /// What it was asked by UDP, a line each.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.said.path()).unwrap()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Err(fault) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("a server of the test's goes on: {fault}");
        }
    }
}

/// A machine beyond this host: a network namespace, with the cloud's metadata address as a second one. Only what has
/// a source in `pool` finds that one there, so that the host's own metadata service is not touched.
pub(crate) struct Elsewhere {
    name: String,
    pool: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) metadata: Ipv4Addr,
}

impl Elsewhere {
    pub(crate) fn new(pool: &str) -> Self {
        let unique: u32 = rand::random();
        let [a, b, ..] = unique.to_be_bytes();
        // RFC 2544: for tests between networks, and on no network else.
        let [near, far] = [1, 2].map(|host| Ipv4Addr::new(198, 18, a, (b & 0xfc) | host));
        let elsewhere = Self {
            name: format!("bgt{unique:08x}"),
            pool: pool.to_owned(),
            address: far,
            metadata: Ipv4Addr::new(169, 254, 169, 254),
        };
        elsewhere.make(near);
        elsewhere
    }

    fn make(&self, near: Ipv4Addr) {
        let Self { name, pool, address, metadata } = self;
        let table = self.table();
        ip(&format!("netns add {name}"));
        ip(&format!("link add {name} type veth peer name eth0 netns {name}"));
        ip(&format!("address add {near}/30 dev {name}"));
        ip(&format!("link set {name} up"));
        ip(&format!("-n {name} address add {address}/30 dev eth0"));
        ip(&format!("-n {name} address add {metadata}/32 dev lo"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {name} route add default via {near}"));
        ip(&format!("route add {metadata}/32 via {address} table {table}"));
        ip(&format!("rule add from {pool} to {metadata} lookup {table}"));
    }

    /// A routing table that nobody else has: they are numbered up to 2^32, and few are in use.
    fn table(&self) -> u32 {
        u32::from_str_radix(&self.name[3..], 16).unwrap() | 0x1_0000
    }

    pub(crate) async fn answering(&self, word: &str, at: &[&str]) -> Answering {
        Answering::start(&["ip", "netns", "exec", &self.name], word, at).await
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let table = self.table();
        let Self { name, pool, metadata, .. } = self;
        for command in [
            format!("rule del from {pool} to {metadata} lookup {table}"),
            // The routes go with it.
            format!("link del {name}"),
            format!("netns del {name}"),
        ] {
            if let Err(fault) = try_ip(&command) {
                eprintln!("{fault}");
            }
        }
    }
}

/// Lets Docker's rules pass what goes from box to box, so that ours alone are asked.
pub(crate) struct DockerLets {
    pool: String,
}

impl DockerLets {
    pub(crate) fn new(pool: &str) -> Self {
        let lets = Self { pool: pool.to_owned() };
        assert!(lets.iptables("-I"));
        lets
    }

    fn iptables(&self, change: &str) -> bool {
        let Self { pool } = self;
        let rule = ["DOCKER-USER", "-s", pool, "-d", pool, "-j", "ACCEPT"];
        Command::new("iptables").args(["-w", change]).args(rule).status().unwrap().success()
    }
}

impl Drop for DockerLets {
    fn drop(&mut self) {
        if !self.iptables("-D") {
            eprintln!("a rule for {} stays in DOCKER-USER", self.pool);
        }
    }
}

/// Every IPv4 address by which boxes on this host could find it, other installations' bridges left out.
pub(crate) fn host_addresses(own_bridges: &str) -> Vec<String> {
    let listed = ip("-4 -oneline address show");
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (interface, address) = (words.next()?, words.nth(1)?);
        let ours = interface.starts_with(own_bridges);
        let foreign = interface.starts_with("bg") || interface == "lo";
        (ours || !foreign).then(|| address.split('/').next().map(str::to_owned))?
    };
    listed.lines().filter_map(address).collect()
}

pub(crate) fn ip(arguments: &str) -> String {
    try_ip(arguments).unwrap()
}

fn try_ip(arguments: &str) -> Result<String, String> {
    let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|fault| fault.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}
