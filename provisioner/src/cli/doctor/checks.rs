//! The checks: facts → findings. Pure.

mod boxes;
mod docker;
mod files;
mod kernel;
mod pool;
mod protection;
mod storage;
mod sysbox;
mod version;

use super::facts::Facts;
use super::finding::Finding;

type Check = fn(&Facts) -> Vec<Finding>;

/// In the order in which one would mend things.
const CHECKS: [Check; 15] = [
    files::user,
    kernel::release,
    kernel::limits,
    kernel::clock,
    docker::engine,
    docker::cgroup,
    docker::settings,
    sysbox::runtime,
    boxes::image,
    boxes::memory,
    pool::networks,
    protection::protection,
    storage::disks,
    files::permissions,
    boxes::provisioner,
];

pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    CHECKS.iter().flat_map(|check| check(facts)).collect()
}

#[cfg(test)]
mod testing;
