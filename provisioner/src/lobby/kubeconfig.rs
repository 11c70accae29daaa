//! The kubeconfig of a box's clusters for a kubectl elsewhere. Pure.
//!
//! kind's own has the address that a cluster's API has in the box, `https://127.0.0.1:6443`. A kubectl on a laptop
//! reaches that port through `ssh -L` or `ssh -D`, so host and certificate stay as they are.
//!
//! Invariant: what the box says is not believed. A kubeconfig may name programs for kubectl to run, and files for it to
//! read; whoever is root in a box could have them run on the laptop. So the text is written anew from the few things
//! that are looked for: the API's port, the cluster's certificate, and the client's certificate and key.

use std::fmt::Write;

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::BoxCluster;
use serde::{Deserialize, Serialize};

/// What kind calls a cluster that nobody named.
const DEFAULT: &str = "kind";
/// Longest name of a cluster: kind's nodes have it in their host names.
const NAME_MAX: usize = 63;

/// How a kubectl elsewhere reaches the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Through `ssh -L`: each cluster has a port of its own there, the same as in the box or from this one on.
    Ports(Option<u16>),
    /// Through `ssh -D`, whose SOCKS proxy has this port.
    Socks(u16),
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) text: String,
    /// The ssh that must run.
    pub(super) tunnel: String,
    /// Clusters that do not answer.
    pub(super) silent: Vec<String>,
}

/// Why there is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("{0} does not answer (look in it: docker ps -a; start it: docker start {0}-control-plane)")]
    Silent(String),
    #[error("its kubeconfig of {name} cannot be used: {why} (kind get kubeconfig --name {name} shows it)")]
    Odd { name: String, why: String },
    #[error("a cluster's name is {0:?}, which kind takes for none (kind get clusters)")]
    Name(String),
}

/// What is looked for, and what is written: a file as kubectl has it, without the rest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    clusters: Vec<Named>,
    users: Vec<Named>,
    #[serde(default)]
    contexts: Vec<Named>,
    #[serde(default)]
    current_context: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Named {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<Cluster>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Context>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority_data: String,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    proxy_url: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate_data: String,
    client_key_data: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

/// A cluster of the box's, believed.
struct Found {
    /// As the context is called.
    title: String,
    /// Of its API in the box.
    port: u16,
    cluster: Cluster,
    user: User,
}

impl Way {
    pub(super) fn of(port: Option<u16>, socks: Option<u16>) -> Self {
        socks.map_or(Self::Ports(port), Self::Socks)
    }
}

/// Writes the kubeconfig of `clusters`; `ssh` is how their box is logged in to.
pub(super) fn make(
    devbox: &DevBoxId,
    clusters: &[BoxCluster],
    way: Way,
    ssh: &str,
) -> Result<Made, Unusable> {
    let mut silent = Vec::new();
    let mut found = Vec::new();
    for cluster in clusters {
        if !is_name(&cluster.name) {
            return Err(Unusable::Name(cluster.name.clone()));
        }
        if cluster.kubeconfig.trim().is_empty() {
            silent.push(cluster.name.clone());
        } else {
            found.push(read(devbox, cluster)?);
        }
    }
    if let ([], Some(first)) = (found.as_slice(), silent.first()) {
        return Err(Unusable::Silent(first.clone()));
    }
    // The one that nobody named comes first, and is the current one.
    found.sort_by_key(|found| found.title.len());
    let tunnel = tunnel(&found, way, ssh);
    let yaml = write(found, way)
        .map_err(|fault| Unusable::Odd { name: DEFAULT.to_owned(), why: fault.to_string() })?;
    let text =
        format!("# The Kubernetes clusters of box {devbox}. It works while this runs:\n#   {tunnel}\n{yaml}");
    Ok(Made { text, tunnel, silent })
}

/// As kind has them: it goes into a host name.
fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
    (1..=NAME_MAX).contains(&name.len()) && name.chars().all(good)
}

fn read(devbox: &DevBoxId, cluster: &BoxCluster) -> Result<Found, Unusable> {
    let odd = |why: &str| Unusable::Odd { name: cluster.name.clone(), why: why.to_owned() };
    let said: Kubeconfig =
        serde_saphyr::from_str(&cluster.kubeconfig).map_err(|fault| odd(&fault.to_string()))?;
    let api =
        said.clusters.into_iter().find_map(|named| named.cluster).ok_or_else(|| odd("it has no cluster"))?;
    let user = said.users.into_iter().find_map(|named| named.user).ok_or_else(|| odd("it has no user"))?;
    let data = [&api.certificate_authority_data, &user.client_certificate_data, &user.client_key_data];
    if !data.iter().all(|text| is_base64(text)) {
        return Err(odd("a certificate or key in it is not base64"));
    }
    let port = port_of(&api.server).ok_or_else(|| odd("its server is not on https://127.0.0.1"))?;
    let title =
        if cluster.name == DEFAULT { devbox.to_string() } else { format!("{devbox}/{}", cluster.name) };
    Ok(Found { title, port, cluster: api, user })
}

fn is_base64(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "+/=".contains(c))
}

/// Only the box's own loopback address is in the cluster's certificate and behind the tunnel.
fn port_of(server: &str) -> Option<u16> {
    let port = ["127.0.0.1:", "0.0.0.0:", "localhost:"]
        .iter()
        .find_map(|host| server.strip_prefix("https://")?.strip_prefix(host))?;
    port.trim_end_matches('/').parse().ok().filter(|&port| port != 0)
}

/// The laptop's port of each cluster.
fn ports(found: &[Found], first: Option<u16>) -> Vec<u16> {
    match first {
        Some(first) => (0..).take(found.len()).map(|nth: u16| first.saturating_add(nth)).collect(),
        None => found.iter().map(|found| found.port).collect(),
    }
}

fn tunnel(found: &[Found], way: Way, ssh: &str) -> String {
    // Without a shell, and not at all if a port is taken: better than a kubectl that talks to something else.
    let mut options = String::from("-N -o ExitOnForwardFailure=yes");
    match way {
        Way::Socks(port) => {
            // Writing to a String cannot fail.
            let _ok = write!(options, " -D {port}");
        }
        Way::Ports(first) => {
            for (found, port) in found.iter().zip(ports(found, first)) {
                // As above.
                let _ok = write!(options, " -L {port}:127.0.0.1:{}", found.port);
            }
        }
    }
    ssh.replacen("ssh ", &format!("ssh {options} "), 1)
}

fn write(found: Vec<Found>, way: Way) -> Result<String, serde_saphyr::ser::Error> {
    let ports = match way {
        Way::Ports(first) => ports(&found, first),
        // The proxy is in the box, where the cluster has its own port.
        Way::Socks(_) => ports(&found, None),
    };
    let proxy_url = match way {
        Way::Ports(_) => None,
        Way::Socks(port) => Some(format!("socks5://127.0.0.1:{port}")),
    };
    let mut config = Kubeconfig {
        api_version: "v1".to_owned(),
        kind: "Config".to_owned(),
        clusters: Vec::new(),
        users: Vec::new(),
        contexts: Vec::new(),
        current_context: found.first().map(|first| first.title.clone()).unwrap_or_default(),
    };
    for (Found { title, cluster, user, .. }, port) in found.into_iter().zip(ports) {
        let server = format!("https://127.0.0.1:{port}");
        let cluster = Cluster { server, proxy_url: proxy_url.clone(), ..cluster };
        let context = Context { cluster: title.clone(), user: title.clone() };
        config.clusters.push(Named { name: title.clone(), cluster: Some(cluster), ..Named::default() });
        config.users.push(Named { name: title.clone(), user: Some(user), ..Named::default() });
        config.contexts.push(Named { name: title, context: Some(context), ..Named::default() });
    }
    // Certificates are longer than a line: each on one all the same, as kubectl writes them.
    serde_saphyr::to_string_with_options(&config, serde_saphyr::ser_options! { prefer_block_scalars: false })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    pub(in crate::lobby) const KIND: &str = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Q0E=
    server: https://127.0.0.1:6443
  name: kind-kind
contexts:
- context:
    cluster: kind-kind
    user: kind-kind
  name: kind-kind
current-context: kind-kind
kind: Config
users:
- name: kind-kind
  user:
    client-certificate-data: Q0VSVA==
    client-key-data: S0VZ
";

    fn cluster(name: &str, kubeconfig: &str) -> BoxCluster {
        BoxCluster { name: name.to_owned(), kubeconfig: kubeconfig.to_owned() }
    }

    fn two() -> [BoxCluster; 2] {
        [cluster("a", &KIND.replace("6443", "6444")), cluster("kind", KIND)]
    }

    fn of(id: &str, clusters: &[BoxCluster], way: Way) -> Result<Made, Unusable> {
        make(&DevBoxId::parse(id).unwrap(), clusters, way, &format!("ssh {id}@devhost"))
    }

    #[test]
    fn one_cluster_through_its_port() {
        insta::assert_snapshot!(of("alice", &[cluster("kind", KIND)], Way::Ports(None)).unwrap().text);
    }

    #[test]
    fn two_clusters_through_a_proxy() {
        insta::assert_snapshot!(of("alice+web", &two(), Way::Socks(1080)).unwrap().text);
    }

    #[rstest]
    #[case(Way::Ports(None), "-L 6443:127.0.0.1:6443 -L 6444:127.0.0.1:6444")]
    #[case(Way::Ports(Some(7000)), "-L 7000:127.0.0.1:6443 -L 7001:127.0.0.1:6444")]
    #[case(Way::Socks(1080), "-D 1080")]
    fn tunnels(#[case] way: Way, #[case] options: &str) {
        let made = of("alice", &two(), way).unwrap();
        assert_eq!(made.tunnel, format!("ssh -N -o ExitOnForwardFailure=yes {options} alice@devhost"));
    }

    #[test]
    fn a_certificate_stays_on_one_line() {
        let long = "QUJD".repeat(600);
        let kubeconfig = KIND.replace("Q0E=", &long);
        let text = of("alice", &[cluster("kind", &kubeconfig)], Way::Ports(None)).unwrap().text;
        assert!(text.contains(&format!("certificate-authority-data: {long}\n")), "{text}");
    }

    #[test]
    fn who_does_not_answer_is_told() {
        let made = of("alice", &[cluster("kind", KIND), cluster("old", "\n")], Way::Ports(None)).unwrap();
        assert_eq!(made.silent, ["old"]);
        let none = of("alice", &[cluster("old", "")], Way::Ports(None));
        assert_eq!(none, Err(Unusable::Silent("old".to_owned())));
    }

    #[test]
    fn no_program_of_the_boxs_runs_on_the_laptop() {
        let tricks = "    exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/rm}\n    tokenFile: /etc/shadow\n";
        let text =
            of("alice", &[cluster("kind", &format!("{KIND}{tricks}"))], Way::Ports(None)).unwrap().text;
        assert!(!text.contains("exec:") && !text.contains("rm") && !text.contains("shadow"), "{text}");
        let elsewhere = KIND.replace("server: https://127.0.0.1:6443", "server: https://evil.example:443");
        let why = of("alice", &[cluster("kind", &elsewhere)], Way::Ports(None)).unwrap_err();
        assert!(why.to_string().contains("its server is not on https://127.0.0.1"), "{why}");
    }

    #[rstest]
    #[case("certificate-authority-data: Q0E=", "certificate-authority-data: /etc/passwd?", "not base64")]
    #[case("clusters:", "clutter:", "clusters")]
    #[case("6443", "99999", "its server")]
    #[case("users:", "users: [", "cannot be used")]
    fn odd_ones(#[case] right: &str, #[case] wrong: &str, #[case] expected: &str) {
        let odd = KIND.replacen(right, wrong, 1);
        let why = of("alice", &[cluster("kind", &odd)], Way::Ports(None)).unwrap_err().to_string();
        assert!(why.contains(expected), "{why}");
    }

    #[test]
    fn odd_names() {
        for name in ["", "a b", "a\n- x", "A", &"a".repeat(64)] {
            let why = of("alice", &[cluster(name, KIND)], Way::Ports(None)).unwrap_err();
            assert_eq!(why, Unusable::Name(name.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn whatever_a_box_says_is_used_or_refused(text in "(\\PC|[\n :&*-]){0,300}", cut in 0..KIND.len()) {
            for said in [text.clone(), format!("{}{text}", &KIND[..cut])] {
                if let Ok(made) = of("alice", &[cluster("kind", &said)], Way::Ports(None)) {
                    prop_assert!(made.text.contains("server: https://127.0.0.1:"));
                }
            }
        }
    }
}
