//! A provisioner with an instance name, a pool and directories of its own. All that it made is removed at the
//! end, after a failure too.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use boxgate_config::{Config, DevBoxId};
use boxgate_provisioner_api::{
    Client, ClientError, Endpoint, EnsureRequest, Failure, GcReport, GcRequest, Health, Order, OrderRequest,
};
use tempfile::TempDir;
use tokio::time::Instant;

const USER_CA: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBdNx4zHfOgGmj6MKNg9Vh8vgTqB6fjOSC5M2vTgVTzd ca";
/// Longer than a provisioner takes to start.
const PATIENCE: Duration = Duration::from_secs(20);
/// How to list and how to remove what is there, in an order in which it can be removed.
const KINDS: [(&[&str], &[&str]); 4] = [
    (&["container", "ls", "--all"], &["container", "rm", "--force"]),
    (&["network", "ls"], &["network", "rm"]),
    (&["volume", "ls"], &["volume", "rm", "--force"]),
    (&["image", "ls"], &["image", "rm", "--force"]),
];

/// A provisioner process and what is its own.
pub(crate) struct Installation {
    pub(crate) instance: String,
    settings: BTreeMap<&'static str, String>,
    directory: TempDir,
    process: Option<Child>,
}

/// Runs `docker` and returns what it says.
pub(crate) fn docker(arguments: &[&str]) -> String {
    try_docker(arguments).unwrap()
}

/// Runs `docker` for a command that ends in failure, and returns what it says.
pub(crate) fn docker_fails(arguments: &[&str]) -> String {
    try_docker(arguments).unwrap_err()
}

fn try_docker(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("docker").args(arguments).output().map_err(|fault| fault.to_string())?;
    let said = |text: &[u8]| String::from_utf8_lossy(text).trim().to_owned();
    if output.status.success() {
        Ok(said(&output.stdout))
    } else {
        Err(format!("docker {arguments:?}: {}", said(&output.stderr)))
    }
}

/// The image that boxes are made from.
pub(crate) fn image() -> String {
    std::env::var("BOXGATE_TEST_IMAGE").unwrap_or_else(|_| "boxgate/box:latest".to_owned())
}

impl Installation {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With settings that win over the usual ones: `("box.image", "\"x\"")`.
    pub(crate) async fn with(changed: &[(&'static str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        let unique: u32 = rand::random();
        let [a, b, ..] = unique.to_be_bytes();
        let instance = format!("bgtest-{unique:08x}");
        let own = |name: &str| format!("\"{}\"", directory.path().join(name).display());
        let settings = [
            ("provisioner.instance", format!("{instance:?}")),
            ("provisioner.network_pool", format!("\"10.{}.{b}.0/24\"", a % 64 + 128)),
            ("provisioner.gateway_user", format!("\"{}\"", nix::unistd::Uid::current())),
            ("provisioner.socket", own("socket")),
            ("provisioner.state_dir", own("state")),
            ("provisioner.docker_socket", own("docker.sock")),
            ("box.image", format!("{:?}", image())),
            ("box.runtime", "\"runc\"".to_owned()),
            ("box.i_understand_boxes_are_root_on_this_host", "true".to_owned()),
            ("box.memory", "\"1GiB\"".to_owned()),
        ];
        let mut installation = Self { instance, settings: settings.into(), directory, process: None };
        for (setting, value) in changed {
            installation.set(setting, value);
        }
        installation.let_docker_be(true);
        installation.start().await;
        installation
    }

    /// Gives the provisioner the engine, or takes it away, as far as the provisioner can tell.
    pub(crate) fn let_docker_be(&self, there: bool) {
        let socket = self.path("docker.sock");
        if there {
            symlink("/var/run/docker.sock", socket).unwrap();
        } else {
            fs::remove_file(socket).unwrap();
        }
    }

    /// Counts from the next start on.
    pub(crate) fn set(&mut self, setting: &'static str, value: &str) {
        self.settings.insert(setting, value.to_owned());
    }

    /// Makes boxes from an image whose first process runs `script` and nothing else; the usual one is beside it
    /// with `.real` behind its name.
    pub(crate) async fn boot_with(&mut self, script: &str) {
        let (maker, made) = (self.name("maker"), format!("{}/broken:latest", self.instance));
        let file = self.path("init-runc");
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
        docker(&["create", "--label", &self.label(), "--name", &maker, &image()]);
        let entry = "/usr/lib/boxgate/init-runc";
        let usual = self.path("init-runc.real");
        docker(&["cp", &format!("{maker}:{entry}"), &usual.to_string_lossy()]);
        docker(&["cp", &usual.to_string_lossy(), &format!("{maker}:{entry}.real")]);
        docker(&["cp", &file.to_string_lossy(), &format!("{maker}:{entry}")]);
        docker(&["commit", "--change", &format!("LABEL {}", self.label()), &maker, &made]);
        docker(&["rm", &maker]);
        self.set("box.image", &format!("{made:?}"));
        self.kill();
        self.start().await;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The operator's program, for this installation.
    pub(crate) fn boxgate(&self, words: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_boxgate"));
        command.arg("--config").arg(self.path("boxgate.toml")).args(words);
        command
    }

    /// The range of its networks.
    pub(crate) fn pool(&self) -> &str {
        self.settings["provisioner.network_pool"].trim_matches('"')
    }

    pub(crate) fn config(&self) -> Config {
        Config::load(&self.path("boxgate.toml")).unwrap()
    }

    /// The nftables table with its rules.
    pub(crate) fn firewall_table(&self) -> String {
        format!("boxgate_{}", self.instance)
    }

    pub(crate) fn label(&self) -> String {
        format!("io.boxgate.instance={}", self.instance)
    }

    /// Starts the provisioner and waits until it answers.
    pub(crate) async fn start(&mut self) {
        let mut text = String::new();
        for (setting, value) in &self.settings {
            writeln!(text, "{setting} = {value}").unwrap();
        }
        fs::write(self.path("boxgate.toml"), text).unwrap();
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_boxgate-provisioner"));
        command.arg("--config").arg(self.path("boxgate.toml")).stderr(log);
        self.process = Some(command.spawn().unwrap());
        let begun = Instant::now();
        while let Err(fault) = self.health().await {
            assert!(begun.elapsed() < PATIENCE, "{fault}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends the provisioner as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended on its own, which the test then says.
            if process.kill().is_ok() {
                process.wait().unwrap();
            }
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.path("socket"))
    }

    pub(crate) async fn health(&self) -> Result<Health, ClientError> {
        self.client().health().await
    }

    pub(crate) async fn ensure(&self, id: &str) -> Result<Endpoint, Failure> {
        let devbox = DevBoxId::parse(id).unwrap();
        let request = EnsureRequest { devbox, user_ca: USER_CA.to_owned(), client: "a test".to_owned() };
        match self.client().ensure(&request, |_| {}).await {
            Ok(endpoint) => Ok(endpoint),
            Err(ClientError::Failed(failure)) => Err(failure),
            Err(fault) => panic!("{fault}"),
        }
    }

    /// Does something to a box.
    pub(crate) async fn order(&self, id: &str, order: Order) -> Result<(), Failure> {
        let devbox = DevBoxId::parse(id).unwrap();
        let request = OrderRequest { devbox, order, client: "a test".to_owned() };
        match self.client().order(&request, |_| {}).await {
            Ok(()) => Ok(()),
            Err(ClientError::Failed(failure)) => Err(failure),
            Err(fault) => panic!("{fault}"),
        }
    }

    pub(crate) async fn gc(&self, remove: bool) -> GcReport {
        self.client().gc(&GcRequest { remove }).await.unwrap()
    }

    /// Something in the provisioner's state directory.
    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.path("state").join(name)
    }

    /// What the provisioner wrote, in all its starts.
    pub(crate) fn log(&self) -> PathBuf {
        self.path("log")
    }

    /// How many file descriptors the provisioner has open.
    pub(crate) fn descriptors(&self) -> usize {
        let id = self.process.as_ref().unwrap().id();
        fs::read_dir(format!("/proc/{id}/fd")).unwrap().count()
    }

    /// The name of a box's object: `name("alice.home")`.
    pub(crate) fn name(&self, of: &str) -> String {
        format!("{}.{of}", self.instance)
    }

    /// What `docker inspect` says of an object of this installation.
    pub(crate) fn inspect(&self, of: &str, format: &str) -> String {
        docker(&["inspect", "--format", format, &self.name(of)])
    }

    /// Every object of one kind, `container`, `network` or `volume`, that this installation has.
    pub(crate) fn list(&self, kind: &str) -> Vec<String> {
        let (list, _) = KINDS.iter().find(|(list, _)| list[0] == kind).unwrap();
        self.listed(list)
    }

    fn listed(&self, list: &[&str]) -> Vec<String> {
        docker(&[list, &["--quiet", "--filter", &self.filter()]].concat())
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn filter(&self) -> String {
        format!("label={}", self.label())
    }

    fn remove_all(&self) -> Result<(), String> {
        for (list, remove) in KINDS {
            let found = try_docker(&[list, &["--quiet", "--filter", &self.filter()]].concat())?;
            if !found.is_empty() {
                try_docker(&[remove, &found.lines().collect::<Vec<_>>()[..]].concat())?;
            }
        }
        let removed = Command::new("nft").args(["delete", "table", "inet", &self.firewall_table()]).output();
        match removed.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()) {
            // A test may have removed it.
            Ok(said) if said.is_empty() || said.contains("No such file") => Ok(()),
            Ok(said) => Err(said),
            Err(fault) => Err(format!("nft: {fault}")),
        }
    }

    /// What a test made with our names and without our labels. Most tests make none of it.
    fn remove_foreign(&self) {
        for (kind, of) in [("container", "alice"), ("network", "alice"), ("volume", "alice.home")] {
            if let Err(absent) = try_docker(&[kind, "rm", &self.name(of)]) {
                eprintln!("{absent}");
            }
        }
    }
}

/// The host key that a box's sshd shows: its type and its base64.
pub(crate) fn shown_host_key(endpoint: &Endpoint) -> String {
    let address = endpoint.address.ip().to_string();
    let output = Command::new("ssh-keyscan").args(["-t", "ed25519", &address]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    shown.split_ascii_whitespace().skip(1).collect::<Vec<_>>().join(" ")
}

impl Drop for Installation {
    fn drop(&mut self) {
        self.kill();
        let removed = self.remove_all();
        self.remove_foreign();
        if std::thread::panicking() {
            // A second panic would end the whole test program, and leave other tests' objects behind.
            eprintln!("the provisioner's log:\n{}", fs::read_to_string(self.path("log")).unwrap_or_default());
            eprintln!("what it made was removed: {removed:?}");
        } else {
            removed.unwrap();
        }
    }
}
