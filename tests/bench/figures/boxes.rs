//! Making and waking boxes: `ssh HOST true` from the client's start to its end, against what the engine alone takes for
//! the same container until its sshd answers. That the client also logs in is the gateway's to bear.

use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use boxgate_tests::docker::{self, docker, inspect};
use boxgate_tests::{Devhost, Run, Setup, Stopwatch, until};
use serde_json::Value;

use super::{Context, milliseconds, settle, take_turns};
use crate::client::{time, try_time};
use crate::figure::{Figure, Goal, Statistic};
use crate::site::{Cipher, Peer, Site};
use crate::{guard, machine};

const CIPHER: Cipher = Cipher::Aes128Gcm;
const PEERS: [Peer; 3] = [Peer::Engine, Peer::EngineAndLogin, Peer::Gateway];
/// The box that comes and goes, beside the one that all else is measured with.
const NAME: &str = "fresh";
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// After this a spare box has booted to its end: it waits long for somebody, as a rule.
const BOOTED: Duration = Duration::from_secs(5);

pub(super) fn first_logins(context: &Context<'_>) -> Vec<Figure> {
    let Context { site, plan } = *context;
    let what =
        "a first login that runs `true`, against docker create and start of the same until sshd answers";
    let mut figure = Figure::new("first login", "ms", what, &PEERS);
    let twin = Twin::of(site);
    take_turns(plan.boxes, &mut PEERS.clone(), |_, &mut peer| {
        let took = match peer {
            Peer::Engine => twin.create_and_start(),
            Peer::EngineAndLogin => twin.create_and_log_in(site),
            _ => login(site),
        };
        figure.push(peer, milliseconds(took));
        if peer == Peer::Gateway {
            site.devhost.boxgate(&["rm", &fresh(), "--yes", &fresh()]).ok();
        } else {
            twin.remove();
        }
        settle(plan);
    });
    vec![figure.judged(Statistic::Median, &[Goal::AtMostTimes(1.15, Peer::Engine)])]
}

/// On a devhost of its own: the others are not to be measured while spare boxes boot.
pub(super) fn spare_logins(context: &Context<'_>) -> Vec<Figure> {
    let plan = context.plan;
    let what = "a first login that runs `true` and gets a spare box";
    let mut figure = Figure::new("first login, spare", "ms", what, &[Peer::Gateway]);
    let setup = Setup::of(&[Site::USER]).set("provisioner.spare_boxes", "1");
    let devhost = setup.set("box.cpus", &machine::cores().to_string()).start();
    let alice = devhost.login(Site::USER);
    for _ in 0..plan.boxes {
        until("a spare box", ANSWERS_WITHIN, || spare(&devhost));
        sleep(BOOTED);
        let mut ssh = Command::new("ssh");
        ssh.args(alice.words([""; 0])).arg("true");
        let took = try_time(ssh, Stdio::null(), &devhost.directory().join("errors"));
        figure.push(Peer::Gateway, milliseconds(took.unwrap_or_else(|fault| panic!("{fault}"))));
        devhost.boxgate(&["rm", Site::USER, "--yes", Site::USER]).ok();
    }
    vec![figure.judged(Statistic::Median, &[Goal::AtMost(400.0)])]
}

fn spare(devhost: &Devhost) -> Result<(), String> {
    let listed = devhost.boxgate(&["ls", "--json"]).ok().text();
    let boxes: Vec<Value> = serde_json::from_str(&listed).map_err(|fault| fault.to_string())?;
    if boxes.iter().any(|of| of["state"] == "ready") { Ok(()) } else { Err(listed) }
}

pub(super) fn wakes(context: &Context<'_>) -> Vec<Figure> {
    let Context { site, plan } = *context;
    let what = "a login that wakes a stopped box and runs `true`, against docker start until sshd answers";
    let mut figure = Figure::new("wake", "ms", what, &PEERS);
    let mut give_key = site.ssh(CIPHER);
    give_key.args(["-l", &fresh(), Peer::Gateway.name(), "mkdir -m 700 .ssh && cat >.ssh/authorized_keys"]);
    time(site, give_key, File::open(key(site)).unwrap());
    let container = site.devhost.container(&format!("{}.{NAME}", Site::USER));
    take_turns(plan.boxes, &mut PEERS.clone(), |_, &mut peer| {
        docker(["stop", &container]);
        settle(plan);
        let took = match peer {
            Peer::Engine => start(&container),
            Peer::EngineAndLogin => start(&container) + direct_login(site, &container),
            _ => login(site),
        };
        figure.push(peer, milliseconds(took));
    });
    site.devhost.boxgate(&["rm", &fresh(), "--yes", &fresh()]).ok();
    vec![figure.judged(Statistic::Median, &[Goal::AtMostTimes(1.2, Peer::Engine)])]
}

fn fresh() -> String {
    format!("{}+{NAME}", Site::USER)
}

fn login(site: &Site) -> Duration {
    let mut ssh = site.ssh(CIPHER);
    ssh.args(["-l", &fresh(), Peer::Gateway.name(), "true"]);
    time(site, ssh, Stdio::null())
}

/// To a container at its own address, whoever's host key it has.
fn direct_login(site: &Site, container: &str) -> Duration {
    let mut ssh = site.ssh(CIPHER);
    ssh.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o"]);
    ssh.args([&format!("HostName={}", address(container)), Peer::Direct.name(), "true"]);
    time(site, ssh, Stdio::null())
}

/// The public one that may log in.
fn key(site: &Site) -> PathBuf {
    site.devhost.login(Site::USER).key.with_extension("pub")
}

/// Starts a container and waits until its sshd answers.
fn start(container: &str) -> Duration {
    guard::step();
    let watch = Stopwatch::start();
    docker(["start", container]);
    until("an answer of sshd", ANSWERS_WITHIN, || answer(address(container)));
    watch.elapsed()
}

fn address(container: &str) -> Ipv4Addr {
    let found = inspect(container);
    let networks = found["NetworkSettings"]["Networks"].as_object().unwrap();
    networks.values().find_map(|network| network["IPAddress"].as_str()?.parse().ok()).expect("an address")
}

fn answer(address: Ipv4Addr) -> Result<(), String> {
    let said = TcpStream::connect((address, 22)).and_then(|mut stream| {
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        let mut banner = [0; 8];
        stream.read_exact(&mut banner).map(|()| banner)
    });
    match said {
        Ok(banner) if &banner == b"SSH-2.0-" => Ok(()),
        Ok(banner) => Err(format!("{banner:?}")),
        Err(fault) => Err(fault.to_string()),
    }
}

/// A container like a box's, which docker's own client makes.
struct Twin {
    name: String,
    network: String,
    create: Vec<String>,
}

impl Twin {
    fn of(site: &Site) -> Self {
        let original = inspect(&site.devhost.container(Site::USER));
        let name = format!("{}.twin", site.devhost.instance());
        let label = format!("io.boxgate.instance={}", site.devhost.instance());
        docker(["network", "create", "--label", &label, &name]);
        let create = create(&original, &name, &label);
        Self { network: name.clone(), name, create }
    }

    fn create_and_start(&self) -> Duration {
        let watch = Stopwatch::start();
        docker(self.create.iter().map(String::as_str));
        let created = watch.elapsed();
        created + start(&self.name)
    }

    /// The same, and a login to it. That her key is there by then is not counted.
    fn create_and_log_in(&self, site: &Site) -> Duration {
        let watch = Stopwatch::start();
        docker(self.create.iter().map(String::as_str));
        let created = watch.elapsed();
        self.give_home(site);
        let started = start(&self.name);
        created + started + direct_login(site, &self.name)
    }

    /// A home with her key, owned by the number that the box gives its user.
    fn give_home(&self, site: &Site) {
        let home = site.directory().join("home").join(Site::USER);
        let ssh = home.join(".ssh");
        fs::create_dir_all(&ssh).unwrap();
        fs::copy(key(site), ssh.join("authorized_keys")).unwrap();
        for directory in [&home, &ssh] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
        }
        let uid = site.run("id -u");
        let tar = Run::new("tar").args([
            "--create",
            "--numeric-owner",
            "--owner",
            &uid,
            "--group",
            &uid,
            "--directory",
        ]);
        let tar = tar.arg(home.parent().unwrap()).arg(Site::USER).ok();
        Run::new(docker::program()).args(["cp", "-", &format!("{}:/home", self.name)]).input(tar.stdout).ok();
    }

    fn remove(&self) {
        docker(["rm", "--force", "--volumes", &self.name]);
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        docker(["network", "rm", &self.network]);
    }
}

/// `docker create` with what matters of another container.
fn create(original: &Value, name: &str, label: &str) -> Vec<String> {
    let (host, config) = (&original["HostConfig"], &original["Config"]);
    let mut words: Vec<String> =
        ["create", "--tty", "--name", name, "--network", name, "--label", label].map(str::to_owned).into();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    for (option, key) in [
        ("--cap-add", "CapAdd"),
        ("--cap-drop", "CapDrop"),
        ("--security-opt", "SecurityOpt"),
        ("--device-cgroup-rule", "DeviceCgroupRules"),
    ] {
        for value in strings(&host[key]) {
            add(option, value);
        }
    }
    for value in strings(&config["Env"]) {
        add("--env", value);
    }
    add("--runtime", host["Runtime"].as_str().unwrap().to_owned());
    add("--cgroupns", host["CgroupnsMode"].as_str().unwrap().to_owned());
    add("--memory", host["Memory"].to_string());
    add("--memory-swap", host["MemorySwap"].to_string());
    add("--pids-limit", host["PidsLimit"].to_string());
    add("--sysctl", "net.ipv4.ip_forward=1".to_owned());
    add("--stop-signal", config["StopSignal"].as_str().unwrap().to_owned());
    // Volumes of its own, made with it and removed with it.
    add("--volume", "/home".to_owned());
    add("--volume", "/var/lib/docker".to_owned());
    for mount in original["Mounts"].as_array().unwrap().iter().filter(|mount| mount["Type"] == "bind") {
        let path = |key: &str| mount[key].as_str().unwrap().to_owned();
        add("--volume", format!("{}:{}:ro", path("Source"), path("Destination")));
    }
    for entry in strings(&config["Entrypoint"]) {
        add("--entrypoint", entry);
    }
    words.push(config["Image"].as_str().unwrap().to_owned());
    words.extend(strings(&config["Cmd"]));
    words
}
