//! What boxes reach and what not, asked from inside of them; each time also without the rules, when they reach it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use boxgate_config::Egress;
use boxgate_provisioner::network::firewall::{FirewallFault, in_place};
use boxgate_provisioner_api::{Endpoint, Firewall};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::installation::{Installation, docker};
use super::probe::{Answering, DockerLets, Elsewhere, SILENT, ask, ask_from_host, host_addresses, ip};

/// Longer than the rules are gone before they are made again.
const MENDED_WITHIN: Duration = Duration::from_secs(20);

/// Two boxes, a host and a machine elsewhere, all of which answer.
struct Town {
    installation: Installation,
    bob: Endpoint,
    alice: Endpoint,
    elsewhere: Elsewhere,
    there: Answering,
    host: Answering,
    port: u16,
    // Declared last: the rest is done with it.
    _docker: DockerLets,
}

impl Town {
    async fn new(settings: &[(&'static str, &str)]) -> Self {
        let installation = Installation::with(settings).await;
        let alice = installation.ensure("alice").await.unwrap();
        let bob = installation.ensure("bob").await.unwrap();
        // Her own Docker's docker0 has the address of the host's, which she would ask in vain.
        docker(&[
            "exec",
            &installation.name("alice"),
            "systemctl",
            "mask",
            "--quiet",
            "--now",
            "docker.socket",
        ]);
        docker(&[
            "exec",
            &installation.name("alice"),
            "systemctl",
            "mask",
            "--quiet",
            "--now",
            "docker.service",
        ]);
        docker(&[
            "exec",
            &installation.name("alice"),
            "sh",
            "-c",
            "ip link delete docker0 || ! ip link show docker0",
        ]);
        let elsewhere = Elsewhere::new(installation.pool());
        let metadata_udp = format!("udp/{}/8202", elsewhere.metadata);
        let at = ["tcp/0.0.0.0/8201", "tcp/0.0.0.0/8202", "udp/0.0.0.0/8201", &metadata_udp];
        let there = elsewhere.answering("elsewhere", &at).await;
        let port = free_port();
        let at = [format!("tcp/::/{port}"), format!("udp/0.0.0.0/{port}")];
        let host = Answering::start(&[], "host", &[&at[0], &at[1]]).await;
        let docker = DockerLets::new(installation.pool());
        Self { installation, bob, alice, elsewhere, there, host, port, _docker: docker }
    }

    fn ask(&self, source: &str, targets: &[String]) -> Vec<String> {
        ask(&self.installation.name("alice"), source, targets)
    }

    /// All that no box may reach, each by every protocol that is answered there, and what it answers.
    fn forbidden(&self) -> Vec<(String, &'static str)> {
        let mut all = Vec::new();
        let addresses = host_addresses(&self.bridges());
        assert!(addresses.contains(&gateway(&self.alice)), "{addresses:?}");
        assert!(addresses.contains(&gateway(&self.bob)), "{addresses:?}");
        for address in addresses {
            all.push((format!("tcp/{address}/{}", self.port), "host"));
            all.push((format!("udp/{address}/{}", self.port), "host"));
            all.push((format!("ping/{address}/-"), "pong"));
        }
        let metadata = self.elsewhere.metadata;
        all.push((format!("tcp/{metadata}/8201"), "elsewhere"));
        all.push((format!("udp/{metadata}/8202"), "elsewhere"));
        all.push((format!("ping/{metadata}/-"), "pong"));
        let bob = self.bob.address.ip();
        all.push((format!("ping/{bob}/-"), "pong"));
        all
    }

    fn assert_apart(&self, when: &str) {
        let forbidden: Vec<_> = self.forbidden().into_iter().map(|(target, _)| target).collect();
        let reached: Vec<_> = self.reached(forbidden, |_, answer| answer != SILENT);
        assert_eq!(reached, [""; 0], "{when}");
        let ssh = self.ask("", &[format!("tcp/{}/22", self.bob.address.ip())]);
        assert_eq!(ssh, [SILENT], "bob's sshd, {when}");
    }

    /// The opposite: without the rules there is nothing that alice does not reach.
    fn assert_together(&self) {
        let expected = self.forbidden();
        let targets: Vec<_> = expected.iter().map(|(target, _)| target.clone()).collect();
        let missed = self.reached(targets, |at, answer| answer != expected[at].1);
        assert_eq!(missed, [""; 0]);
        let ssh = self.ask("", &[format!("tcp/{}/22", self.bob.address.ip())]);
        assert!(ssh[0].starts_with("SSH-2.0-"), "{ssh:?}");
    }

    fn reached(&self, targets: Vec<String>, which: impl Fn(usize, &str) -> bool) -> Vec<String> {
        let answers = self.ask("", &targets);
        assert_eq!(answers.len(), targets.len(), "{answers:?}");
        let both = targets.into_iter().zip(answers).enumerate();
        both.filter(|(at, (_, answer))| which(*at, answer))
            .map(|(_, (target, answer))| format!("{target}: {answer}"))
            .collect()
    }

    async fn assert_egress(&self) {
        let address = self.elsewhere.address;
        let targets =
            [format!("tcp/{address}/8201"), format!("udp/{address}/8201"), format!("ping/{address}/-")];
        assert_eq!(self.ask("", &targets), ["elsewhere", "elsewhere", "pong"]);
        // The other way the gateway comes.
        let mut greeting = [0; 8];
        let mut sshd = TcpStream::connect(self.alice.address).await.unwrap();
        sshd.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"SSH-2.0-");
    }

    fn table(&self) -> String {
        self.installation.firewall_table()
    }

    /// How the names of the installation's bridges begin.
    fn bridges(&self) -> String {
        self.bridge("alice")[..8].to_owned()
    }

    fn bridge(&self, of: &str) -> String {
        let network = self.installation.name(of);
        docker(&[
            "network",
            "inspect",
            "--format",
            "{{index .Options \"com.docker.network.bridge.name\"}}",
            &network,
        ])
    }

    /// Runs a program as the kernel sees it from inside alice's network.
    fn inside(&self, program: &[&str]) {
        let pid = self.installation.inspect("alice", "{{.State.Pid}}");
        let done = Command::new("nsenter").args(["-t", &pid, "-n"]).args(program).status().unwrap();
        assert!(done.success(), "{program:?}");
    }
}

/// The host's address on a box's bridge.
fn gateway(of: &Endpoint) -> String {
    let std::net::IpAddr::V4(address) = of.address.ip() else { panic!("{of:?}") };
    std::net::Ipv4Addr::from((address.to_bits() & !0xf) + 1).to_string()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Runs nft and returns what it prints, or nothing when it fails.
fn nft(arguments: &[&str]) -> Option<String> {
    let output = Command::new("nft").args(arguments).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_box_reaches_neither_another_nor_the_host_nor_its_metadata() {
    let mut town = Town::new(&[]).await;
    let source = gateway(&town.alice);
    let metadata = format!("tcp/{}/8201", town.elsewhere.metadata);
    assert_eq!(ask_from_host(&source, &metadata), "elsewhere", "the metadata address does answer this host");
    town.assert_apart("at first");
    town.assert_egress().await;

    town.installation.kill();
    town.assert_apart("without a provisioner");
    nft(&["delete", "table", "inet", &town.table()]).unwrap();
    town.assert_together();
    town.installation.start().await;
    town.assert_apart("with a new provisioner");
    town.assert_egress().await;
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn rules_that_somebody_removes_or_changes_are_made_again() {
    let town = Town::new(&[]).await;
    let table = town.table();
    let list = || nft(&["list", "table", "inet", &table]);
    let made = list().unwrap();
    for change in [&["delete", "table", "inet", &table][..], &["flush", "chain", "inet", &table, "from_box"]]
    {
        nft(change).unwrap();
        assert_ne!(list().as_ref(), Some(&made), "{change:?}");
        let begun = Instant::now();
        while list().as_ref() != Some(&made) {
            assert!(begun.elapsed() < MENDED_WITHIN, "{change:?} is not mended");
            sleep(Duration::from_millis(50)).await;
        }
        println!("{change:?}: mended within {:?}", begun.elapsed());
        town.assert_apart("made again");
    }
    assert_eq!(town.installation.health().await.unwrap().firewall, Firewall::Ok);
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn rules_are_the_same_however_often_they_are_made() {
    let mut installation = Installation::new().await;
    let table = installation.firewall_table();
    let made = nft(&["list", "table", "inet", &table]).unwrap();
    installation.kill();
    installation.start().await;
    assert_eq!(nft(&["list", "table", "inet", &table]).unwrap(), made);
}

/// As `boxgate doctor` looks, whether a provisioner runs or not.
#[tokio::test]
#[ignore = "needs nft; ./devhost test runs it"]
async fn a_look_tells_whether_the_rules_are_in_place() {
    let mut installation = Installation::new().await;
    let (table, config) = (installation.firewall_table(), installation.config());
    installation.kill();
    assert_eq!(in_place(&config).await, Ok(()));
    let mut changed = config.clone();
    changed.devbox.egress = Egress::Only(Vec::new());
    assert_eq!(in_place(&changed).await, Err(FirewallFault::Altered { table: table.clone() }));
    nft(&["flush", "chain", "inet", &table, "to_box"]).unwrap();
    assert_eq!(in_place(&config).await, Err(FirewallFault::Altered { table: table.clone() }));
    nft(&["delete", "table", "inet", &table]).unwrap();
    assert_eq!(in_place(&config).await, Err(FirewallFault::Absent { table }));
    installation.start().await;
    assert_eq!(in_place(&config).await, Ok(()));
}

/// Root in a box chooses its addresses as it likes.
#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_box_with_another_address_reaches_no_more() {
    let mut town = Town::new(&[]).await;
    let bob = town.bob.address.ip().to_string();
    let (foreign, gateway) = ("203.0.113.77".to_owned(), gateway(&town.alice));
    for address in [&foreign, &bob] {
        town.inside(&["ip", "address", "add", &format!("{address}/32"), "dev", "eth0"]);
    }
    let targets = [format!("udp/{gateway}/{}", town.port), format!("udp/{}/8201", town.elsewhere.address)];
    let spoof = |town: &Town| {
        for source in [&foreign, &bob] {
            town.ask(source, &targets);
        }
        [town.host.said(), town.there.said()]
            .map(|said| [&foreign, &bob].map(|source| said.matches(&format!("from {source}\n")).count()))
    };
    assert_eq!(spoof(&town), [[0, 0], [0, 0]]);

    town.installation.kill();
    nft(&["delete", "table", "inet", &town.table()]).unwrap();
    let [host, there] = spoof(&town);
    assert_eq!(host, [1, 1], "without rules the host hears them");
    assert_eq!(there, [1, 1], "and so does who is elsewhere");
}

/// Docker gives boxes no IPv6; root in a box can have the link's.
#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_box_reaches_the_host_by_no_ipv6_either() {
    let mut town = Town::new(&[]).await;
    let bridge = town.bridge("alice");
    if Path::new(&format!("/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6")).exists() {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6"), "0").unwrap();
    }
    ip(&format!("-6 address add fe80::b0/64 dev {bridge} nodad"));
    town.inside(&["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.eth0.disable_ipv6=0"]);
    town.inside(&["ip", "-6", "address", "add", "fe80::a1/64", "dev", "eth0", "nodad"]);
    let target = [format!("tcp/fe80::b0%eth0/{}", town.port)];
    let answer = town.ask("", &target);
    assert!(answer[0] == SILENT || answer[0].contains("No route to host"), "{answer:?}");

    town.installation.kill();
    nft(&["delete", "table", "inet", &town.table()]).unwrap();
    assert_eq!(town.ask("", &target), ["host"], "without rules it answers");
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_box_reaches_only_what_is_listed() {
    let mut town = Town::new(&[]).await;
    let address = town.elsewhere.address;
    let targets = [8201, 8202].map(|port| format!("tcp/{address}/{port}"));
    assert_eq!(town.ask("", &targets), ["elsewhere", "elsewhere"]);
    town.installation.set("box.egress", &format!("[\"{address}:8202\"]"));
    town.installation.kill();
    town.installation.start().await;
    assert_eq!(town.ask("", &targets), [SILENT, "elsewhere"]);
    town.assert_apart("with a list");
}
