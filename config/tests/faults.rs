//! What a person reads when the configuration is wrong, and that every fault is there at once.

use std::path::Path;

use boxgate_config::{Config, EXAMPLE, Egress, LoginName, Runtime, Startups};

fn faults(text: &str) -> String {
    match Config::parse(Path::new("boxgate.toml"), text) {
        Ok(config) => panic!("expected faults, got {config:?}"),
        Err(faults) => faults.to_string(),
    }
}

#[test]
fn three_faults_are_reported_at_once() {
    insta::assert_snapshot!(faults(
        r#"
[gateway]
listen = ["localhost:22"]

[box]
memory = "4 gigs"

[users.alice]
keys = ["not a key"]
"#
    ));
}

#[test]
fn unknown_settings_and_wrong_types_stand_beside_other_faults() {
    insta::assert_snapshot!(faults(
        r#"
colour = "blue"

[gateway]
login_grace = "60s"
max_startups = "many"

[box]
pids = 100
cpus = "two"
runtime = "kata"

[users.Root]
keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBdNx4zHfOgGmj6MKNg9Vh8vgTqB6fjOSC5M2vTgVTzd a", 7]

[users.bob]
keys = []
"#
    ));
}

#[test]
fn numbers_out_of_range_are_named() {
    insta::assert_snapshot!(faults(
        r#"
[gateway]
listen = []
state_dir = "state"
login_grace_time = "10ms"
max_auth_tries = 0
drain = "0s"

[provisioner]
instance = "My Host"
network_pool = "8.8.8.0/24"
firewall = "maybe"

[box]
memory = "1KiB"
cpus = 0
egress = ["203.0.113.0/24", "example.org:443"]
"#
    ));
}

#[test]
fn broken_syntax_is_named_with_its_line() {
    insta::assert_snapshot!(faults("[gateway]\nlisten = [\n"));
}

#[test]
fn keys_that_may_not_log_in_are_refused_with_the_reason() {
    insta::assert_snapshot!(faults(
        r#"
[users.alice]
keys = [
    "-----BEGIN OPENSSH PRIVATE KEY-----",
    "restrict,permitopen=\"localhost:80\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBdNx4zHfOgGmj6MKNg9Vh8vgTqB6fjOSC5M2vTgVTzd a",
    "ssh-ed25519 AAAAtruncated",
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDblDTN2us63Fd6Ey7hPELUS5vq2KV0wMYe+EOh/irPtKke/BxpKyAxFYlp5wYCeAQ94OfqtZmeQGytwPxEskyQhmomMDoqzkCYjLbIt4kjyEDM269hMsHCajq2HcfsIe/WhBYGx7ub7Wsl2kSUcFirl48R7YQAma7Mkd42h+FV/Q== short",
]
"#
    ));
}

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBdNx4zHfOgGmj6MKNg9Vh8vgTqB6fjOSC5M2vTgVTzd a";

#[test]
fn key_options_that_cannot_be_honoured_are_refused_with_the_reason() {
    let options = [
        r#"environment=\"A=b\""#,
        r#"from=\"laptop.example.org\""#,
        r#"expiry-time=\"tomorrow\""#,
        "no-beer",
        r#"restrict,command=\"date"#,
    ];
    let keys: Vec<_> = options.iter().map(|options| format!("    \"{options} {KEY}\",\n")).collect();
    insta::assert_snapshot!(faults(&format!("[users.alice]\nkeys = [\n{}]\n", keys.concat())));
}

#[test]
fn faults_of_authentication_settings() {
    insta::assert_snapshot!(faults(&format!(
        r#"
[gateway]
max_startups = "10:200:5"
host_certificates = ["cert.pub"]
user_ca_keys = ["restrict {KEY}", "ssh-ed25519-cert-v01@openssh.com AAAA"]
authorized_keys_dir = "keys"

[gateway.penalties]
failed = "often"
exempt = ["example.org"]
max_sources = 0

[users.alice]
github = "../alice"
key_urls = ["http://example.org/alice.keys"]
"#
    )));
}

#[test]
fn keys_with_options_and_elsewhere() {
    let text = format!(
        "[gateway]\nmax_startups = \"10:30:60\"\n[users.alice]\ngithub = \"alice\"\n\
         [users.bob]\nkeys = [\"restrict,pty   {KEY}\"]\n"
    );
    let config = Config::parse(Path::new("boxgate.toml"), &text).unwrap();
    let user = |name| &config.users[&LoginName::parse(name).unwrap()];
    assert_eq!(user("alice").key_urls[0].to_string(), "https://github.com/alice.keys");
    assert!(!user("bob").keys[0].options().permissions.is_all());
    assert_eq!(config.gateway.max_startups, Startups { start: 10, rate: 30, full: 60 });
}

#[test]
fn the_example_is_valid_and_shows_the_defaults() {
    let example = Config::parse(Path::new("example.toml"), EXAMPLE).unwrap();
    let defaults = Config::parse(Path::new("empty.toml"), "").unwrap();
    assert_eq!(format!("{:?}", example.gateway), format!("{:?}", defaults.gateway));
    assert_eq!(format!("{:?}", example.provisioner), format!("{:?}", defaults.provisioner));
    assert_eq!(format!("{:?}", example.devbox), format!("{:?}", defaults.devbox));
    assert_eq!(example.users.len(), 1);
}

#[test]
fn runc_carries_the_operators_word() {
    let text = "[box]\nruntime = \"runc\"\ni_understand_boxes_are_root_on_this_host = true\n";
    let config = Config::parse(Path::new("boxgate.toml"), text).unwrap();
    assert_eq!(config.devbox.runtime, Runtime::Runc { boxes_are_root_on_this_host: true });
    assert!(!config.devbox.runtime.isolates());
}

#[test]
fn a_missing_file_is_said_to_be_missing() {
    let fault = Config::load(Path::new("/nonexistent/boxgate.toml")).unwrap_err().to_string();
    assert!(fault.starts_with("/nonexistent/boxgate.toml: cannot read the configuration"), "{fault}");
}

#[test]
fn boxes_may_connect_to_anywhere_unless_listed() {
    let egress = |text| Config::parse(Path::new("boxgate.toml"), text).unwrap().devbox.egress;
    assert_eq!(egress(""), Egress::Open);
    assert_eq!(egress("[box]\negress = []\n"), Egress::Only(Vec::new()));
    let listed = "[box]\negress = [\"203.0.113.0/24\", \"198.51.100.7:443\"]\n";
    let expected = ["203.0.113.0/24", "198.51.100.7:443"].map(|item| item.parse().unwrap());
    assert_eq!(egress(listed), Egress::Only(expected.to_vec()));
}

#[test]
fn faults_of_the_lobbys_settings() {
    insta::assert_snapshot!(faults(
        r#"
[gateway]
public_name = "devhost example"

[provisioner]
socket = "/run/boxgate/one.sock"
lobby_socket = "/run/boxgate/one.sock"
"#
    ));
}

#[test]
fn the_lobbys_socket_is_beside_the_other() {
    let config =
        |text: &str| Config::parse(Path::new("boxgate.toml"), text).unwrap().provisioner.lobby_socket;
    assert_eq!(config(""), Path::new("/run/boxgate/lobby.sock"));
    assert_eq!(config("provisioner.socket = \"/srv/p.sock\""), Path::new("/srv/lobby.sock"));
}

#[test]
fn faults_of_comfort_settings() {
    insta::assert_snapshot!(faults(
        r#"
[box]
timezone = "Europe/Berln"
locale = "german"
dotfiles = "git@example.org:alice/dotfiles"
persist = "yes"
registry_mirrors = ["https://mirror.example.org", "https://mirror.example.org/v2"]

[users.alice.box]
timezone = "UTC"
dotfiles = "none"
locale = "de_DE"
"#
    ));
}
