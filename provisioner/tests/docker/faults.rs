//! A Docker that fails at any of the calls that boxes are made, woken, stopped, reset and removed with: whoever waits is
//! told, the log says it too, what was there stays, and the next attempt works.

use std::fs;

use boxgate_provisioner_api::{Failure, FailureCode, Order};
use futures_util::future::join_all;
use rstest::rstest;

use crate::installation::{Installation, docker};
use crate::proxy::{self, Call, Fault, Proxy, When};

/// A call that hangs is given up after this: longer than this machine takes for a real one.
const HANGS: &str = "\"6s\"";

/// What fails: what is asked for, the call that is made for it, and the end of the name of the object that it is about.
type Step = (Ask, Call, &'static str);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Login,
    Order(Order),
}

const FIRST_LOGINS: [Step; 6] = [
    (Ask::Login, proxy::INSPECT, ""),
    (Ask::Login, proxy::CREATE_NETWORK, ""),
    (Ask::Login, proxy::CREATE_VOLUME, ".home"),
    (Ask::Login, proxy::CREATE_VOLUME, ".docker"),
    (Ask::Login, proxy::CREATE_CONTAINER, ""),
    (Ask::Login, proxy::START, ""),
];
/// What is asked of boxes that there are. The first two are stopped.
const LATER: [Step; 7] = [
    (Ask::Login, proxy::INSPECT, ""),
    (Ask::Login, proxy::START, ""),
    (Ask::Order(Order::Stop), proxy::STOP, ""),
    (Ask::Order(Order::Reset), proxy::STOP, ""),
    (Ask::Order(Order::Reset), proxy::REMOVE_CONTAINER, ""),
    (Ask::Order(Order::Reset), proxy::CREATE_CONTAINER, ""),
    (Ask::Order(Order::Reset), proxy::START, ""),
];
const REMOVALS: [Step; 5] = [
    (Ask::Order(Order::Remove), proxy::STOP, ""),
    (Ask::Order(Order::Remove), proxy::REMOVE_CONTAINER, ""),
    (Ask::Order(Order::Remove), proxy::REMOVE_VOLUME, ".home"),
    (Ask::Order(Order::Remove), proxy::REMOVE_VOLUME, ".docker"),
    (Ask::Order(Order::Remove), proxy::REMOVE_NETWORK, ""),
];
const BOXES: usize = LATER.len();

/// An installation whose Docker fails in one way.
struct Failing {
    installation: Installation,
    proxy: Proxy,
    when: When,
    fault: Fault,
}

impl Failing {
    async fn new(when: When, fault: Fault) -> Self {
        let proxy = Proxy::start();
        let socket = proxy.setting();
        let timeout = if fault == Fault::Hang { HANGS } else { "\"60s\"" };
        let settings = [
            ("provisioner.docker_socket", socket.as_str()),
            ("provisioner.docker_timeout", timeout),
            ("box.memory", "\"256MiB\""),
        ];
        let mut installation = Installation::with(&settings).await;
        installation.boot_with(proxy::QUICK).await;
        Self { installation, proxy, when, fault }
    }

    /// Each step fails for a box of its own, all at once; then each is tried again.
    async fn each(&self, steps: &[Step]) {
        join_all(steps.iter().enumerate().map(|(n, step)| self.fails_once(*step, owner(n)))).await;
    }

    async fn fails_once(&self, step: Step, id: String) {
        let (ask, call, of) = step;
        let name = self.installation.name(&format!("{id}{of}"));
        let mut struck = self.proxy.fail(call, &name, self.when, self.fault);
        let attempted = self.attempt(&id, ask).await;
        assert!(struck.try_recv().is_ok(), "{step:?} was not asked: {attempted:?}");
        match attempted {
            // Whoever lost a race looks again, and finds that all is well or tries once more.
            Ok(()) => assert!(self.fault == Fault::Refuse(409) && call != proxy::INSPECT, "{step:?}"),
            Err(failure) => self.is_told(&failure, step),
        }
        match self.attempt(&id, ask).await {
            Ok(()) => {}
            // It had come to its end before, and so had its box.
            Err(failure) => {
                assert_eq!(
                    (failure.code, ask),
                    (FailureCode::NoSuchBox, Ask::Order(Order::Remove)),
                    "{step:?}"
                );
            }
        }
    }

    async fn attempt(&self, id: &str, ask: Ask) -> Result<(), Failure> {
        match ask {
            Ask::Login => self.installation.ensure(id).await.map(drop),
            Ask::Order(order) => self.installation.order(id, order).await,
        }
    }

    /// What the person reads says what failed and that trying again helps; the log says the same.
    fn is_told(&self, failure: &Failure, step: Step) {
        let (code, says) = match self.fault {
            Fault::Refuse(_) => (FailureCode::EngineRefused, "a fault for"),
            Fault::Drop | Fault::Garbage => (FailureCode::EngineUnavailable, "got no whole answer"),
            Fault::Hang => (FailureCode::EngineUnavailable, "within 6s"),
        };
        assert_eq!((failure.code, failure.retryable), (code, true), "{step:?}: {failure}");
        assert!(failure.message.contains(says) && !failure.remedy.is_empty(), "{step:?}: {failure}");
        let log = fs::read_to_string(self.installation.log()).unwrap();
        assert!(log.contains(&failure.message), "{step:?}: {failure} is not in the log");
    }

    fn leave_marks(&self) {
        for n in 0..BOXES {
            let mark = "echo mine | tee /home/mark > /var/lib/docker/mark";
            docker(&["exec", &self.installation.name(&owner(n)), "sh", "-c", mark]);
        }
    }

    fn assert_marks(&self) {
        for n in 0..BOXES {
            let read = ["cat", "/home/mark", "/var/lib/docker/mark"];
            let name = self.installation.name(&owner(n));
            assert_eq!(docker(&[&["exec", &name], &read[..]].concat()), "mine\nmine", "of {name}");
        }
    }

    async fn all_log_in(&self) {
        for n in 0..BOXES {
            self.installation.ensure(&owner(n)).await.unwrap();
        }
    }

    async fn assert_boxes(&self, count: usize) {
        let there = ["container", "network", "volume"].map(|kind| self.installation.list(kind).len());
        assert_eq!(there, [count, count, 2 * count]);
        assert_eq!(self.installation.gc(false).await.orphans, []);
    }
}

/// No name is the beginning of another one.
fn owner(n: usize) -> String {
    format!("user{n}")
}

#[rstest]
#[case::refuses(When::Before, Fault::Refuse(500))]
#[case::conflicts(When::Before, Fault::Refuse(409))]
#[case::drops_the_request(When::Before, Fault::Drop)]
#[case::drops_the_answer(When::After, Fault::Drop)]
#[case::answers_garbage(When::After, Fault::Garbage)]
#[case::hangs(When::Before, Fault::Hang)]
#[case::does_it_and_hangs(When::After, Fault::Hang)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_docker_that_fails_at_any_call(#[case] when: When, #[case] fault: Fault) {
    let failing = Failing::new(when, fault).await;
    failing.each(&FIRST_LOGINS).await;
    failing.all_log_in().await;
    failing.assert_boxes(BOXES).await;
    failing.leave_marks();

    for n in 0..2 {
        failing.installation.order(&owner(n), Order::Stop).await.unwrap();
    }
    failing.each(&LATER).await;
    failing.all_log_in().await;
    failing.assert_marks();
    failing.assert_boxes(BOXES).await;

    failing.each(&REMOVALS).await;
    failing.assert_boxes(BOXES - REMOVALS.len()).await;
}
