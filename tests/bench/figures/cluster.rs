//! Kubernetes clusters in the box, made as anybody makes one, against kind itself with all that it needs at hand.

use std::process::Stdio;
use std::time::Duration;

use super::{Context, take_turns};
use crate::client::time;
use crate::figure::{Figure, Goal, Statistic};
use crate::guard;
use crate::site::{Cipher, Peer, Site};

/// Of each step: a cluster takes half a minute on two idle cores.
const PATIENCE: Duration = Duration::from_secs(240);
const CIPHER: Cipher = Cipher::Aes128Gcm;
const PEERS: [Peer; 2] = [Peer::Direct, Peer::Gateway];
/// No clusters, no containers, and Docker up.
const CLEAR: &str = "kind delete clusters --all 2>/dev/null; docker system prune --force >/dev/null";
/// As in a box that never had a cluster.
const NO_IMAGE: &str = "docker image rm --force $(jq -r .image /usr/share/boxgate/images/node.json) >/dev/null 2>&1; \
    docker network rm kind >/dev/null 2>&1; sync";
const AT_HAND: &str = "docker network create kind >/dev/null; kind boxgate-config >kind.yaml; sync";
const PLAIN: &str = "/usr/lib/boxgate/kind.real create cluster --quiet --config kind.yaml \
    --image $(jq -r .image /usr/share/boxgate/images/node.json)";
const OURS: &str = "kind create cluster --quiet";

/// Which of those that a box has had, and who makes it.
#[derive(Debug, Clone, Copy)]
enum Cluster {
    First,
    Later(Peer),
}

pub(super) fn clusters(context: &Context<'_>) -> Vec<Figure> {
    let Context { site, plan } = *context;
    if plan.quick {
        eprintln!("bench: a cluster takes half a minute; none is made with --quick");
        return Vec::new();
    }
    let what = "`kind create cluster` against kind alone, both with the node image in the box's Docker";
    let mut created = Figure::new("kind create", "s", what, &PEERS);
    let what = "the first one in a box, which also loads the node image from the box's own";
    let mut first = Figure::new("kind create, first", "s", what, &[Peer::Gateway]);
    // The first of all loads the image that the later ones have at hand.
    let mut order = [Cluster::First, Cluster::Later(Peer::Direct), Cluster::Later(Peer::Gateway)];
    take_turns(plan.clusters, &mut order, |_, which| match *which {
        Cluster::First => {
            run(site, &format!("{CLEAR}; {NO_IMAGE}"));
            first.push(Peer::Gateway, create(site, Peer::Gateway));
        }
        Cluster::Later(peer) => {
            run(site, &format!("{CLEAR}; {AT_HAND}"));
            created.push(peer, create(site, peer));
        }
    });
    run(site, &format!("{CLEAR}; {NO_IMAGE}"));
    vec![created.judged(Statistic::Median, &[Goal::AtMostTimes(1.1, Peer::Direct)]), first]
}

/// Seconds.
fn create(site: &Site, peer: Peer) -> f64 {
    let mut ssh = site.ssh(CIPHER);
    ssh.args([peer.name(), if peer == Peer::Gateway { OURS } else { PLAIN }]);
    time(site, ssh, Stdio::null()).as_secs_f64()
}

/// Runs what is no part of the measurement.
fn run(site: &Site, command: &str) {
    guard::step();
    site.devhost.login(Site::USER).ssh(command).within(PATIENCE).ok();
}
