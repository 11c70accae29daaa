//! The bench measures all that it should. How fast anything is, is no test's business.

use std::fs;
use std::time::Duration;

use boxgate_tests::{Devhost, Run};
use serde_json::Value;

/// Every line of the bench's table that has figures.
const FIGURES: [&str; 19] = [
    "warm login",
    "login, no spare",
    "command",
    "key echo, idle",
    "key echo, idle, p99",
    "key echo, download",
    "key echo, download, p99",
    "key echo, upload",
    "key echo, upload, p99",
    "aes-gcm down",
    "aes-gcm up",
    "CPU down",
    "CPU up",
    "chacha20 down",
    "chacha20 up",
    "sftp get",
    "sftp put",
    "forward",
    "memory",
];
const LIMIT: Duration = Duration::from_secs(240);

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_quick_bench_measures_every_figure() {
    let devhost = Devhost::shared();
    let kept = devhost.directory().join("bench.json");
    let bench = Run::new(env!("CARGO_BIN_EXE_boxgate-bench")).args(["--quick", "--json"]).arg(&kept);
    let table = bench.within(LIMIT).ok().stdout_has(" goals met, ").text();
    for figure in FIGURES.iter().chain(&["crowd", "crowd, p99"]) {
        let line = table.lines().find(|line| line.starts_with(&format!("{figure}  ")));
        let line = line.unwrap_or_else(|| panic!("no {figure} in\n{table}"));
        assert!(
            line.chars().any(|letter| ('1'..='9').contains(&letter)),
            "{figure} without a figure: {line}"
        );
    }
    let kept: Value = serde_json::from_str(&fs::read_to_string(kept).unwrap()).unwrap();
    let figures = kept["figures"].as_array().unwrap();
    let finite = |figure: &Value| {
        let medians = figure["peers"].as_object().unwrap().values().map(|peer| peer["median"].as_f64());
        medians.clone().count() > 0 && medians.flatten().all(f64::is_finite)
    };
    assert!(figures.len() >= 17 && figures.iter().all(finite), "kept figures: {kept:#}");
    assert!(
        !kept["facts"]["machine"]["processor"].as_str().unwrap().is_empty(),
        "facts: {:#}",
        kept["facts"]
    );
}

#[test]
fn a_figure_that_does_not_exist_is_refused_by_name() {
    let bench = Run::new(env!("CARGO_BIN_EXE_boxgate-bench")).args(["--only", "speed"]);
    bench.finish().code(2).stderr_has("'speed'").stderr_has("bulk-aes");
}
