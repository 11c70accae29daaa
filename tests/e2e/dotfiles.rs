//! The dotfiles of the operator's settings: brought into a home once, in the background; what goes wrong is said, and is in
//! nobody's way.

use std::env;
use std::time::Duration;

use boxgate_tests::docker;
use boxgate_tests::terminal::Terminal;
use boxgate_tests::{Devhost, Login, Run, Setup, until, until_succeeds};

const LIMIT: Duration = Duration::from_secs(30);
const MADE: &str = "git init -q . && git add --all && \
    git -c user.name=o -c user.email=o@example.org commit -qm dotfiles";

/// The box image with repositories in it.
fn image(instance: &str) -> String {
    let base = env::var("BOXGATE_IMAGE").unwrap_or_else(|_| "boxgate/box:latest".to_owned());
    let image = format!("{instance}/dotfiles:latest");
    let script = |name: &str, lines: &str| {
        format!(
            "RUN mkdir /srv/{name} && cd /srv/{name} && printf '{lines}' >install.sh && chmod 755 install.sh && {MADE}\n"
        )
    };
    let files = format!(
        "RUN mkdir -p /srv/files/.config && cd /srv/files && echo 'set ruler' >.vimrc && echo 'from=dotfiles' >.bashrc && \
         echo this >README && echo that >.config/that && {MADE}\n"
    );
    let dockerfile = format!("FROM {base}\nLABEL io.boxgate.instance={instance}\n{files}")
        + &script("script", "#!/bin/sh\\necho \"$(whoami) $HOME $PWD\" >>~/installed\\n")
        + &script("failing", "#!/bin/sh\\necho I cannot\\nexit 3\\n");
    Run::new(docker::program())
        .args(["build", "--quiet", "--tag", &image, "-"])
        .env("DOCKER_BUILDKIT", "0")
        .input(dockerfile)
        .within(LIMIT * 3)
        .ok();
    image
}

fn start(users: &[(&str, &str)]) -> Devhost {
    let names: Vec<_> = users.iter().map(|(name, _)| *name).collect();
    let setup = Setup::of(&names);
    let image = format!("{:?}", image(&setup.instance()));
    let setup = setup.set("box.image", &image).set("box.dotfiles", "\"file:///srv/files\"");
    let with_groups = users.iter().fold(setup, |setup, (name, url)| {
        setup
            .set(&format!("groups.{name}.members"), &format!("[{name:?}]"))
            .set(&format!("groups.{name}.box.dotfiles"), &format!("{url:?}"))
    });
    with_groups.start()
}

#[track_caller]
fn expect_state(login: &Login, begin: &str) {
    until(begin, LIMIT, || {
        let state =
            login.ssh("cat .local/state/boxgate/dotfiles .local/state/boxgate/dotfiles.log").finish().text();
        if state.starts_with(begin) { Ok(()) } else { Err(state) }
    });
}

/// A login at a terminal is told so, and nothing else is.
#[track_caller]
fn expect_message(login: &Login, text: &str) {
    let window = Terminal::open(login, 24, 200);
    window.expect(text);
    login.ssh("true").ok().stdout_is("").stderr_is("");
    login.sftp("pwd\n").ok().stderr_is("");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_home_gets_its_dotfiles_once() {
    let devhost = start(&[("alice", "file:///srv/files"), ("bob", "file:///srv/script"), ("carol", "none")]);
    let (alice, bob, carol) = (devhost.login("alice"), devhost.login("bob"), devhost.login("carol"));
    alice.ssh("true").ok().stdout_is("").stderr_is("");
    expect_state(&alice, "done: file:///srv/files\n");
    let look =
        "readlink .vimrc .bashrc .config; cat .config/that; ls README; grep -c PS1 .bashrc.before-dotfiles";
    let found = alice.ssh(look).finish().stderr_has("README");
    assert!(
        found.text().starts_with(
            "/home/alice/.dotfiles/.vimrc\n/home/alice/.dotfiles/.bashrc\n/home/alice/.dotfiles/.config\nthat\n"
        ),
        "{found}"
    );

    bob.ssh("true").ok();
    expect_state(&bob, "done: file:///srv/script\n");
    let installed = "bob /home/bob /home/bob/.dotfiles\n";
    bob.ssh("cat installed").ok().stdout_is(installed);
    devhost.boxgate(&["stop", "bob"]).within(LIMIT * 2).ok();
    bob.ssh("systemctl --user --wait is-system-running >state; cat installed").ok().stdout_is(installed);
    // Until its owner says so.
    bob.ssh("/usr/lib/boxgate/dotfiles").ok().stderr_has("done: file:///srv/script");
    bob.ssh("cat installed").ok().stdout_is(installed.repeat(2));

    carol.ssh("ls -d .dotfiles").finish().failed();
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn what_goes_wrong_is_said_at_a_terminal_and_nowhere_else() {
    let nowhere = "https://127.0.0.1:8443/dotfiles.git";
    let devhost = start(&[("alice", "file:///srv/failing"), ("bob", nowhere)]);
    let (alice, bob) = (devhost.login("alice"), devhost.login("bob"));
    alice.ssh("true").ok().stdout_is("").stderr_is("");
    expect_state(&alice, "failed: its install.sh ended with exit code 3\n");
    expect_message(
        &alice,
        "Dotfiles: its install.sh ended with exit code 3; see ~/.local/state/boxgate/dotfiles.log",
    );
    alice.ssh("cat .local/state/boxgate/dotfiles.log").ok().stdout_has("\nI cannot");

    expect_state(&bob, &format!("failed: {nowhere} cannot be fetched\n"));
    expect_message(&bob, &format!("Dotfiles: {nowhere} cannot be fetched; see"));
    // A server that never answers is not waited for, and one that does is believed.
    let mut silent = bob.ssh_with(["-tt"], "exec nc -v -l -k 127.0.0.1 8443").start();
    silent.expect_stdout("istening");
    let again = bob.ssh("BOXGATE_FETCH_SECONDS=2 /usr/lib/boxgate/dotfiles").finish();
    again.code(1).stderr_has("cannot be fetched").took_at_most(Duration::from_secs(15));
    drop(silent);
    serve_repository(&bob);
    bob.ssh("GIT_SSL_CAINFO=~/cert.pem /usr/lib/boxgate/dotfiles").within(LIMIT).ok().stderr_has("done: ");
    bob.ssh("cat installed").ok().stdout_is("bob /home/bob /home/bob/.dotfiles\n");
}

/// A real HTTPS server with a repository, in the box itself.
fn serve_repository(bob: &Login) {
    let make = "mkdir www && git -c safe.directory='*' clone -q --bare --upload-pack='git -c safe.directory=* upload-pack' \
                file:///srv/script www/dotfiles.git && git -C www/dotfiles.git update-server-info && \
                openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=127.0.0.1 \
                -addext subjectAltName=IP:127.0.0.1";
    bob.ssh(make).ok();
    let serve = "import http.server, ssl; s = http.server.HTTPServer((\"127.0.0.1\", 8443), \
                 http.server.SimpleHTTPRequestHandler); c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); \
                 c.load_cert_chain(\"cert.pem\", \"key.pem\"); s.socket = c.wrap_socket(s.socket, server_side=True); \
                 import os; os.chdir(\"www\"); s.serve_forever()";
    bob.ssh(&format!("nohup python3 -c '{serve}' >serve.log 2>&1 </dev/null &")).ok();
    until_succeeds("the server", LIMIT, || bob.ssh("curl -sS --cacert cert.pem https://127.0.0.1:8443/"));
}
