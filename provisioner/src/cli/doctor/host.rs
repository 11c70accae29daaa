//! What the host says of itself: `/proc`, its disks, its clock, the files that are Boxgate's.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxgate_config::Config;
use nix::sys::statvfs::statvfs;
use nix::unistd::User;
use tokio::process::Command;
use tokio::time::timeout;

/// For programs that answer at once unless what they ask is stuck.
const ANSWER: Duration = Duration::from_secs(5);

/// Settings of the kernel by their names; those that it does not have are missing.
pub(super) type Sysctls = BTreeMap<&'static str, u64>;

/// Those that the checks look at.
const SYSCTLS: [&str; 7] = [
    "fs.inotify.max_user_instances",
    "fs.inotify.max_user_watches",
    "kernel.keys.maxkeys",
    "kernel.keys.maxbytes",
    "kernel.pid_max",
    "net.ipv4.ip_forward",
    "user.max_user_namespaces",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    Synchronised,
    NotSynchronised,
    Unknown,
}

/// The file system that holds a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disk {
    /// The directory.
    pub(super) path: PathBuf,
    pub(super) size: u64,
    /// Bytes that are free for others than root.
    pub(super) free: u64,
    pub(super) inodes: u64,
    pub(super) inodes_free: u64,
}

/// A file or directory whose permissions matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileFact {
    pub(super) path: PathBuf,
    pub(super) rule: Rule,
    /// The user that may own it beside root.
    pub(super) owner: Option<u32>,
    /// Mode and owner, when it is there.
    pub(super) found: Option<(u32, u32)>,
}

/// What its permissions must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Others may read it.
    Unwritable,
    /// Nobody else may look into it.
    Private,
}

pub(super) fn kernel_release() -> std::io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned())
}

pub(super) fn sysctls() -> Sysctls {
    SYSCTLS.iter().filter_map(|name| Some((*name, sysctl(name)?))).collect()
}

fn sysctl(name: &str) -> Option<u64> {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Asks the service manager, else the kernel, by whatever program is here to ask it.
pub(super) async fn clock() -> Clock {
    if let Some(said) = answer("timedatectl", &["show", "--property=NTPSynchronized", "--value"]).await {
        match said.trim() {
            "yes" => return Clock::Synchronised,
            "no" => return Clock::NotSynchronised,
            _ => {}
        }
    }
    match answer("adjtimex", &["--print"]).await {
        Some(said) => synchronised(&said),
        None => answer("busybox", &["adjtimex"]).await.map_or(Clock::Unknown, |said| synchronised(&said)),
    }
}

/// Reads `status: 64`, as adjtimex(8) prints it: bit 6 says that the clock is not synchronised (adjtimex(2),
/// `STA_UNSYNC`).
fn synchronised(said: &str) -> Clock {
    const UNSYNC: u32 = 0x40;
    let status = said.lines().find_map(|line| {
        let value = line.trim().strip_prefix("status:")?;
        value.split_whitespace().next()?.parse::<u32>().ok()
    });
    match status {
        Some(status) if status & UNSYNC == 0 => Clock::Synchronised,
        Some(_) => Clock::NotSynchronised,
        None => Clock::Unknown,
    }
}

/// What a program prints, if it is here and succeeds.
pub(super) async fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let asked = Command::new(program).args(arguments).kill_on_drop(true).output();
    let output = timeout(ANSWER, asked).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Those that are there, each file system once.
pub(super) fn disks(paths: &[PathBuf]) -> Vec<Disk> {
    let mut seen = Vec::new();
    let mut disks = Vec::new();
    for path in paths {
        let Ok(device) = fs::metadata(path).map(|found| found.dev()) else { continue };
        if let (false, Ok(found)) = (seen.contains(&device), statvfs(path)) {
            seen.push(device);
            let unit = found.fragment_size();
            disks.push(Disk {
                path: path.clone(),
                size: found.blocks() * unit,
                free: found.blocks_available() * unit,
                inodes: found.files(),
                inodes_free: found.files_available(),
            });
        }
    }
    disks
}

pub(super) fn files(config: &Config, config_file: &Path) -> Vec<FileFact> {
    let gateway = uid(&config.provisioner.gateway_user);
    let (gateways, boxes) = (&config.gateway.state_dir, config.provisioner.state_dir.join("boxes"));
    [
        (config_file.to_owned(), Rule::Unwritable, None),
        (config.gateway.authorized_keys_dir.clone(), Rule::Unwritable, gateway),
        (gateways.clone(), Rule::Private, gateway),
        (boxes, Rule::Private, None),
        (config.provisioner.socket.clone(), Rule::Private, gateway),
    ]
    .map(|(path, rule, owner)| {
        let found = fs::metadata(&path).ok().map(|found| (found.mode() & 0o7777, found.uid()));
        FileFact { path, rule, owner, found }
    })
    .into()
}

/// Of a user that is named or numbered.
pub(super) fn uid(user: &str) -> Option<u32> {
    let named = User::from_name(user).ok().flatten().map(|user| user.uid.as_raw());
    named.or_else(|| user.parse().ok())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("         mode: 0\n       status: 0\n", Clock::Synchronised)]
    #[case("       status: 64\n", Clock::NotSynchronised)]
    #[case(
        "    -f freq.adjust  0 (65536 = 1ppm)\n    status:       8257 (PLL | UNSYNC | NANO)\n",
        Clock::NotSynchronised
    )]
    #[case("       status: 8193 (PLL)\n", Clock::Synchronised)]
    #[case("no such thing", Clock::Unknown)]
    fn what_the_kernel_says_of_its_clock(#[case] said: &str, #[case] expected: Clock) {
        assert_eq!(synchronised(said), expected);
    }

    #[test]
    fn this_host_can_be_read() {
        assert!(kernel_release().unwrap().contains('.'));
        assert!(sysctls()["kernel.pid_max"] > 1);
        let disks = disks(&["/".into(), "/".into(), "/no/such/directory".into()]);
        assert!(disks.len() == 1 && disks[0].size >= disks[0].free, "{disks:?}");
        assert_eq!(uid("root"), Some(0));
        assert_eq!(uid("4711"), Some(4711));
        assert_eq!(uid("no-such-user-here"), None);
    }

    #[tokio::test]
    async fn programs_that_are_not_here_say_nothing() {
        assert_eq!(answer("no-such-program-here", &[]).await, None);
        assert_eq!(answer("false", &[]).await, None);
        assert_eq!(answer("echo", &["yes"]).await.as_deref(), Some("yes\n"));
    }
}
