//! The provisioner is killed (`SIGKILL`) at each step of what it does to a box, just before dockerd gets to do the step and
//! just after it did: the next login works, home and Docker data are as they were, and nothing is left over.

use std::time::Duration;

use boxgate_provisioner_api::{Order, OrphanKind};
use rstest::rstest;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::installation::{Installation, docker};
use crate::proxy::{self, Call, Fault, Proxy, When};

/// Longer than a restarted provisioner takes to finish a removal.
const PATIENCE: Duration = Duration::from_secs(30);
const ID: &str = "{{.Id}}";

/// A step by the call that it is, and the end of the name of the object that it is about.
type Step = (Call, &'static str);

const MAKE: [Step; 5] = [
    (proxy::CREATE_VOLUME, ".home"),
    (proxy::CREATE_VOLUME, ".docker"),
    (proxy::CREATE_NETWORK, ""),
    (proxy::CREATE_CONTAINER, ""),
    (proxy::START, ""),
];
const RESET: [Step; 4] =
    [(proxy::STOP, ""), (proxy::REMOVE_CONTAINER, ""), (proxy::CREATE_CONTAINER, ""), (proxy::START, "")];
const REMOVE: [Step; 5] = [
    (proxy::STOP, ""),
    (proxy::REMOVE_CONTAINER, ""),
    (proxy::REMOVE_VOLUME, ".home"),
    (proxy::REMOVE_VOLUME, ".docker"),
    (proxy::REMOVE_NETWORK, ""),
];

/// An installation whose provisioner can be stopped between two steps.
struct Stepped {
    installation: Installation,
    proxy: Proxy,
}

impl Stepped {
    async fn new(first_process: &str) -> Self {
        let proxy = Proxy::start();
        let socket = proxy.setting();
        let settings = [("provisioner.docker_socket", socket.as_str()), ("box.memory", "\"256MiB\"")];
        let mut installation = Installation::with(&settings).await;
        installation.boot_with(first_process).await;
        Self { installation, proxy }
    }

    /// Holds dockerd's next such call up; what is returned tells when it has come.
    fn hold(&self, (call, of): Step, when: When) -> oneshot::Receiver<()> {
        self.proxy.fail(call, &self.installation.name(&format!("alice{of}")), when, Fault::Hang)
    }

    /// Kills the provisioner at this step of what it is asked.
    async fn kill_at(&mut self, step: Step, when: When, ask: Option<Order>) {
        let held = self.hold(step, when);
        tokio::select! {
            ended = self.ask(ask) => panic!("{step:?} was not asked: {ended:?}"),
            held = held => held.unwrap(),
        }
        self.installation.kill();
    }

    async fn ask(&self, ask: Option<Order>) -> String {
        match ask {
            None => format!("{:?}", self.installation.ensure("alice").await),
            Some(order) => format!("{:?}", self.installation.order("alice", order).await),
        }
    }

    /// One box with its two volumes and its network, and nothing else.
    async fn assert_one_box(&self, step: Step) {
        let there = ["container", "network", "volume"].map(|kind| self.installation.list(kind).len());
        assert_eq!(there, [1, 1, 2], "{step:?}");
        assert_eq!(self.installation.gc(true).await.orphans, [], "{step:?}");
    }

    fn in_box(&self, command: &str) -> String {
        docker(&["exec", &self.installation.name("alice"), "sh", "-c", command])
    }

    fn leave_marks(&self) {
        self.in_box("for d in /home /var/lib/docker /opt; do echo mine > $d/mark; done");
    }

    /// How many of them are there: two outlive a container.
    fn marks(&self) -> String {
        self.in_box("cat /home/mark /var/lib/docker/mark /opt/mark 2>/dev/null | wc -l")
    }
}

#[rstest]
#[case::before(When::Before)]
#[case::after(When::After)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn at_any_step_of_a_first_login(#[case] when: When) {
    let mut stepped = Stepped::new(proxy::QUICK).await;
    for step in MAKE {
        stepped.kill_at(step, when, None).await;
        stepped.installation.start().await;
        stepped.installation.ensure("alice").await.unwrap();
        stepped.assert_one_box(step).await;
        stepped.leave_marks();
        assert_eq!(stepped.marks(), "3");
        stepped.installation.order("alice", Order::Remove).await.unwrap();
    }
}

/// Nobody logs in again: what was begun is no box yet, or it is one, with a home.
#[rstest]
#[case::no_home_yet((proxy::CREATE_VOLUME, ".home"), When::Before, &[OrphanKind::Directory], [0, 0])]
#[case::home((proxy::CREATE_VOLUME, ".home"), When::After, &[], [0, 1])]
#[case::network((proxy::CREATE_NETWORK, ""), When::After, &[], [1, 2])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn what_a_first_login_left_behind_is_collected(
    #[case] step: Step,
    #[case] when: When,
    #[case] expected: &[OrphanKind],
    #[case] left: [usize; 2],
) {
    let mut stepped = Stepped::new(proxy::QUICK).await;
    stepped.kill_at(step, when, None).await;
    stepped.installation.start().await;
    let found = stepped.installation.gc(true).await.orphans;
    assert_eq!(found.iter().map(|orphan| orphan.kind).collect::<Vec<_>>(), expected);
    assert!(found.iter().all(|orphan| orphan.removed), "{found:?}");
    assert_eq!(stepped.installation.gc(false).await.orphans, []);
    assert_eq!(["network", "volume"].map(|kind| stepped.installation.list(kind).len()), left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn at_its_first_boot() {
    let slow = format!("sleep 3; {}", proxy::QUICK);
    let mut stepped = Stepped::new(&slow).await;
    stepped.kill_at((proxy::START, ""), When::After, None).await;
    stepped.installation.start().await;
    // It boots, and whoever waits for it looks at it now and then.
    stepped.kill_at((proxy::INSPECT, ""), When::After, None).await;
    let container = stepped.installation.inspect("alice", ID);
    assert_eq!(stepped.installation.inspect("alice", "{{.State.Status}}"), "running");
    stepped.installation.start().await;
    stepped.installation.ensure("alice").await.unwrap();
    assert_eq!(stepped.installation.inspect("alice", ID), container, "its boot goes on");
    stepped.assert_one_box((proxy::START, "")).await;
}

#[rstest]
#[case::before(When::Before)]
#[case::after(When::After)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn at_any_step_of_a_reset(#[case] when: When) {
    let mut stepped = Stepped::new(proxy::QUICK).await;
    stepped.installation.ensure("alice").await.unwrap();
    for step in RESET {
        stepped.leave_marks();
        let container = stepped.installation.inspect("alice", ID);
        stepped.kill_at(step, when, Some(Order::Reset)).await;
        stepped.installation.start().await;
        stepped.installation.ensure("alice").await.unwrap();
        // Until its container is removed, the box is what it was.
        let stays = step.0 == proxy::STOP || (step, when) == (RESET[1], When::Before);
        assert_eq!(stepped.installation.inspect("alice", ID) == container, stays, "{step:?}");
        assert_eq!(stepped.marks(), if stays { "3" } else { "2" }, "{step:?}");
        stepped.assert_one_box(step).await;
    }
}

#[rstest]
#[case::before(When::Before)]
#[case::after(When::After)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn at_any_step_of_a_removal(#[case] when: When) {
    let mut stepped = Stepped::new(proxy::QUICK).await;
    for step in REMOVE {
        stepped.installation.ensure("alice").await.unwrap();
        stepped.leave_marks();
        stepped.kill_at(step, when, Some(Order::Remove)).await;
        let due = stepped.installation.state("removing/alice");
        assert!(due.exists(), "{step:?}");
        // Nobody asks again: what was confirmed is done.
        stepped.installation.start().await;
        let begun = Instant::now();
        while due.exists() {
            assert!(begun.elapsed() < PATIENCE, "{step:?}");
            sleep(Duration::from_millis(20)).await;
        }
        let there = ["container", "network", "volume"].map(|kind| stepped.installation.list(kind).len());
        assert_eq!(there, [0, 0, 0], "{step:?}");
        assert_eq!(stepped.installation.gc(true).await.orphans, [], "{step:?}");
    }
    stepped.installation.ensure("alice").await.unwrap();
    assert_eq!(stepped.marks(), "0", "a new box");
}
