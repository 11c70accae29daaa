//! The program as an operator meets it: its arguments, its exit codes, its start and its end. No Docker.
#![expect(clippy::unwrap_used, reason = "a test's set-up may panic")]

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::{Client, ClientError, Engine, EnsureRequest, FailureCode, Firewall, Health};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::time::Instant;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_boxgate-provisioner"))
}

fn check(config: &Path) -> Output {
    program().arg("--config").arg(config).arg("--check-config").output().unwrap()
}

#[test]
fn a_good_configuration_is_ok() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("boxgate.toml");
    fs::write(&file, "box.cpus = 1\n").unwrap();
    let output = check(&file);
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}: ok\n", file.display()));
}

#[test]
fn every_fault_is_listed_with_its_line() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("boxgate.toml");
    fs::write(&file, "[box]\nruntime = \"vm\"\nmemory = \"1 byte\"\n[provisioner]\nport = 7\n").unwrap();
    let output = check(&file);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let said = String::from_utf8(output.stderr).unwrap();
    for at in ["2: box.runtime: ", "3: box.memory: ", "5: provisioner.port: "] {
        assert!(said.contains(&format!("{}:{at}", file.display())), "{said}");
    }
}

#[test]
fn a_configuration_that_is_not_there() {
    let output = check(Path::new("/no/such/boxgate.toml"));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("/no/such/boxgate.toml: "));
}

#[tokio::test]
async fn it_serves_without_docker_and_ends_when_told() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut command = serving(directory.path(), "off");
    let notified = UnixDatagram::bind(path("notify")).unwrap();
    notified.set_read_timeout(Some(PATIENCE)).unwrap();
    command.env("NOTIFY_SOCKET", path("notify")).env("WATCHDOG_USEC", "400000");
    let process = command.args(["--log-format", "json"]).stderr(Stdio::piped()).spawn().unwrap();
    let expect = |state: &str| while !message(&notified).starts_with(state) {};

    expect("READY=1");
    let health = health(&Client::new(path("socket"))).await;
    match health.engine {
        Engine::Unavailable { reason } => assert!(reason.contains("there is no"), "{reason}"),
        Engine::Ok => panic!("there is no engine"),
    }
    assert!(health.isolated);
    assert_eq!(health.firewall, Firewall::Off);
    expect("STATUS=Serving, but no box is had: ");
    // One is the first; further ones show that it works still.
    expect("WATCHDOG=1");
    expect("WATCHDOG=1");

    kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), Signal::SIGTERM).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    expect("STOPPING=1");
    assert!(!path("socket").exists());
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.lines().all(|line| line.starts_with(r#"{"timestamp":"#)), "{log}");
    assert!(log.contains("boxes can be had as soon as it answers"), "{log}");
    assert!(log.contains("provisioner.firewall is off"), "{log}");
}

/// Where nft cannot be had the boxes cannot be kept apart, and nobody gets one.
#[tokio::test]
async fn without_a_firewall_no_box_is_had() {
    const USER_CA: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBdNx4zHfOgGmj6MKNg9Vh8vgTqB6fjOSC5M2vTgVTzd ca";
    let directory = TempDir::new().unwrap();
    let mut command = serving(directory.path(), "on");
    let process = command.env("PATH", "/nonexistent").stderr(Stdio::piped()).spawn().unwrap();
    let client = Client::new(directory.path().join("socket"));
    let reason = "firewall: nft is not installed on this host (apt-get install nftables)".to_owned();
    assert_eq!(health(&client).await.firewall, Firewall::Failing { reason });

    let devbox = DevBoxId::parse("alice").unwrap();
    let request = EnsureRequest { devbox, user_ca: USER_CA.to_owned(), client: "a test".to_owned() };
    let Err(ClientError::Failed(failure)) = client.ensure(&request, |_| {}).await else {
        panic!("had a box")
    };
    assert_eq!((failure.code, failure.retryable), (FailureCode::FirewallDown, true));
    assert_eq!(failure.message, "box alice: firewall: nft is not installed on this host");
    assert!(failure.remedy.contains("apt-get install nftables"), "{failure}");

    kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), Signal::SIGTERM).unwrap();
    let log = String::from_utf8(process.wait_with_output().unwrap().stderr).unwrap();
    assert!(log.contains("no box is had until this is mended"), "{log}");
}

/// What the service manager is told next.
fn message(notified: &UnixDatagram) -> String {
    let mut message = [0; 1024];
    let length = notified.recv(&mut message).unwrap();
    String::from_utf8(message[..length].to_vec()).unwrap()
}

/// The program with all that is its own in a directory, and no engine.
fn serving(directory: &Path, firewall: &str) -> Command {
    let path = |name: &str| directory.join(name);
    let config = format!(
        "[provisioner]\nsocket = \"{}\"\nstate_dir = \"{}\"\ndocker_socket = \"{}\"\ngateway_user = \"{}\"\n\
         firewall = \"{firewall}\"\n",
        path("socket").display(),
        path("state").display(),
        path("docker.sock").display(),
        nix::unistd::Uid::current(),
    );
    fs::write(path("boxgate.toml"), config).unwrap();
    let mut command = program();
    command.arg("--config").arg(path("boxgate.toml"));
    command
}

async fn health(client: &Client) -> Health {
    let begun = Instant::now();
    loop {
        match client.health().await {
            Ok(health) => return health,
            Err(fault) => assert!(begun.elapsed() < PATIENCE, "{fault}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
