//! What is measured: one box, asked in every way there is. All of it is in the place of a [`Devhost`], which
//! removes it.

use std::fmt::{self, Write};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use boxgate_tests::devhost::make_key;
use boxgate_tests::local::free_port;
use boxgate_tests::program::Program;
use boxgate_tests::{Devhost, Run, Running, Setup, docker, until};

use crate::client::Master;
use crate::machine;
use crate::plan::Plan;

/// A way to the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The box's sshd at its own address.
    Direct,
    Gateway,
    /// A gateway that keeps no spare connections to boxes.
    Cold,
    /// `ssh -J` through an sshd on this host.
    Jump,
    /// `socat`, which copies bytes to the box and back: no relay that also speaks SSH can do more on this machine.
    Socat,
    /// No way at all: the engine alone, until the box's sshd answers.
    Engine,
    /// The engine, and then a login at the box's own address: what remains of a first login without a gateway.
    EngineAndLogin,
}

impl Peer {
    /// Those that most figures compare.
    pub(crate) const USUAL: [Self; 3] = [Self::Direct, Self::Gateway, Self::Jump];
    /// Those of figures for which a third process on the way is most of the cost.
    pub(crate) const WITH_SOCAT: [Self; 4] = [Self::Direct, Self::Gateway, Self::Jump, Self::Socat];

    /// Also what ssh's configuration calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Gateway => "gateway",
            Self::Cold => "gateway-without-spares",
            Self::Jump => "jump",
            Self::Socat => "socat",
            Self::Engine => "engine",
            Self::EngineAndLogin => "engine-and-login",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a comparison is encrypted with, on every hop that the client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cipher {
    Aes128Gcm,
    ChaCha20,
}

impl Cipher {
    pub(crate) const ALL: [Self; 2] = [Self::Aes128Gcm, Self::ChaCha20];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes128-gcm@openssh.com",
            Self::ChaCha20 => "chacha20-poly1305@openssh.com",
        }
    }
}

/// The key exchange and the host keys' algorithm of every connection.
pub(crate) const KEY_EXCHANGE: &str = "curve25519-sha256";
pub(crate) const HOST_KEY: &str = "ssh-ed25519";

/// Has no shell, and needs none to be passed on to the box.
const BASTION_USER: &str = "nobody";

/// One box and the ways to it.
#[derive(Debug)]
pub(crate) struct Site {
    /// Keeps alice logged in: her first login starts services in the box, and her last one's end stops them.
    _anchor: Master,
    _bastion: Running,
    _socat: Running,
    cold: Program,
    pub(crate) devhost: Devhost,
    directory: PathBuf,
}

impl Site {
    pub(crate) const USER: &str = "alice";

    pub(crate) fn start(plan: &Plan) -> Self {
        let setup = Setup::of(&[Site::USER]);
        // Limits are not what is measured: a thousand shells have to fit, and no processor is kept back.
        let memory = (machine::memory_total() / 10 * 7).min(12 << 30) >> 20;
        let setup = setup.set("box.memory", &format!("\"{memory}MiB\""));
        let devhost = setup.set("box.cpus", &machine::cores().to_string()).start();
        let directory = devhost.directory().join("bench");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o711)).unwrap();
        let alice = devhost.login(Site::USER);
        alice.ssh("mkdir -p -m 700 .ssh && cat >.ssh/authorized_keys").input(public_key(&alice.key)).ok();
        let (cold, cold_address) =
            devhost.gateway_beside(Peer::Cold.name(), &[("gateway.spare_connections", "0")]);
        let (bastion, bastion_port) = bastion(&directory, &alice.key);
        let box_address = box_address(&devhost);
        let (socat, socat_port) = socat(&box_address);
        let ports = Ports { cold: cold_address.port(), bastion: bastion_port, socat: socat_port };
        let hosts = Hosts { devhost: &devhost, directory: &directory, ports };
        hosts.write(&box_address);
        let anchor = Master::open_with(&directory, Peer::Direct, Cipher::Aes128Gcm, "anchor");
        let site = Self { _anchor: anchor, _bastion: bastion, _socat: socat, cold, devhost, directory };
        site.make_files(plan);
        site
    }

    fn make_files(&self, plan: &Plan) {
        // Sparse: read from memory, not from a disk.
        self.run(&format!("truncate -s {} sftp-file", plan.sftp_bytes));
    }

    /// Runs a command in the box that is no part of a measurement.
    pub(crate) fn run(&self, command: &str) -> String {
        self.devhost.login(Site::USER).ssh(command).ok().text()
    }

    /// The process that serves at a peer that is a gateway.
    pub(crate) fn gateway_pid(&self, peer: Peer) -> u32 {
        let program = if peer == Peer::Cold { &self.cold } else { &self.devhost.gateway };
        program.worker()
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// `ssh`, to be followed by options and what [`Peer::name`] says.
    pub(crate) fn ssh(&self, cipher: Cipher) -> Command {
        ssh(&self.directory, cipher)
    }
}

/// See [`Site::ssh`].
pub(crate) fn ssh(directory: &Path, cipher: Cipher) -> Command {
    let mut command = Command::new("ssh");
    command.arg("-F").arg(config_file(directory, cipher)).env_remove("SSH_AUTH_SOCK");
    command
}

pub(crate) fn config_file(directory: &Path, cipher: Cipher) -> PathBuf {
    directory.join(cipher.name().split('@').next().unwrap())
}

/// An sshd of this host that passes connections on, and nothing else.
fn bastion(directory: &Path, key: &Path) -> (Running, u16) {
    // sshd insists on it, and on a machine without a running sshd nothing else makes it.
    fs::create_dir_all("/run/sshd").unwrap();
    make_key(&directory.join("bastion_key"));
    fs::write(directory.join("bastion_users"), public_key(key)).unwrap();
    let (port, place) = (free_port(), directory.display());
    let config = directory.join("bastion_config");
    let settings = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {place}/bastion_key\nPidFile {place}/bastion.pid\n\
         AuthorizedKeysFile {place}/bastion_users\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nMaxStartups 1000\nMaxSessions 1000\nAllowUsers {BASTION_USER}\nUseDNS no\n"
    );
    fs::write(&config, settings).unwrap();
    let sshd = Run::new("/usr/sbin/sshd").args(["-D", "-e", "-f"]).arg(&config).start();
    until("the bastion", Duration::from_secs(10), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|fault| fault.to_string())
    });
    (sshd, port)
}

/// A relay that copies in blocks as large as the gateway's.
fn socat(box_address: &str) -> (Running, u16) {
    let port = free_port();
    let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,nodelay");
    let socat = Run::new("socat").args(["-b", "65536", &listen, &format!("TCP:{box_address}:22,nodelay")]);
    let socat = socat.start();
    until("socat", Duration::from_secs(10), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|fault| fault.to_string())
    });
    (socat, port)
}

fn box_address(devhost: &Devhost) -> String {
    let container = docker::inspect(&devhost.container(Site::USER));
    let networks = container["NetworkSettings"]["Networks"].as_object().unwrap();
    let address = networks.values().find_map(|network| network["IPAddress"].as_str());
    address.expect("the box's address").to_owned()
}

fn public_key(key: &Path) -> String {
    fs::read_to_string(key.with_extension("pub")).unwrap()
}

/// What ssh's configuration is made of.
struct Hosts<'a> {
    devhost: &'a Devhost,
    directory: &'a Path,
    ports: Ports,
}

/// On 127.0.0.1.
struct Ports {
    cold: u16,
    bastion: u16,
    socat: u16,
}

impl Hosts<'_> {
    fn write(&self, box_address: &str) {
        let alice = self.devhost.login(Site::USER);
        let box_key = alice.ssh("cat /etc/boxgate/ssh_host_ed25519_key.pub").ok().text();
        let gateway_key = public_key(&self.devhost.directory().join("gateway/ssh_host_ed25519_key"));
        let bastion_key = public_key(&self.directory.join("bastion_key"));
        let known = format!("box {box_key}\ngateway {gateway_key}\nbastion {bastion_key}\n");
        fs::write(self.directory.join("known_hosts"), known).unwrap();
        for cipher in Cipher::ALL {
            fs::write(config_file(self.directory, cipher), self.config(cipher, box_address, &alice.key))
                .unwrap();
        }
    }

    /// `ssh -J` starts a second ssh, which heeds the same file but no option of the first one's.
    fn config(&self, cipher: Cipher, box_address: &str, key: &Path) -> String {
        let gateway = self.devhost.address().port();
        let hosts = [
            (Peer::Direct.name(), box_address, 22, "box", Site::USER),
            (Peer::Gateway.name(), "127.0.0.1", gateway, "gateway", Site::USER),
            (Peer::Cold.name(), "127.0.0.1", self.ports.cold, "gateway", Site::USER),
            (Peer::Jump.name(), box_address, 22, "box", Site::USER),
            (Peer::Socat.name(), "127.0.0.1", self.ports.socat, "box", Site::USER),
            ("bastion", "127.0.0.1", self.ports.bastion, "bastion", BASTION_USER),
        ];
        let mut text = String::new();
        for (host, name, port, key_of, user) in hosts {
            writeln!(
                text,
                "Host {host}\n HostName {name}\n Port {port}\n HostKeyAlias {key_of}\n User {user}"
            )
            .unwrap();
        }
        let directory = self.directory.display();
        write!(
            text,
            "Host {}\n ProxyJump bastion\nHost *\n IgnoreUnknown ObscureKeystrokeTiming\n ObscureKeystrokeTiming no\n \
             KexAlgorithms {KEY_EXCHANGE}\n Ciphers {}\n HostKeyAlgorithms {HOST_KEY}\n IdentityFile {}\n \
             IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile {directory}/known_hosts\n \
             GlobalKnownHostsFile none\n StrictHostKeyChecking yes\n BatchMode yes\n LogLevel ERROR\n \
             Compression no\n ControlPath {directory}/%n.sock\n",
            Peer::Jump.name(),
            cipher.name(),
            key.display(),
        )
        .unwrap();
        text
    }
}
