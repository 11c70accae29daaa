//! Bulk transfers over established connections, and the processor time that they take.
//!
//! The gateway's processor time is its own alone. What it is compared with is that of a direct transfer's two
//! ends: the ssh that has the connection, and the box's sshd (both of its processes), without the programs that
//! make or take the data. Where a goal is missed, one more transfer shows what the gateway's time goes into.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use boxgate_tests::docker;

use super::{Context, explain, find, rate, take_turns};
use crate::client::{Master, time};
use crate::figure::{Figure, Goal, Statistic};
use crate::process::{cpu_seconds, in_container, parent};
use crate::site::{Cipher, Peer, Site};

const WARM_UP_BYTES: u64 = 4 << 20;
/// What programs in the box read and write at once. All sizes are multiples of it.
const BLOCK: u64 = 256 << 10;

#[derive(Debug, Clone, Copy)]
enum Direction {
    Down,
    Up,
}

/// What is transferred: zeros, which are as much work as anything else where nothing is compressed.
struct Transfer<'a> {
    site: &'a Site,
    /// Sparse files: read from memory, not from a disk.
    zeros: PathBuf,
}

impl Transfer<'_> {
    fn run(&self, master: &Master, direction: Direction, bytes: u64) -> Duration {
        let mut ssh = master.ssh(&[]);
        match direction {
            Direction::Down => {
                // Not head(1): it writes 8 KiB at a time, and then its pipe is what is measured.
                ssh.arg(format!("dd if=/dev/zero bs={BLOCK} count={} status=none", bytes / BLOCK));
                time(self.site, ssh, Stdio::null())
            }
            Direction::Up => {
                File::create(&self.zeros).unwrap().set_len(bytes).unwrap();
                // What arrives is counted there: a transfer that lost something is none.
                ssh.arg(format!("LC_ALL=C dd of=/dev/null bs={BLOCK} 2>&1 | grep -q '^{bytes} bytes'"));
                time(self.site, ssh, File::open(&self.zeros).unwrap())
            }
        }
    }
}

/// Whose processor time is counted.
struct Workers(Vec<(Peer, Vec<u32>)>);

impl Workers {
    fn of(site: &Site, masters: &[Master]) -> Self {
        let direct = find(masters, Peer::Direct);
        let shell = direct.ssh(&[]).arg("echo $PPID").output().unwrap();
        let inner =
            String::from_utf8(shell.stdout).unwrap().trim().parse().expect("the number of sshd's process");
        let container = docker::inspect(&site.devhost.container("alice"))["Id"].as_str().unwrap().to_owned();
        let sshd = in_container(&container, inner);
        let ends = vec![direct.pid(), sshd, parent(sshd)];
        Self(vec![(Peer::Direct, ends), (Peer::Gateway, vec![site.gateway_pid(Peer::Gateway)])])
    }

    /// Seconds of the processes that count for a peer, if any do.
    fn seconds(&self, peer: Peer) -> Option<f64> {
        let (_, pids) = self.0.iter().find(|(worker, _)| *worker == peer)?;
        Some(pids.iter().map(|&pid| cpu_seconds(pid)).sum())
    }
}

pub(super) fn aes(context: &Context<'_>) -> Vec<Figure> {
    let what = "with aes128-gcm";
    let share = &[Goal::AtMostTimes(0.5, Peer::Direct)];
    measure(context, Cipher::Aes128Gcm, ["aes-gcm down", "aes-gcm up"], what, share).into()
}

pub(super) fn chacha(context: &Context<'_>) -> Vec<Figure> {
    let what = "with chacha20-poly1305";
    let [down, up, _, _] = measure(context, Cipher::ChaCha20, ["chacha20 down", "chacha20 up"], what, &[]);
    vec![down, up]
}

/// Speeds, and processor times, for which `share` is the goal.
fn measure(
    context: &Context<'_>,
    cipher: Cipher,
    names: [&'static str; 2],
    with: &str,
    share: &[Goal],
) -> [Figure; 4] {
    let Context { site, plan } = *context;
    let bytes = plan.bulk_bytes;
    let what = format!("{} MiB over an established connection {with}", bytes >> 20);
    let mut speeds = names.map(|name| Figure::new(name, "MiB/s", what.as_str(), &Peer::WITH_SOCAT));
    let what = "processor time of the gateway, and of a direct transfer's sshd and ssh together";
    let mut costs =
        ["CPU down", "CPU up"].map(|name| Figure::new(name, "s/GiB", what, &[Peer::Direct, Peer::Gateway]));
    let mut masters = Master::open_all(site, &Peer::WITH_SOCAT, cipher);
    let workers = Workers::of(site, &masters);
    let transfer = Transfer { site, zeros: site.directory().join("zeros") };
    let directions = [Direction::Down, Direction::Up];
    for direction in directions {
        for master in &masters {
            transfer.run(master, direction, WARM_UP_BYTES);
        }
    }
    take_turns(plan.transfers, &mut masters, |_, master| {
        for ((direction, speed), cost) in directions.into_iter().zip(&mut speeds).zip(&mut costs) {
            let before = workers.seconds(master.peer);
            let took = transfer.run(master, direction, bytes);
            speed.push(master.peer, rate(bytes, took));
            let spent = workers.seconds(master.peer).zip(before).map(|(after, before)| after - before);
            if let Some(spent) = spent {
                cost.push(master.peer, spent / (bytes as f64 / f64::from(1 << 30)));
            }
        }
    });
    let goals = &[Goal::AtLeastTimes(1.0, Peer::Direct), Goal::AtLeastTimes(1.8, Peer::Jump)];
    let mut speeds = speeds.map(|figure| figure.judged(Statistic::Median, goals));
    let mut costs = costs.map(|figure| figure.judged(Statistic::Median, share));
    let gateway = find(&masters, Peer::Gateway);
    for ((direction, speed), cost) in directions.into_iter().zip(&mut speeds).zip(&mut costs) {
        // One look at the same transfer says enough for both.
        let figure = if speed.missed() { speed } else { cost };
        explain(site, figure, || {
            transfer.run(gateway, direction, bytes);
        });
    }
    fs::remove_file(&transfer.zeros).unwrap();
    let ([down, up], [cpu_down, cpu_up]) = (speeds, costs);
    [down, up, cpu_down, cpu_up]
}
