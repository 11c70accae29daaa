//! The directory as a box finds it: whole, private where it must be, and the same after another run.

use std::os::unix::fs::PermissionsExt;

use boxgate_config::DevBoxId;
use rstest::rstest;
use tempfile::TempDir;

use super::*;
use crate::testing;

const CA: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBdNx4zHfOgGmj6MKNg9Vh8vgTqB6fjOSC5M2vTgVTzd ca";
const OTHER_CA: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDnlXa2RHsQyuD3yUUSHGS+DEQNwHZMH7QvqkqRqQKIy";

fn blueprint(state: &TempDir, id: &str) -> Blueprint {
    let mut config = testing::config();
    config.provisioner.state_dir = state.path().join("state");
    Blueprint::new(&config, DevBoxId::parse(id).unwrap())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn files_and_their_modes() {
    let state = TempDir::new().unwrap();
    let devbox = blueprint(&state, "alice+web");
    let host_key = write(&devbox, Some(&UserCa::parse(CA).unwrap())).unwrap();

    assert!(devbox.files.ends_with("boxes/alice.web"));
    assert!(host_key.starts_with("ssh-ed25519 ") && host_key.ends_with(" boxgate alice+web"), "{host_key}");
    assert_eq!(fs::read_to_string(devbox.files.join("ssh_host_ed25519_key.pub")).unwrap().trim(), host_key);
    assert_eq!(
        fs::read_to_string(devbox.files.join("box.json")).unwrap(),
        r#"{"user":"alice","uid":1000,"shell":"/bin/bash","hostname":"web","cluster":"on-demand"}"#
    );
    assert_eq!(mode(&devbox.files.join(HOST_KEY)), 0o600);
    assert_eq!(mode(&devbox.files.join(USER_CA)), 0o644);
    assert_eq!(mode(&devbox.files), 0o755);
    assert_eq!(mode(devbox.files.parent().unwrap()), 0o700);
    assert_eq!(mode(&state.path().join("state")), 0o700);
}

#[test]
fn there_is_a_file_for_each_setting_that_is_set() {
    let state = TempDir::new().unwrap();
    let text = "[box]\ntimezone = \"Europe/Berlin\"\nlocale = \"de_DE.UTF-8\"\npersist = true\n\
                dotfiles = \"file:///usr/share/dotfiles\"\n\
                registry_mirrors = [\"https://one.example.org\", \"http://10.0.0.7:5000\"]\n";
    let mut config = boxgate_config::Config::parse(Path::new("test.toml"), text).unwrap();
    config.provisioner.state_dir = state.path().join("state");
    let set = Blueprint::new(&config, DevBoxId::parse("alice").unwrap());
    let ca = UserCa::parse(CA).unwrap();
    let read = |name: &str| fs::read_to_string(set.files.join(name)).ok();
    write(&set, Some(&ca)).unwrap();
    let expected = [
        ("timezone", "Europe/Berlin\n"),
        ("locale", "de_DE.UTF-8\n"),
        ("persist", "true\n"),
        ("dotfiles", "file:///usr/share/dotfiles\n"),
        ("registry_mirrors", "https://one.example.org\nhttp://10.0.0.7:5000\n"),
    ];
    for (name, content) in expected {
        assert_eq!(read(name).as_deref(), Some(content), "{name}");
    }

    // What is set no more is gone.
    write(&blueprint(&state, "alice"), Some(&ca)).unwrap();
    assert_eq!(expected.map(|(name, _)| read(name)), [const { None }; 5]);

    let spare = Blueprint::new(&config, DevBoxId::parse("box+s1").unwrap());
    write(&spare, Some(&ca)).unwrap();
    assert!(spare.files.join(DESCRIPTION).exists() && !spare.files.join("timezone").exists());
}

#[test]
fn a_second_run_changes_nothing() {
    let state = TempDir::new().unwrap();
    let devbox = blueprint(&state, "alice");
    let ca = UserCa::parse(CA).unwrap();
    let files = || {
        let mut files: Vec<_> = fs::read_dir(&devbox.files)
            .unwrap()
            .map(|file| file.unwrap())
            .map(|file| {
                (
                    file.file_name(),
                    fs::read(file.path()).unwrap(),
                    file.metadata().unwrap().modified().unwrap(),
                )
            })
            .collect();
        files.sort();
        files
    };
    let first = (write(&devbox, Some(&ca)).unwrap(), files());
    assert_eq!((write(&devbox, Some(&ca)).unwrap(), files()), first);
}

#[test]
fn a_new_ca_replaces_the_old_one_and_keeps_the_host_key() {
    let state = TempDir::new().unwrap();
    let devbox = blueprint(&state, "alice");
    let host_key = write(&devbox, Some(&UserCa::parse(CA).unwrap())).unwrap();
    assert_eq!(write(&devbox, Some(&UserCa::parse(OTHER_CA).unwrap())).unwrap(), host_key);
    let ca = fs::read_to_string(devbox.files.join(USER_CA)).unwrap();
    assert_eq!(ca, format!("{OTHER_CA} boxgate user CA\n"));
}

#[test]
fn a_crash_in_the_middle_is_completed() {
    let state = TempDir::new().unwrap();
    let devbox = blueprint(&state, "alice");
    let ca = UserCa::parse(CA).unwrap();
    let host_key = write(&devbox, Some(&ca)).unwrap();
    fs::remove_file(devbox.files.join("ssh_host_ed25519_key.pub")).unwrap();
    fs::remove_file(devbox.files.join(DESCRIPTION)).unwrap();
    fs::write(devbox.files.join(".box.json.new"), "{\"us").unwrap();
    assert_eq!(write(&devbox, Some(&ca)).unwrap(), host_key);
    assert!(devbox.files.join(DESCRIPTION).exists());
    assert!(!devbox.files.join(".box.json.new").exists());
}

#[test]
fn a_damaged_host_key_is_never_replaced() {
    let state = TempDir::new().unwrap();
    let devbox = blueprint(&state, "alice");
    let ca = UserCa::parse(CA).unwrap();
    write(&devbox, Some(&ca)).unwrap();
    fs::write(devbox.files.join(HOST_KEY), "garbage").unwrap();
    let fault = write(&devbox, Some(&ca)).unwrap_err();
    assert!(matches!(fault, Error::HostKey { .. }), "{fault}");
    assert_eq!(fs::read_to_string(devbox.files.join(HOST_KEY)).unwrap(), "garbage");
}

#[rstest]
#[case("")]
#[case("not a key")]
#[case(
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBdNx4zHfOgGmj6MKNg9Vh8vgTqB6fjOSC5M2vTgVTzd a\nssh-ed25519 AAAA b"
)]
fn only_one_key_is_a_ca(#[case] line: &str) {
    match UserCa::parse(line) {
        Err(_) => {}
        Ok(ca) => panic!("{ca:?}"),
    }
}
