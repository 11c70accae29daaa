//! Room on the disks that hold boxes.

use crate::cli::doctor::facts::Facts;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::host::Disk;
use crate::listing::size;

const GIB: u64 = 1 << 30;
/// Less than this is full before anybody looks again.
const LITTLE: Room = Room { percent: 15, least: 10 * GIB, plenty: 100 * GIB };
/// With less than this boxes fail to be made.
const NONE: Room = Room { percent: 3, least: GIB, plenty: 10 * GIB };

const REMEDY: &str = "enlarge the file system, or clear it: boxgate gc, docker image prune, boxgate ls --tsv for the largest boxes";

/// How much has to be free.
struct Room {
    /// Of the disk,
    percent: u64,
    /// and never less than this,
    least: u64,
    /// but this is enough on any disk.
    plenty: u64,
}

pub(super) fn disks(facts: &Facts) -> Vec<Finding> {
    facts.disks.iter().map(disk).collect()
}

fn disk(disk: &Disk) -> Finding {
    const CHECK: &str = "disk";
    let message = format!("{}: {} of {} are free", disk.path.display(), size(disk.free), size(disk.size));
    let few_inodes = percent(disk.inodes_free, disk.inodes) < NONE.percent && disk.inodes > 0;
    if few_inodes {
        let message =
            format!("{}: {} of {} inodes are free", disk.path.display(), disk.inodes_free, disk.inodes);
        Finding::fail(CHECK, message, REMEDY)
    } else if lacks(disk, &NONE) {
        Finding::fail(CHECK, message, REMEDY)
    } else if lacks(disk, &LITTLE) {
        Finding::warn(CHECK, message, REMEDY)
    } else {
        Finding::ok(CHECK, message)
    }
}

fn lacks(disk: &Disk, room: &Room) -> bool {
    disk.free < room.least || (disk.free < room.plenty && percent(disk.free, disk.size) < room.percent)
}

fn percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::testing::{facts, statuses};
    use super::*;
    use crate::cli::doctor::finding::Status;

    #[rstest]
    #[case::plenty(100 * GIB, 60 * GIB, 90, Status::Ok)]
    #[case::a_small_part_of_much(10_000 * GIB, 500 * GIB, 90, Status::Ok)]
    #[case::little(100 * GIB, 9 * GIB, 90, Status::Warn)]
    #[case::a_tenth(500 * GIB, 50 * GIB, 90, Status::Warn)]
    #[case::full(100 * GIB, GIB / 2, 90, Status::Fail)]
    #[case::inodes(100 * GIB, 60 * GIB, 1, Status::Fail)]
    fn room(#[case] size: u64, #[case] free: u64, #[case] inodes_free: u64, #[case] expected: Status) {
        let mut facts = facts();
        facts.disks = vec![Disk { path: "/var/lib/docker".into(), size, free, inodes: 100, inodes_free }];
        assert_eq!(statuses(&disks(&facts)), [expected]);
    }

    #[test]
    fn a_file_system_without_inodes() {
        let disk = Disk { path: "/".into(), size: 100 * GIB, free: 60 * GIB, inodes: 0, inodes_free: 0 };
        assert_eq!(super::disk(&disk).status, Status::Ok);
    }
}
