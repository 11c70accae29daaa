//! One file by sftp, both ways, over established connections. Its ends are in memory, so that no disk is measured:
//! a sparse file and the null device in the box, nameless files in memory here.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsRawFd;
use std::process;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{Context, explain, find, rate, take_turns};
use crate::client::{Master, time};
use crate::figure::{Figure, Goal, Statistic};
use crate::site::{Cipher, Peer, Site};

const CIPHER: Cipher = Cipher::Aes128Gcm;

pub(super) fn both_ways(context: &Context<'_>) -> Vec<Figure> {
    let Context { site, plan } = *context;
    let bytes = plan.sftp_bytes;
    let figure =
        |name| Figure::new(name, "MiB/s", format!("a file of {} MiB", bytes >> 20), &Peer::WITH_SOCAT);
    let (mut get, mut put) = (figure("sftp get"), figure("sftp put"));
    let (source, target) = (file_in_memory(bytes), file_in_memory(0));
    let from_box = format!("get sftp-file {}\n", path(&target));
    let into_box = format!("put {} /dev/null\n", path(&source));
    let mut masters = Master::open_all(site, &Peer::WITH_SOCAT, CIPHER);
    let fetch = |master: &Master| {
        target.set_len(0).unwrap();
        let took = batch(site, master, &from_box);
        assert_eq!(target.metadata().unwrap().len(), bytes, "bytes fetched by sftp");
        took
    };
    let store = |master: &Master| batch(site, master, &into_box);
    take_turns(plan.transfers + 1, &mut masters, |round, master| {
        let (got, sent) = (fetch(master), store(master));
        // The first round warms up.
        if round > 0 {
            get.push(master.peer, rate(bytes, got));
            put.push(master.peer, rate(bytes, sent));
        }
    });
    let goals = &[Goal::AtLeastTimes(1.0, Peer::Direct), Goal::AtLeastTimes(1.8, Peer::Jump)];
    let [mut get, mut put] = [get, put].map(|figure| figure.judged(Statistic::Median, goals));
    let gateway = find(&masters, Peer::Gateway);
    explain(site, &mut get, || {
        fetch(gateway);
    });
    explain(site, &mut put, || {
        store(gateway);
    });
    vec![get, put]
}

/// The time that sftp takes for these orders.
fn batch(site: &Site, master: &Master, orders: &str) -> Duration {
    let mut input = file_in_memory(0);
    input.write_all(orders.as_bytes()).and_then(|()| input.rewind()).unwrap();
    time(site, master.sftp(), input)
}

fn file_in_memory(bytes: u64) -> File {
    let file = File::from(memfd_create(c"bench", MFdFlags::MFD_CLOEXEC).unwrap());
    file.set_len(bytes).unwrap();
    file
}

/// Its name for other processes.
fn path(file: &File) -> String {
    format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd())
}
