//! What a story starts from: a configuration, users' keys and the programs, running in a place of their own.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{env, fs, panic, thread};

use nix::unistd::User;

use crate::docker::Objects;
use crate::place::Place;
use crate::program::{Mark, Program};
use crate::run::Run;
use crate::ssh::Login;

const GATEWAY: &str = "boxgate-gateway";
const PROVISIONER: &str = "boxgate-provisioner";
/// The operator's.
const BOXGATE: &str = "boxgate";

/// A devhost to be: who may log in, and what differs from the tests' usual configuration.
#[derive(Debug)]
pub struct Setup {
    place: Place,
    users: Vec<String>,
    /// Settings by their dotted names, as TOML values.
    settings: BTreeMap<String, String>,
}

impl Setup {
    #[track_caller]
    pub fn of(users: &[&str]) -> Self {
        let place = Place::take();
        let directory = place.directory();
        let path = |name: &str| quoted(&directory.join(name));
        let image = env::var("BOXGATE_IMAGE").unwrap_or_else(|_| "boxgate/box:latest".to_owned());
        let settings = [
            // The port is chosen by the kernel at the first start, and kept from then on.
            ("gateway.listen", "[\"127.0.0.1:0\"]".to_owned()),
            ("gateway.state_dir", path("gateway")),
            ("gateway.authorized_keys_dir", path("authorized_keys.d")),
            ("provisioner.instance", format!("{:?}", place.instance())),
            ("provisioner.socket", path("run/provisioner.sock")),
            ("provisioner.gateway_user", format!("{:?}", gateway_user().name)),
            ("provisioner.state_dir", path("provisioner")),
            ("provisioner.network_pool", format!("{:?}", place.network_pool())),
            ("box.image", format!("{image:?}")),
            ("box.runtime", "\"runc\"".to_owned()),
            ("box.i_understand_boxes_are_root_on_this_host", (users.len() > 1).to_string()),
            ("box.memory", "\"1GiB\"".to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).into();
        Self { place, users: users.iter().map(|&user| user.to_owned()).collect(), settings }
    }

    /// Overrides a setting, for example `set("gateway.login_grace_time", "\"2s\"")`.
    pub fn set(mut self, setting: &str, toml: &str) -> Self {
        self.settings.insert(setting.to_owned(), toml.to_owned());
        self
    }

    /// See [`Place::instance`].
    pub fn instance(&self) -> String {
        self.place.instance()
    }

    /// Writes the configuration and the keys, and starts both programs.
    #[track_caller]
    pub fn start(self) -> Devhost {
        let devhost = self.start_without_provisioner();
        devhost.start_provisioner();
        devhost
    }

    /// The same with the gateway alone.
    #[track_caller]
    pub fn start_without_provisioner(self) -> Devhost {
        let directory = self.place.directory();
        let user = gateway_user();
        make_directory(&directory.join("keys"), 0o700);
        make_directory(&directory.join("run"), 0o711);
        make_directory(&directory.join("bin"), 0o711);
        make_directory(&directory.join("authorized_keys.d"), 0o755);
        make_directory(&directory.join("gateway"), 0o700);
        chown(directory.join("gateway"), Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        for name in self.users.iter().map(String::as_str).chain(["stranger"]) {
            make_key(&directory.join("keys").join(name));
        }
        for name in [GATEWAY, PROVISIONER, BOXGATE] {
            provide(&programs().join(name), &directory.join("bin").join(name));
        }
        let mut devhost = Devhost {
            gateway: Program::new("gateway", gateway_command(&directory, "boxgate.toml", &user), &directory),
            provisioner: Program::new(
                "provisioner",
                command(&directory, PROVISIONER, "boxgate.toml"),
                &directory,
            ),
            settings: self.settings,
            users: self.users,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            directory,
            place: self.place,
        };
        devhost.write_config();
        devhost.address = devhost.start_gateway();
        devhost.settings.insert("gateway.listen".to_owned(), format!("[\"{}\"]", devhost.address));
        devhost.write_config();
        devhost.write_known_hosts();
        devhost
    }
}

/// A running installation. Dropping it removes everything that is its, and shows its logs if the story failed.
#[derive(Debug)]
pub struct Devhost {
    pub gateway: Program,
    pub provisioner: Program,
    settings: BTreeMap<String, String>,
    users: Vec<String>,
    address: SocketAddr,
    directory: PathBuf,
    // The last field: the programs end before their place is cleared.
    place: Place,
}

impl Devhost {
    /// One with these users and the usual configuration.
    #[track_caller]
    pub fn start(users: &[&str]) -> Self {
        Setup::of(users).start()
    }

    /// The one that all stories share which break nothing: alice, whose box is there, and bob.
    #[track_caller]
    pub fn shared() -> Shared {
        static SHARED: OnceLock<Result<Devhost, String>> = OnceLock::new();
        let made = SHARED.get_or_init(|| {
            let make = || {
                let devhost = Devhost::start(&["alice", "bob"]);
                devhost.login("alice").ssh("true").ok();
                devhost
            };
            panic::catch_unwind(make)
                .map_err(|fault| fault.downcast_ref::<String>().cloned().unwrap_or_default())
        });
        match made {
            Ok(devhost) => Shared { devhost, since: devhost.marks() },
            Err(fault) => panic!("the devhost that stories share could not be made: {fault}"),
        }
    }

    /// One of the users, with her own key.
    pub fn login(&self, user: &str) -> Login {
        self.login_with_key_of(user, user)
    }

    /// Someone who asks for `login` with a key of another user, or of `stranger`, whom nobody knows.
    pub fn login_with_key_of(&self, login: &str, owner: &str) -> Login {
        Login {
            name: login.into(),
            host: self.address.ip().to_string(),
            key: self.directory.join("keys").join(owner),
            known_hosts: self.directory.join("known_hosts"),
            port: self.address.port(),
        }
    }

    /// Appends a line to a user's file of authorized keys.
    #[track_caller]
    pub fn authorize(&self, user: &str, line: &str) {
        let file = self.directory.join("authorized_keys.d").join(user);
        let mut file = fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
        file.write_all(format!("{}\n", line.trim()).as_bytes()).unwrap();
    }

    /// Where the gateway listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn instance(&self) -> String {
        self.place.instance()
    }

    /// See [`Place::network_prefix`].
    pub fn network_prefix(&self) -> String {
        self.place.network_prefix()
    }

    /// The name of the container of a user's box.
    pub fn container(&self, user: &str) -> String {
        format!("{}.{user}", self.instance())
    }

    /// A directory for what a story needs, removed with all else.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn config_file(&self) -> PathBuf {
        self.directory.join("boxgate.toml")
    }

    /// Every Docker object of this installation.
    #[track_caller]
    pub fn objects(&self) -> Objects {
        Objects::of(&self.instance())
    }

    /// Starts the gateway and waits until it listens.
    #[track_caller]
    pub fn start_gateway(&self) -> SocketAddr {
        start_listening(&self.gateway)
    }

    /// Starts one more gateway beside the first: the same boxes, users and keys, another port, and these
    /// settings in place of the first one's. `name` is its own among the place's programs.
    #[track_caller]
    pub fn gateway_beside(&self, name: &'static str, differing: &[(&str, &str)]) -> (Program, SocketAddr) {
        let differing = [("gateway.listen", "[\"127.0.0.1:0\"]")].iter().chain(differing);
        let differing = differing.map(|&(setting, value)| (setting.to_owned(), value.to_owned()));
        let settings = self.settings.clone().into_iter().chain(differing).collect();
        let config = format!("{name}.toml");
        fs::write(self.directory.join(&config), self.config_text(&settings)).unwrap();
        let command = gateway_command(&self.directory, &config, &gateway_user());
        let gateway = Program::new(name, command, &self.directory);
        let address = start_listening(&gateway);
        (gateway, address)
    }

    /// Starts the provisioner and waits until it answers on its socket.
    #[track_caller]
    pub fn start_provisioner(&self) {
        let socket = self.directory.join("run/provisioner.sock");
        self.provisioner.start(|log| match UnixStream::connect(&socket) {
            Ok(_) => Ok(()),
            Err(fault) => Err(format!("{fault}\n{log}")),
        });
    }

    /// The operator's program, about this devhost.
    pub fn boxgate(&self, words: &[&str]) -> Run {
        Run::new(self.directory.join("bin").join(BOXGATE)).arg("--config").arg(self.config_file()).args(words)
    }

    fn marks(&self) -> [Mark; 2] {
        [self.gateway.mark(), self.provisioner.mark()]
    }

    fn show_last_words(&self, [gateway, provisioner]: [Mark; 2]) {
        eprintln!("{}\n{}", self.gateway.last_words(gateway), self.provisioner.last_words(provisioner));
    }

    fn write_config(&self) {
        fs::write(self.config_file(), self.config_text(&self.settings)).unwrap();
    }

    fn config_text(&self, settings: &BTreeMap<String, String>) -> String {
        let mut sections = BTreeMap::<&str, String>::new();
        for (setting, value) in settings {
            let (section, name) = setting.split_once('.').unwrap();
            writeln!(sections.entry(section).or_default(), "{name} = {value}").unwrap();
        }
        let mut text = String::new();
        for (section, lines) in sections {
            write!(text, "[{section}]\n{lines}\n").unwrap();
        }
        for user in &self.users {
            let key = fs::read_to_string(self.directory.join(format!("keys/{user}.pub"))).unwrap();
            write!(text, "[users.{user}]\nkeys = [{:?}]\n\n", key.trim()).unwrap();
        }
        text
    }

    /// The gateway's host keys are known from its own files once and for all: every story fails if the gateway
    /// ever shows another one.
    fn write_known_hosts(&self) {
        let mut lines = String::new();
        for file in fs::read_dir(self.directory.join("gateway")).unwrap() {
            let file = file.unwrap().path();
            let name = file.file_stem().unwrap().to_string_lossy();
            if name.starts_with("ssh_host_") && file.extension().is_some_and(|extension| extension == "pub") {
                let key = fs::read_to_string(&file).unwrap();
                writeln!(lines, "[127.0.0.1]:{} {}", self.address.port(), key.trim()).unwrap();
            }
        }
        fs::write(self.directory.join("known_hosts"), lines).unwrap();
    }
}

impl Drop for Devhost {
    fn drop(&mut self) {
        if thread::panicking() {
            self.show_last_words([Mark::default(); 2]);
        }
    }
}

/// The shared devhost in the hands of one story. It ends with the test program: its keeper sees to that.
#[derive(Debug)]
pub struct Shared {
    devhost: &'static Devhost,
    /// When the story began.
    since: [Mark; 2],
}

impl Deref for Shared {
    type Target = Devhost;

    fn deref(&self) -> &Devhost {
        self.devhost
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if thread::panicking() {
            self.devhost.show_last_words(self.since);
        }
    }
}

/// The directory of the built programs.
#[track_caller]
pub fn programs() -> PathBuf {
    let given = env::var_os("BOXGATE_BIN").map(PathBuf::from);
    // target/debug/deps/e2e-… is this program, or target/release/boxgate-bench.
    let this = env::current_exe().unwrap();
    let beside = this.ancestors().skip(2).take(2).map(|target| target.join("release"));
    let has_all = |directory: &PathBuf| {
        [GATEWAY, PROVISIONER, BOXGATE].iter().all(|name| directory.join(name).exists())
    };
    let found = given.map_or_else(|| beside.collect(), |given| vec![given]).into_iter().find(has_all);
    found.expect(
        "no boxgate-gateway, boxgate-provisioner and boxgate in $BOXGATE_BIN or in target/release: \
         cargo build --release, or ./devhost test, which does all",
    )
}

/// The Unix user of the gateway: its own where there is one, else nobody.
pub fn gateway_user() -> User {
    let find = |name| User::from_name(name).unwrap();
    find("boxgate").or_else(|| find("nobody")).unwrap()
}

/// Starts a gateway and waits until it listens.
#[track_caller]
fn start_listening(gateway: &Program) -> SocketAddr {
    gateway.start(|log| {
        let address = log.split("listening address=").nth(1).and_then(|rest| rest.split_whitespace().next());
        address.and_then(|address| address.parse().ok()).ok_or_else(|| log.to_owned())
    })
}

fn gateway_command(directory: &Path, config: &str, user: &User) -> Vec<String> {
    let ids = [format!("--reuid={}", user.uid), format!("--regid={}", user.gid)];
    let setpriv = ["setpriv".to_owned()].into_iter().chain(ids).chain(["--clear-groups".to_owned()]);
    setpriv.chain(command(directory, GATEWAY, config)).collect()
}

fn command(directory: &Path, program: &str, config: &str) -> Vec<String> {
    let path = |name: &str| directory.join(name).display().to_string();
    vec![path(&format!("bin/{program}")), "--config".to_owned(), path(config)]
}

/// Makes a program executable for the gateway's user, who may not look into the directory that it was built in.
fn provide(program: &Path, place: &Path) {
    if fs::hard_link(program, place).is_err() {
        fs::copy(program, place).unwrap();
    }
    fs::set_permissions(place, fs::Permissions::from_mode(0o755)).unwrap();
}

fn make_directory(path: &Path, mode: u32) {
    fs::DirBuilder::new().mode(mode).create(path).unwrap();
}

/// Makes an ed25519 key pair, `file` and `file.pub`.
#[track_caller]
pub fn make_key(file: &Path) {
    let comment = file.file_name().unwrap();
    Run::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(file)
        .arg("-C")
        .arg(comment)
        .ok();
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}
