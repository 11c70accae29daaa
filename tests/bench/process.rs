//! What `/proc` says of a process.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

/// Processor time of a process and all of its threads so far, in seconds: that in its own code and that in the
/// kernel on its behalf.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stat = read(pid, "stat");
    // The name, in parentheses, may hold anything. The fields after it are numbered from 3 in proc(5).
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |number: usize| fields[number - 3].parse::<f64>().unwrap();
    (ticks(14) + ticks(15)) / sysconf(SysconfVar::CLK_TCK).unwrap().unwrap() as f64
}

/// The parent of a process.
pub(crate) fn parent(pid: u32) -> u32 {
    status(pid, "PPid").parse().unwrap()
}

/// Memory of a process that is in RAM, in KiB.
pub(crate) fn resident_kib(pid: u32) -> f64 {
    let size = status(pid, "VmRSS");
    size.split_whitespace().next().unwrap().parse().unwrap()
}

/// The number on this host of a process that another process's namespace knows as `inner`: one whose control
/// groups are the container's.
pub(crate) fn in_container(container: &str, inner: u32) -> u32 {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let ours = |pid: u32| {
        fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(container))
    };
    let known_as = |pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let mut numbers = field(&text, "NSpid").unwrap_or_default().split_whitespace().map(str::to_owned);
        numbers.nth(1)
    };
    let mut found = pids.filter(|&pid| known_as(pid) == Some(inner.to_string()) && ours(pid));
    found.next().expect("the process in the box")
}

fn status(pid: u32, name: &str) -> String {
    let text = read(pid, "status");
    field(&text, name).unwrap_or_else(|| panic!("process {pid} has no {name}")).to_owned()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn read(pid: u32, name: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_else(|fault| panic!("process {pid}: {fault}"))
}
