//! Kubernetes in a box: made by what anybody would type, used from the laptop with a real kubectl, still there after
//! the box slept. `./devhost test` has these stories run by themselves: a cluster keeps both cores busy for a while.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxgate_tests::docker::busybox_root;
use boxgate_tests::local::{free_port, random_bytes};
use boxgate_tests::run::Running;
use boxgate_tests::terminal::Terminal;
use boxgate_tests::{Devhost, Login, Run, Setup, until, until_succeeds};

/// A cluster is there within half a minute, on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(240);

/// A web server in a cluster. Its image is made in the box.
const APP: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello}
spec:
  replicas: 2
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: hello
        image: hello:1
        env: [{name: GREETING, value: good morning}]
        command: [/bin/sh, -c]
        args:
        - |
          busybox mkdir -p /www /tmp && echo "$GREETING" >/www/index.html && echo serving
          exec busybox httpd -f -vv -p 8080 -h /www
---
apiVersion: v1
kind: Service
metadata: {name: hello}
spec:
  selector: {app: hello}
  ports: [{port: 80, targetPort: 8080}]
"#;

/// The laptop: its own kubectl, and the kubeconfig that the lobby gave it.
struct Laptop {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
}

impl Laptop {
    /// Takes over the box's kubectl, which is the right one for its clusters.
    fn new(devhost: &Devhost, login: &Login) -> Self {
        let directory = devhost.directory().join("laptop");
        fs::create_dir_all(&directory).unwrap();
        let kubectl = directory.join("kubectl");
        fs::write(&kubectl, login.ssh("cat $(command -v kubectl)").within(PATIENCE).ok().stdout).unwrap();
        Run::new("chmod").arg("755").arg(&kubectl).ok();
        Self { kubectl, kubeconfig: directory.join("config") }
    }

    fn kubectl(&self, words: &[&str]) -> Run {
        // kubectl keeps a cache in its home.
        let home = self.kubectl.parent().unwrap();
        let run = Run::new(&self.kubectl).env("KUBECONFIG", &self.kubeconfig).env("HOME", home);
        run.args(words).within(PATIENCE)
    }

    fn line(&self, words: &str) -> String {
        let (home, kubectl) = (self.kubectl.parent().unwrap(), self.kubectl.display());
        format!("HOME={} KUBECONFIG={} {kubectl} {words}", home.display(), self.kubeconfig.display())
    }

    fn until_it_answers(&self) {
        until_succeeds("the cluster to answer the laptop", PATIENCE, || {
            self.kubectl(&["--request-timeout=5s", "get", "--raw", "/readyz"])
        });
    }
}

/// What the kubeconfig says must run, with what a test's ssh needs.
fn tunnel(login: &Login, options: &[&str]) -> Running {
    login.ssh_only([&["-N", "-o", "ExitOnForwardFailure=yes"], options].concat()).within(PATIENCE * 2).start()
}

fn body(url: &str) -> String {
    let fetch = || Run::new("curl").args(["--silent", "--show-error", "--fail", "--max-time", "5", url]);
    until_succeeds("the page", Duration::from_secs(30), fetch).text()
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_cluster_in_the_box_is_used_from_the_laptop() {
    let devhost = Setup::of(&["alice"]).set("box.memory", "\"3GiB\"").start();
    let (alice, lobby) = (devhost.login("alice"), devhost.login_with_key_of("box", "alice"));
    alice.ssh("true").ok();
    lobby.ssh("kubeconfig").finish().code(1).stdout_is("").stderr_has("make one in it: kind create cluster");

    let made = alice.ssh("time -p kind create cluster").within(PATIENCE).ok();
    eprintln!(
        "kind create cluster took {}",
        made.errors().lines().rev().take(3).collect::<Vec<_>>().join(" ")
    );
    alice.ssh("kubectl get nodes").ok().stdout_has("kind-control-plane");

    let (laptop, port) = (Laptop::new(&devhost, &alice), free_port().to_string());
    let given =
        lobby.ssh(&format!("kubeconfig --port {port}")).ok().stderr_has(" -L ").stdout_has("name: alice\n");
    let forward = format!("{port}:127.0.0.1:6443");
    let given = given.stdout_has(&format!("-L {forward}"));
    fs::write(&laptop.kubeconfig, &given.stdout).unwrap();
    let ssh = tunnel(&alice, &["-L", &forward]);
    laptop.until_it_answers();
    laptop.kubectl(&["config", "current-context"]).ok().stdout_is("alice\n");
    laptop.kubectl(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=120s"]).ok();
    laptop.kubectl(&["get", "nodes"]).ok().stdout_has(" Ready ");
    let mut watch =
        laptop.kubectl(&["get", "configmaps", "--watch", "--no-headers"]).within(PATIENCE * 2).start();
    watch.expect_stdout("kube-root-ca.crt");

    use_it(&alice, &laptop);

    // The watch was quiet for all that time.
    laptop.kubectl(&["create", "configmap", "late-news"]).ok();
    watch.expect_stdout("late-news");
    drop(ssh);
    let alone = laptop.kubectl(&["--request-timeout=10s", "get", "nodes"]).finish().failed();
    alone.stdout_is("").stderr_has("refused").took_at_most(Duration::from_secs(15));
    watch.finish_within(Duration::from_secs(30));
}

/// What people do with a cluster, in one breath.
fn use_it(alice: &Login, laptop: &Laptop) {
    let import = "docker import - hello:1 && kind load docker-image hello:1";
    alice.ssh(import).input(busybox_root(None)).within(PATIENCE).ok();
    laptop.kubectl(&["apply", "-f", "-"]).input(APP).ok().stdout_has("deployment.apps/hello created");
    laptop
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=180s"])
        .ok()
        .stdout_has("rolled out");

    // A new version takes the place of the old one.
    laptop.kubectl(&["set", "env", "deployment/hello", "GREETING=good evening"]).ok();
    laptop.kubectl(&["scale", "deployment/hello", "--replicas=1"]).ok();
    laptop.kubectl(&["rollout", "status", "deployment/hello", "--timeout=180s"]).ok();
    let pod = until("one pod to be left", PATIENCE, || {
        let names = laptop.kubectl(&["get", "pods", "-l", "app=hello", "-o", "name"]).ok().text();
        let names: Vec<_> = names.lines().map(str::to_owned).collect();
        if let [pod] = &names[..] {
            Ok(pod.trim_start_matches("pod/").to_owned())
        } else {
            Err(names.join(" "))
        }
    });

    let mut logs = laptop.kubectl(&["logs", "--follow", "deployment/hello"]).start();
    logs.expect_stdout("serving");
    let local = free_port();
    let forward = laptop.kubectl(&["port-forward", "service/hello", &format!("{local}:80")]).start();
    assert_eq!(body(&format!("http://127.0.0.1:{local}/")), "good evening");
    drop(forward);
    // httpd tells of the request, and the reader of the log is told at once.
    logs.expect_stdout("url:/");
    drop(logs);

    // The cluster's own names and addresses. What answers for names starts with all else, and may be there later.
    let name = "hello.default.svc.cluster.local";
    let ask = || laptop.kubectl(&["exec", &pod, "--", "busybox", "nslookup", name]);
    let found = until_succeeds("an answer of the cluster's DNS", PATIENCE, ask);
    found.stdout_has(&format!("Name:\t{name}\n"));
    let request = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 20 $HELLO_SERVICE_HOST 80";
    laptop.kubectl(&["exec", &pod, "--", "sh", "-c", request]).ok().stdout_has("good evening");
    let terminal = laptop.line(&format!("exec -it {pod} -- busybox tty"));
    Run::new("script").args(["-qec", &terminal, "/dev/null"]).within(PATIENCE).ok().stdout_has("/dev/pts/");

    copy_much(laptop, &pod);
}

fn copy_much(laptop: &Laptop, pod: &str) {
    let directory = laptop.kubeconfig.parent().unwrap_or_else(|| Path::new("/"));
    let (there, back) = (directory.join("there"), directory.join("back"));
    let bytes = random_bytes(64 << 20);
    fs::write(&there, &bytes).unwrap();
    laptop.kubectl(&["exec", pod, "--", "busybox", "ln", "-sf", "busybox", "/bin/tar"]).ok();
    laptop.kubectl(&["cp", &there.display().to_string(), &format!("{pod}:/tmp/big")]).ok();
    laptop.kubectl(&["cp", &format!("{pod}:/tmp/big"), &back.display().to_string()]).ok();
    assert!(fs::read(&back).unwrap() == bytes, "64 MiB came back as other ones");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_cluster_is_made_in_the_background_and_survives_sleep_and_reset() {
    let devhost =
        Setup::of(&["alice"]).set("box.cluster", "\"on-first-login\"").set("box.memory", "\"2GiB\"").start();
    let (alice, lobby) = (devhost.login("alice"), devhost.login_with_key_of("box", "alice"));
    // It holds no login up, and no command hears of it.
    alice.ssh("true").ok().stdout_is("").stderr_is("");
    expect_message(&alice, "is being made");
    expect_message(&alice, "Kubernetes: kind is ready");
    alice.ssh("kubectl get nodes").ok().stdout_has("kind-control-plane");
    alice.ssh("kubectl create configmap kept --from-literal=what=this").ok();

    devhost.boxgate(&["stop", "alice"]).within(PATIENCE).ok();
    lobby
        .ssh("kubeconfig")
        .finish()
        .code(1)
        .stdout_is("")
        .stderr_has("does not run")
        .stderr_has("start alice");
    still_there(&devhost, &alice);
    devhost.boxgate(&["reset", "alice", "--yes", "alice"]).within(PATIENCE).ok();
    still_there(&devhost, &alice);
    // What its owner takes away is not made again.
    alice.ssh("kind delete cluster").within(PATIENCE).ok();
    devhost.boxgate(&["stop", "alice"]).within(PATIENCE).ok();
    alice.ssh("systemctl is-active boxgate-cluster; kind get clusters").finish().stdout_is("inactive\n");
}

fn expect_message(login: &Login, text: &str) {
    until(text, PATIENCE, || {
        let window = Terminal::open(login, 24, 100);
        window.expect("$");
        window.shows(text)
    });
}

fn still_there(devhost: &Devhost, alice: &Login) {
    until_succeeds("the cluster to be back", PATIENCE, || {
        alice.ssh("kubectl --request-timeout=5s wait --for=condition=Ready node --all")
    });
    alice.ssh("kubectl get configmap kept -o jsonpath={.data.what}").ok().stdout_is("this");
    expect_message(alice, "Kubernetes: kind is ready");
    let listed = devhost.boxgate(&["ls", "--json"]).ok().text();
    let boxes: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let memory = boxes[0]["usage"]["memory_bytes"].as_u64().unwrap();
    eprintln!("box and cluster use {} MB", memory / 1_000_000);
    // The goal is 700 MB; the rest is how far two measurements differ.
    assert!(memory < 800_000_000, "box and cluster use {memory} bytes");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn one_proxy_leads_to_all_clusters_of_a_box() {
    let devhost = Setup::of(&["alice"]).set("box.memory", "\"3GiB\"").start();
    let (alice, lobby) = (devhost.login("alice"), devhost.login_with_key_of("box", "alice"));
    alice.ssh("kind create cluster && kind create cluster --name second").within(PATIENCE).ok();
    let ports = "-L 6443:127.0.0.1:6443 -L 6444:127.0.0.1:6444 ";
    lobby.ssh("kubeconfig").ok().stdout_has(ports).stdout_has("current-context: alice");

    let (laptop, proxy) = (Laptop::new(&devhost, &alice), free_port().to_string());
    fs::write(&laptop.kubeconfig, lobby.ssh(&format!("kubeconfig --socks={proxy}")).ok().stdout).unwrap();
    let _ssh = tunnel(&alice, &["-D", &proxy]);
    laptop.until_it_answers();
    for (context, node) in [("alice", "kind-control-plane"), ("alice/second", "second-control-plane")] {
        laptop.kubectl(&["--context", context, "get", "nodes"]).ok().stdout_has(node);
    }
    // One that does not run is told, and keeps nobody from the other.
    alice.ssh("docker stop second-control-plane").within(PATIENCE).ok();
    let given = lobby.ssh("kubeconfig").ok().stderr_has("second does not answer").stdout_has("name: alice\n");
    assert!(!given.text().contains("alice/second"), "{given}");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn who_may_have_no_cluster_is_told_so() {
    let devhost = Setup::of(&["alice"]).set("box.cluster", "\"never\"").start();
    let alice = devhost.login("alice");
    alice.ssh("kind create cluster").finish().code(1).stdout_is("").stderr_has("cluster = \"never\"");
    alice.ssh("kind version").ok().stdout_has("kind v");
}
