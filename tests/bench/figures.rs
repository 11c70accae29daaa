//! What is measured, in order. A group shares its set-up, and is chosen by its name.

use std::thread::sleep;
use std::time::Duration;

use crate::client::Master;
use crate::figure::Figure;
use crate::plan::Plan;
use crate::profile::Profile;
use crate::site::{Peer, Site};

mod boxes;
mod bulk;
mod cluster;
mod crowd;
mod echo;
mod forward;
mod login;
mod memory;
mod sftp;

/// What a figure is measured with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) site: &'a Site,
    pub(crate) plan: &'a Plan,
}

/// Figures that are measured together.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) measure: fn(&Context<'_>) -> Vec<Figure>,
}

/// All there are.
pub(crate) const GROUPS: [Group; 14] = [
    Group {
        name: "login",
        what: "logins that run `true`, with and without spare connections",
        measure: login::logins,
    },
    Group { name: "command", what: "`true` over a connection that is there", measure: login::commands },
    Group { name: "echo", what: "keys and their echoes, nothing else going on", measure: echo::idle },
    Group {
        name: "echo-loaded",
        what: "the same beside a bulk transfer on the same connection",
        measure: echo::loaded,
    },
    Group {
        name: "bulk-aes",
        what: "bulk transfers with aes128-gcm, and their processor time",
        measure: bulk::aes,
    },
    Group { name: "bulk-chacha", what: "bulk transfers with chacha20-poly1305", measure: bulk::chacha },
    Group { name: "sftp", what: "one file by sftp, both ways", measure: sftp::both_ways },
    Group {
        name: "forward",
        what: "requests over `ssh -L`, each on a connection of its own",
        measure: forward::requests,
    },
    Group {
        name: "memory",
        what: "the gateway's memory for idle connections with a shell",
        measure: memory::held,
    },
    Group { name: "first-login", what: "boxes that are made at a first login", measure: boxes::first_logins },
    Group {
        name: "spare-login",
        what: "first logins of which each gets a spare box",
        measure: boxes::spare_logins,
    },
    Group { name: "wake", what: "boxes that are woken", measure: boxes::wakes },
    Group { name: "cluster", what: "Kubernetes clusters in the box", measure: cluster::clusters },
    Group { name: "crowd", what: "many logins at once", measure: crowd::logins },
];

/// Calls `measure` with each number below `count` and each item: one round after another, each beginning with
/// another item, so that nobody always follows the same neighbour.
fn take_turns<T>(count: usize, items: &mut [T], mut measure: impl FnMut(usize, &mut T)) {
    for round in 0..count {
        let first = round % items.len();
        for place in 0..items.len() {
            measure(round, &mut items[(first + place) % items.len()]);
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// MiB per second.
fn rate(bytes: u64, duration: Duration) -> f64 {
    bytes as f64 / f64::from(1 << 20) / duration.as_secs_f64()
}

/// Lets what the last measurement left come to its end.
fn settle(plan: &Plan) {
    sleep(plan.gap);
}

/// Has a figure that missed a goal say what the gateway does during `work`.
fn explain(site: &Site, figure: &mut Figure, work: impl FnOnce()) {
    if figure.missed() {
        let gateway = site.gateway_pid(Peer::Gateway);
        figure.profile = Some(Profile::take(figure.name, gateway, site.directory(), work));
    }
}

fn find(masters: &[Master], peer: Peer) -> &Master {
    masters.iter().find(|master| master.peer == peer).unwrap()
}
