//! Where figures come from: processor, kernel, versions, and how busy the machine was with other things.

use std::fs;
use std::path::Path;
use std::thread::{available_parallelism, sleep};
use std::time::Duration;

use boxgate_tests::{Run, docker};
use serde_json::{Value, json};

use crate::plan::Plan;
use crate::site::{Cipher, HOST_KEY, KEY_EXCHANGE, Site};

/// A machine that does this much without us does something else.
const BUSY: f64 = 0.15;

/// Processor time of all processors since the machine's start, in ticks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticks {
    all: f64,
    idle: f64,
    stolen: f64,
}

impl Ticks {
    pub(crate) fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap();
        let ticks: Vec<f64> =
            stat.lines().next().unwrap().split_whitespace().skip(1).flat_map(str::parse).collect();
        // user nice system idle iowait irq softirq steal; guests are counted in user already.
        Self { all: ticks.iter().take(8).sum(), idle: ticks[3] + ticks[4], stolen: ticks[7] }
    }

    /// The share of processor time that anything used since then, between 0 and 1.
    pub(crate) fn busy_since(self, before: Self) -> f64 {
        1.0 - (self.idle - before.idle) / (self.all - before.all)
    }
}

/// How busy the machine is before the bench begins.
#[derive(Debug)]
pub(crate) struct Look {
    load: String,
    busy: f64,
    ticks: Ticks,
}

impl Look {
    pub(crate) fn take() -> Self {
        let before = Ticks::now();
        sleep(Duration::from_secs(1));
        let ticks = Ticks::now();
        Self { load: load(), busy: ticks.busy_since(before), ticks }
    }

    pub(crate) fn warn_when_busy(&self) {
        if self.busy > BUSY {
            let busy = self.busy * 100.0;
            eprintln!("WARNING: this machine is {busy:.0} % busy with other things: expect noise");
        }
    }
}

pub(crate) fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Bytes.
pub(crate) fn memory_total() -> u64 {
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    memory.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Of now, in UTC (RFC 3339).
pub(crate) fn date() -> String {
    said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])
}

/// All that a reader of the figures wants to know of their making.
pub(crate) fn facts(site: &Site, plan: &Plan, before: &Look) -> Value {
    let now = Ticks::now();
    let stolen = (now.stolen - before.ticks.stolen) / (now.all - before.ticks.all);
    json!({
        "date": date(),
        "revision": revision(),
        "quick": plan.quick,
        "algorithms": {
            "key_exchange": KEY_EXCHANGE, "host_key": HOST_KEY, "cipher_unless_named": Cipher::Aes128Gcm.name(),
        },
        "machine": {
            "cores": cores(),
            "processor": processor(),
            "memory_mib": memory_total() >> 20,
            "kernel": said("uname", &["-sr"]),
            "congestion_control": said("cat", &["/proc/sys/net/ipv4/tcp_congestion_control"]),
            "busy_before": (before.busy * 100.0).round() / 100.0,
            "load_before": before.load,
            "load_after": load(),
            "stolen": (stolen * 1000.0).round() / 1000.0,
        },
        "versions": {
            "ssh": said("sh", &["-c", "ssh -V 2>&1"]),
            "box_sshd": site.run("ssh -V 2>&1"),
            "docker": said(docker::program(), &["version", "--format", "{{.Server.Version}}"]),
        },
    })
}

fn revision() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).to_str().unwrap();
    let git = |args: &[&str]| Run::new("git").args(["-C", root]).args(args).finish();
    let head = git(&["rev-parse", "--short=12", "HEAD"]);
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"]).text().is_empty();
    let head = if head.succeeded() { head.text() } else { "unknown".to_owned() };
    head + if changed { " and changes" } else { "" }
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    model.map_or_else(|| "unknown".to_owned(), |model| model.trim().to_owned())
}

fn load() -> String {
    let loads = fs::read_to_string("/proc/loadavg").unwrap();
    loads.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn said(program: &str, args: &[&str]) -> String {
    Run::new(program).args(args).ok().text()
}
