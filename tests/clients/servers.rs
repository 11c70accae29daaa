//! The two servers that clients are to find alike: the gateway, and the sshd of alice's box at the box's own
//! address, which knows alice's key from an `authorized_keys` file as any sshd does.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use boxgate_tests::devhost::Shared;
use boxgate_tests::docker::{docker, inspect};
use boxgate_tests::local::random_bytes;
use boxgate_tests::{Devhost, Login, Run, Running, until};

/// Where the box's web server listens, inside it.
pub(crate) const WEB_PORT: u16 = 8200;
const LIMIT: Duration = Duration::from_secs(15);

/// One of the two, and what its cases need.
#[derive(Debug)]
pub(crate) struct Server {
    pub login: Login,
    /// A key that nobody knows.
    pub wrong_key: PathBuf,
    /// What the box's web server serves as `/body`.
    pub web_body: PathBuf,
    /// For files of these cases alone, here.
    pub directory: PathBuf,
    /// A name for files in the box that no other family or server uses.
    pub place: String,
    /// The socket of an agent that holds alice's key.
    pub agent: PathBuf,
}

/// Both, in the hands of one family of clients.
#[derive(Debug)]
pub(crate) struct Servers {
    _devhost: Shared,
    _agent: Running,
    pub both: [Server; 2],
}

impl Servers {
    #[track_caller]
    pub(crate) fn of(family: &str) -> Self {
        let devhost = Devhost::shared();
        let direct = direct_login(&devhost);
        let directory = devhost.directory().join(family);
        fs::create_dir(&directory).unwrap();
        let alice = devhost.login("alice");
        let socket = directory.join("agent");
        let agent = Run::new("ssh-agent").arg("-D").arg("-a").arg(&socket).start();
        until("the agent", LIMIT, || {
            let add = Run::new("ssh-add").arg("-q").arg(&alice.key).env("SSH_AUTH_SOCK", &socket).finish();
            if add.succeeded() { Ok(()) } else { Err(add.to_string()) }
        });
        let server = |name: &'static str, login: Login| {
            let own = directory.join(name);
            fs::create_dir(&own).unwrap();
            Server {
                login,
                wrong_key: devhost.login_with_key_of("alice", "stranger").key,
                web_body: devhost.directory().join("web_body"),
                directory: own,
                place: format!("{family}-{name}"),
                agent: socket.clone(),
            }
        };
        let both = [server("gateway", alice), server("sshd", direct)];
        Self { both, _agent: agent, _devhost: devhost }
    }
}

/// Standard error without what a client says there before the command does: of host keys that are not checked, and
/// the gateway's warning that boxes here are not isolated, which it sends as a banner before the login succeeds.
pub(crate) fn without_banner(stderr: &[u8]) -> Vec<u8> {
    let is_banner = |line: &[u8]| {
        [
            &b"boxgate: warning: "[..],
            b"dbclient: Caution",
            b"-- Pre-authentication banner",
            b"-- End of banner",
            b"| boxgate: ",
        ]
        .iter()
        .any(|begin| line.starts_with(begin))
    };
    let mut rest = stderr;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        if !is_banner(&rest[..end]) && rest[..end].iter().any(|byte| !b"\r".contains(byte)) {
            break;
        }
        rest = &rest[end + 1..];
    }
    rest.to_vec()
}

/// Alice at her box's own sshd; prepares the box the first time.
fn direct_login(devhost: &Devhost) -> Login {
    static PREPARED: OnceLock<Login> = OnceLock::new();
    PREPARED.get_or_init(|| prepare(devhost)).clone()
}

fn prepare(devhost: &Devhost) -> Login {
    let (alice, container) = (devhost.login("alice"), devhost.container("alice"));
    let public_key = fs::read(alice.key.with_extension("pub")).unwrap();
    alice.ssh("umask 077; mkdir -p .ssh; cat >>.ssh/authorized_keys").input(public_key).ok();

    let body = random_bytes(3_000_000);
    fs::write(devhost.directory().join("web_body"), &body).unwrap();
    alice.ssh("mkdir www && cat >www/body").input(body).ok();
    let port = WEB_PORT.to_string();
    let serve = ["python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", "www", &port];
    let exec = ["exec", "--detach", "--user", "alice", "--workdir", "/home/alice", &container];
    docker(exec.into_iter().chain(serve));
    let fetch = format!(
        "curl -sS --retry 50 --retry-connrefused --retry-delay 1 http://127.0.0.1:{port}/body | wc -c"
    );
    alice.ssh(&fetch).ok().stdout_is("3000000\n");

    let networks = inspect(&container)["NetworkSettings"]["Networks"].take();
    let host =
        networks.as_object().unwrap().values().next().unwrap()["IPAddress"].as_str().unwrap().to_owned();
    let host_key = docker(["exec", &container, "cat", "/etc/boxgate/ssh_host_ed25519_key.pub"]);
    let known_hosts = devhost.directory().join("box_known_hosts");
    fs::write(&known_hosts, format!("{host} {host_key}\n")).unwrap();
    let direct = Login { host, known_hosts, port: 22, ..alice };
    direct.ssh("true").ok();
    direct
}
