//! ssh-audit's opinion of what the gateway offers.

use std::io::Write;

use boxgate_tests::{Devhost, Run};
use serde_json::Value;

use crate::driver::tools;

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn ssh_audit_fails_nothing() {
    let devhost = Devhost::shared();
    let address = devhost.address();
    let audit = |options: &[&str]| {
        let port = address.port().to_string();
        // Without its test for denial of service by many connections, which is load and no audit.
        let fixed = ["--skip-rate-test", "-p", &port, "127.0.0.1"];
        Run::new(tools().join("venv/bin/ssh-audit")).args(options).args(fixed).finish()
    };
    let report: Value = serde_json::from_slice(&audit(&["--json"]).stdout).unwrap();
    let kinds = ["kex", "key", "enc", "mac"];
    let algorithms = || kinds.iter().flat_map(|&kind| report[kind].as_array().into_iter().flatten());
    assert!(algorithms().count() > 15, "it saw the algorithms: {report:#}");
    let notes = |level: &str| {
        let noted = |algorithm: &Value| {
            let notes = algorithm["notes"][level].as_array().filter(|notes| !notes.is_empty())?;
            Some(format!("{} {notes:?}", algorithm["algorithm"]))
        };
        algorithms().filter_map(noted).collect::<Vec<_>>()
    };
    // For whoever reads the log of the tests, where captured output does not show.
    for warning in notes("warn") {
        writeln!(std::io::stderr(), "ssh-audit warns: {warning}").unwrap();
    }
    // ssh-audit's one objection: NIST's curves, which it suspects and standards demand. They are offered last,
    // for clients that have nothing else.
    let fails: Vec<_> = notes("fail")
        .into_iter()
        .filter(|note| !note.contains("elliptic curves that are suspected"))
        .collect();
    assert_eq!(fails, Vec::<String>::new());
    assert!(report["cves"].as_array().is_none_or(Vec::is_empty), "{:#}", report["cves"]);
    let strict = "kex-strict-s-v00@openssh.com";
    assert!(algorithms().any(|algorithm| algorithm["algorithm"] == strict), "{strict} is not announced");
}
