//! A configuration with faults is refused as a whole, by both programs, with every fault named.

use std::fs;
use std::path::Path;

use boxgate_tests::devhost::programs;
use boxgate_tests::{Finished, Run};

const PROGRAMS: [&str; 2] = ["boxgate-gateway", "boxgate-provisioner"];
const THREE_FAULTS: &str = r#"
[gateway]
listen = ["localhost:22"]

[box]
memory = "4 gigs"

[users.alice]
keys = ["not a key"]
"#;

#[track_caller]
fn run(program: &str, config: &Path, more: &[&str]) -> Finished {
    Run::new(programs().join(program)).arg("--config").arg(config).args(more).finish()
}

#[test]
#[ignore = "needs the built programs: ./devhost test runs it"]
fn every_fault_is_listed_with_its_line_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("boxgate.toml");
    fs::write(&config, THREE_FAULTS).unwrap();
    for (program, more) in
        PROGRAMS.map(|program| [(program, &["--check-config"][..]), (program, &[])]).concat()
    {
        let refused = run(program, &config, more).code(1).stdout_is("");
        for (line, fault, remedy) in [
            (3, "gateway.listen: \"localhost:22\" is not IP:PORT", "for example [\"0.0.0.0:22\""),
            (6, "box.memory: \"4 gigs\" is not a size", "for example \"4GiB\""),
            (9, "users.alice.keys: the key is not a public key", "~/.ssh/id_ed25519.pub"),
        ] {
            let place = format!("{}:{line}: {fault}", config.display());
            assert!(refused.errors().contains(&place), "expected {place:?}, seen:\n{refused}");
            assert!(refused.errors().contains(remedy), "expected {remedy:?}, seen:\n{refused}");
        }
    }
}

#[test]
#[ignore = "needs the built programs: ./devhost test runs it"]
fn a_good_or_a_missing_file_is_said_to_be_that() {
    let dir = tempfile::tempdir().unwrap();
    let (good, missing) = (dir.path().join("good.toml"), dir.path().join("missing.toml"));
    fs::write(&good, "[box]\nruntime = \"sysbox\"\n").unwrap();
    for program in PROGRAMS {
        run(program, &good, &["--check-config"]).code(0).stdout_is(format!("{}: ok\n", good.display()));
        run(program, &missing, &["--check-config"])
            .code(1)
            .stderr_has("missing.toml: cannot read the configuration");
        run(program, &missing, &[]).code(1).stderr_has("missing.toml: cannot read the configuration");
    }
}

#[test]
#[ignore = "needs the built programs: ./devhost test runs it"]
fn the_gateway_refuses_to_be_root() {
    assert!(nix::unistd::Uid::effective().is_root(), "end-to-end stories need root: sudo ./devhost test");
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("boxgate.toml");
    let state = dir.path().join("gateway");
    fs::write(&config, format!("[gateway]\nlisten = [\"127.0.0.1:0\"]\nstate_dir = {state:?}\n")).unwrap();
    run("boxgate-gateway", &config, &[])
        .code(1)
        .stderr_has("refuses to run as root")
        .stderr_has("\"boxgate\"");
    assert!(!state.exists(), "it refuses before it makes anything");
}
