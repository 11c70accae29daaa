//! Docker in a box, as people use it: an app of several services, images built there, ports reached from the laptop,
//! data that outlives the container around it, logs that do not fill the disk.
//!
//! Of the full box image: compose and buildx are in no other on every distribution. `./devhost test` runs these
//! stories with it.

use std::time::Duration;

use boxgate_tests::docker::busybox_root;
use boxgate_tests::local::free_port;
use boxgate_tests::{Devhost, Login, Run, Running, Setup, until};

/// Docker starts some seconds after the box, and containers after that.
const PATIENCE: Duration = Duration::from_secs(90);

/// `web` answers with what it gets from `store` by its name, and `store` serves what `worker` put into the volume.
const COMPOSE: &str = r#"
services:
  web:
    build: web
    restart: unless-stopped
    stop_signal: KILL
    ports: ["127.0.0.1:18080:8080"]
    depends_on: [store]
  store:
    image: tiny
    restart: unless-stopped
    stop_signal: KILL
    command: [/bin/busybox, httpd, -f, -p, "8080", -h, /data]
    volumes: ["data:/data"]
    depends_on: {worker: {condition: service_completed_successfully}}
  worker:
    image: tiny
    command: [/bin/sh, -c, "echo 'three services say hello' >/data/greeting"]
    volumes: ["data:/data"]
volumes: {data: {}}
"#;

const WEB: &str = r#"FROM tiny
RUN ["/bin/busybox", "mkdir", "-p", "/www/cgi-bin"]
COPY --chmod=755 ask /www/cgi-bin/ask
CMD ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"]
"#;

const ASK: &str = r"#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
exec /bin/busybox wget -q -O - http://store:8080/greeting
";

/// An image of nothing but busybox: tests have no registry.
#[track_caller]
fn bring_image(alice: &Login) {
    alice.ssh("docker import - tiny").input(busybox_root(None)).within(PATIENCE).ok();
}

/// The laptop's way to a port in the box.
fn forward(alice: &Login, there: &str) -> (Running, String) {
    let port = free_port();
    let forward = format!("{port}:{there}");
    let ssh =
        alice.ssh_only(["-N", "-o", "ExitOnForwardFailure=yes", "-L", &forward]).within(PATIENCE).start();
    (ssh, format!("http://127.0.0.1:{port}"))
}

#[track_caller]
fn assert_serves(url: &str, body: &str) {
    until("the page", PATIENCE, || {
        let got = Run::new("curl").args(["-sS", "--fail", "--max-time", "5", url]).finish();
        if got.succeeded() && got.text() == body { Ok(()) } else { Err(got.to_string()) }
    });
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn an_app_of_three_services_survives_sleep_and_reset() {
    let devhost = Devhost::start(&["alice"]);
    let alice = devhost.login("alice");
    bring_image(&alice);
    alice.ssh("mkdir -p shop/web && cat >shop/compose.yaml").input(COMPOSE).ok();
    alice.ssh("cat >shop/web/Dockerfile").input(WEB).ok();
    alice.ssh("cat >shop/web/ask").input(ASK).ok();
    alice.ssh("cd shop && docker compose up --detach --wait store web").within(PATIENCE).ok();
    assert_answers(&alice);

    devhost.boxgate(&["stop", "alice"]).within(PATIENCE).ok();
    assert_answers(&alice);
    devhost.boxgate(&["reset", "alice", "--yes", "alice"]).within(PATIENCE).ok();
    assert_answers(&alice);
    alice.ssh("docker image inspect --format {{.Os}} tiny shop-web").ok().stdout_is("linux\nlinux\n");
    alice.ssh("cd shop && docker compose down --volumes").within(PATIENCE).ok();
    alice.ssh("docker ps --all --quiet; docker volume ls --quiet").ok().stdout_is("");
}

/// The whole chain, from the laptop.
#[track_caller]
fn assert_answers(alice: &Login) {
    let (_ssh, url) = forward(alice, "127.0.0.1:18080");
    assert_serves(&format!("{url}/cgi-bin/ask"), "three services say hello");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn buildx_builds_and_a_port_published_to_all_addresses_is_reached() {
    let devhost = Devhost::start(&["alice"]);
    let alice = devhost.login("alice");
    bring_image(&alice);
    let dockerfile = "FROM tiny AS made\nRUN [\"/bin/sh\", \"-c\", \"/bin/busybox mkdir /www; echo built in the box >/www/index.html\"]\n\
                      FROM tiny\nCOPY --from=made /www /www\nCMD [\"/bin/busybox\", \"httpd\", \"-f\", \"-p\", \"80\", \"-h\", \"/www\"]\n";
    alice.ssh("docker buildx build --tag page -").input(dockerfile).within(PATIENCE).ok();
    alice.ssh("docker run --detach --publish 8088:80 page").ok();
    let (_ssh, url) = forward(&alice, "localhost:8088");
    assert_serves(&url, "built in the box");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_chatty_container_does_not_fill_the_disk() {
    let devhost = Devhost::start(&["alice"]);
    let alice = devhost.login("alice");
    bring_image(&alice);
    // 120 MB in lines of a thousand bytes, and a last one.
    let chat = "l=$(/bin/busybox printf %0999d 0); /bin/busybox yes $l | /bin/busybox head -n 120000; echo last words";
    let run = format!("docker run --name chatty tiny /bin/sh -c '{chat}' | wc -c");
    alice.ssh(&run).within(PATIENCE).ok().stdout_is("120000011\n");
    alice.ssh("docker logs --tail 1 chatty").ok().stdout_is("last words\n");
    let kept =
        alice.ssh("sudo sh -c 'du -cb /var/lib/docker/containers/*/*-json.log*' | tail -n 1").ok().text();
    let kept: u64 = kept.split('\t').next().unwrap().parse().unwrap();
    assert!((1_000_000..=31_000_000).contains(&kept), "{kept} bytes of 120 MB are kept");
}

/// A registry of one image, which writes down what it is asked for.
const REGISTRY: &str = include_str!("registry.py");

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn images_come_from_the_operators_mirror() {
    let mirror = "[\"http://127.0.0.1:5001\"]";
    let devhost = Setup::of(&["alice"]).set("box.registry_mirrors", mirror).start();
    let alice = devhost.login("alice");
    alice.ssh("cat >registry.py").input(REGISTRY).ok();
    alice.ssh("cat >root.tar").input(busybox_root(None)).ok();
    let mut registry = alice.ssh("exec python3 registry.py <root.tar").within(PATIENCE * 3).start();
    registry.expect_stdout("serving");
    alice
        .ssh("docker info --format '{{.RegistryConfig.Mirrors}}'")
        .ok()
        .stdout_is("[http://127.0.0.1:5001/]\n");
    alice
        .ssh("docker run --rm from-the-mirror /bin/busybox echo pulled")
        .within(PATIENCE)
        .ok()
        .stdout_is("pulled\n");
    registry.expect_stderr("GET /v2/library/from-the-mirror/manifests/");
    // The rest of Docker's settings is as it was.
    alice.ssh("docker info --format '{{.LoggingDriver}}'").ok().stdout_is("json-file\n");
}
