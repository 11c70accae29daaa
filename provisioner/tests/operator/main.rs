//! `boxgate` as an operator meets it: what it prints where, its exit codes, what it asks of the provisioner. Behind the
//! socket is a provisioner that speaks the API and has no boxes but those that a test gives it.
#![expect(clippy::unwrap_used, reason = "a test's set-up may panic")]

mod site;

use std::fs;

use boxgate_provisioner_api::{
    BoxState, BoxSummary, FailureCode, GcReport, GcRequest, KeepRequest, Order, Orphan, OrphanKind,
};
use rstest::rstest;
use site::{Asked, Site, failure};

#[tokio::test(flavor = "multi_thread")]
async fn a_list_for_scripts_for_people_and_for_programs() {
    let site = Site::with(&["alice", "alice+web", "bob"]).await;
    let listed = site.run(&["ls"]).await.code(0).stderr_is("");
    let boxes: Vec<_> = listed.stdout.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(boxes, ["alice", "alice+web", "bob"]);
    assert_eq!(listed.stdout.lines().next().unwrap().split('\t').count(), 20);

    let table = site.run(&["ls", "--table"]).await.code(0).stdout;
    assert!(table.starts_with("USER   BOX        STATE  SINCE  CONN       CPU"), "{table}");
    assert!(!table.contains('\u{1b}'));
    assert!(site.run(&["ls", "--table", "--color", "always"]).await.stdout.contains('\u{1b}'));

    let json = site.run(&["ls", "--json", "alice"]).await.code(0).stdout;
    let boxes: Vec<BoxSummary> = serde_json::from_str(&json).unwrap();
    assert_eq!(boxes.iter().map(|devbox| devbox.id.to_string()).collect::<Vec<_>>(), ["alice", "alice+web"]);
    let one = site.run(&["ls", "alice+web", "bob"]).await.code(0).stdout;
    assert_eq!(one.lines().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn use_is_measured_unless_it_must_be_quick() {
    let site = Site::with(&["alice"]).await;
    site.run(&["ls"]).await.code(0);
    site.run(&["ls", "--quick"]).await.code(0);
    assert_eq!(site.asked(), [Asked::Boxes { usage: true }, Asked::Boxes { usage: false }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_is_no_failure() {
    let site = Site::with(&["alice"]).await;
    let line =
        format!("{} --socket {} ls | true; exit ${{PIPESTATUS[0]}}", site::PROGRAM, site.socket().display());
    for _ in 0..5 {
        let run = site.shell(&line).await.code(0);
        assert_eq!(run.stderr, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_box_or_none() {
    let site = Site::with(&["alice"]).await;
    let shown = site.run(&["show", "alice"]).await.code(0).stdout;
    assert!(shown.contains("\nmemory       60.0 MiB of 1.0 GiB\n"), "{shown}");
    let json = site.run(&["show", "alice", "--json"]).await.code(0).stdout;
    assert_eq!(serde_json::from_str::<BoxSummary>(&json).unwrap().id.to_string(), "alice");
    let missing = site.run(&["show", "bob"]).await.code(3).stdout_is("");
    missing.stderr_is("boxgate: there is no box bob\n    boxgate ls lists the boxes there are\n");
}

#[rstest]
#[case(&["new", "alice+web"], Order::New, "ready")]
#[case(&["start", "alice+web"], Order::Start, "ready")]
#[case(&["stop", "alice+web"], Order::Stop, "stopped")]
#[case(&["restart", "alice+web"], Order::Restart, "ready")]
#[case(&["reset", "alice+web", "--yes", "alice+web"], Order::Reset, "made anew")]
#[case(&["rm", "alice+web", "--yes", "alice+web"], Order::Remove, "removed")]
#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_given_and_waited_for(#[case] words: &[&str], #[case] order: Order, #[case] done: &str) {
    let site = Site::with(&[]).await;
    let said = format!("boxgate: alice+web: working on it\nboxgate: alice+web: {done}\n");
    site.run(words).await.code(0).stdout_is("").stderr_is(&said);
    match site.asked().as_slice() {
        [Asked::Order(asked)] => {
            assert_eq!((asked.devbox.to_string().as_str(), asked.order), ("alice+web", order));
            assert!(asked.client.starts_with("operator "), "{asked:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_fails_says_why_and_what_to_do() {
    let site = Site::with(&[]).await;
    site.fail("alice", failure(FailureCode::NameTaken, "box alice: no room", "stop\u{1b}[2J another"));
    let run = site.run(&["start", "alice"]).await.code(1);
    run.stderr_is("boxgate: alice: working on it\nboxgate: box alice: no room\n    stop [2J another\n");
    site.fail("bob", failure(FailureCode::NoSuchBox, "there is no box bob", "boxgate new bob makes it"));
    site.run(&["stop", "bob"]).await.code(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_does_not_stop_the_others() {
    let site = Site::with(&[]).await;
    site.fail("bob", failure(FailureCode::NoSuchBox, "there is no box bob", "none"));
    let run = site.run(&["stop", "alice", "bob", "carol"]).await.code(3);
    for word in ["alice: stopped", "carol: stopped", "there is no box bob"] {
        assert!(run.stderr.contains(word), "{}", run.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_those_that_are_not_so_already() {
    let site = Site::with(&["alice", "bob", "carol"]).await;
    site.change("bob", |devbox| devbox.state = BoxState::Stopped);
    site.change("carol", |devbox| devbox.state = BoxState::Failed);
    site.run(&["start", "--all"]).await.code(0);
    assert_eq!(site.ordered(), ["bob", "carol"]);
    site.run(&["stop", "--all"]).await.code(0);
    assert_eq!(site.ordered(), ["alice", "carol"]);
    site.run(&["restart", "--all"]).await.code(0);
    assert_eq!(site.ordered(), ["alice"]);
}

#[rstest]
#[case(&["rm", "alice"], "say it on the command line: boxgate rm alice --yes alice")]
#[case(&["reset", "alice"], "say it on the command line: boxgate reset alice --yes alice")]
#[case(&["rm", "alice", "--yes", "alice+web"], "box alice: not confirmed, so nothing was changed")]
#[tokio::test(flavor = "multi_thread")]
async fn what_loses_data_is_done_only_when_it_is_named_again(#[case] words: &[&str], #[case] says: &str) {
    let site = Site::with(&["alice", "alice+web"]).await;
    let run = site.run(words).await.code(5);
    assert!(run.stderr.contains(says), "{}", run.stderr);
    assert_eq!(site.asked(), []);
}

#[rstest]
#[case("alice+web\n", 0, true)]
#[case("alice\n", 5, false)]
#[case("y\n", 5, false)]
#[case("\n", 5, false)]
#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_the_name_is_typed(#[case] typed: &str, #[case] code: i32, #[case] removed: bool) {
    let site = Site::with(&["alice", "alice+web"]).await;
    let run = site.on_a_terminal(&["rm", "alice+web"], "Type the box's name", typed).await.code(code);
    assert!(run.stdout.contains("box alice+web is removed with its home"), "{}", run.stdout);
    assert!(run.stdout.contains("2 connections to it end"), "{}", run.stdout);
    assert_eq!(!site.ordered().is_empty(), removed);
}

#[rstest]
#[case("8h", 8 * 3600)]
#[case("off", 0)]
#[tokio::test(flavor = "multi_thread")]
async fn a_box_is_kept(#[case] time: &str, #[case] seconds: u64) {
    let site = Site::with(&["alice"]).await;
    let run = site.run(&["keep", "alice", time]).await.code(0);
    assert_eq!(run.stdout.contains("is kept until 2026-"), seconds > 0, "{}", run.stdout);
    match site.asked().as_slice() {
        [Asked::Keep(KeepRequest { seconds: asked, .. })] => assert_eq!(*asked, seconds),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_crosses_as_it_is() {
    let site = Site::with(&["alice+web"]).await;
    let run = site.run(&["logs", "alice+web", "-n", "7"]).await.code(0);
    run.stdout_is("[ OK ] booted\nlogin:\n");
    let query = "box=alice%2Bweb&lines=7&follow=false".to_owned();
    assert_eq!(site.asked(), [Asked::Logs(query)]);
    let run = site.on_a_terminal(&["logs", "alice+web"], "login:", "").await.code(0);
    assert!(run.stdout.starts_with("[ OK ] booted\r\nlogin:"), "{:?}", run.stdout);
    site.run(&["logs", "bob"]).await.code(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_over() {
    let site = Site::with(&[]).await;
    site.run(&["gc"]).await.code(0).stdout_is("").stderr_is("boxgate: nothing is left over\n");
    let orphan = |kind, name: &str, fault: Option<&str>| Orphan {
        kind,
        name: name.to_owned(),
        reason: "its box is gone".to_owned(),
        removed: false,
        fault: fault.map(str::to_owned),
    };
    site.leave(orphan(OrphanKind::Network, "boxgate.bob", None));
    let found = site.run(&["gc", "--dry-run"]).await.code(0);
    found.stdout_is("found\tnetwork\tboxgate.bob\tits box is gone\n");
    site.leave(orphan(OrphanKind::Container, "boxgate.dora", Some("is in use")));
    let run = site.run(&["gc"]).await.code(1);
    run.stdout_is(
        "removed\tnetwork\tboxgate.bob\tits box is gone\nkept\tcontainer\tboxgate.dora\tis in use\n",
    );
    let json = site.run(&["gc", "--json"]).await.code(1).stdout;
    assert_eq!(serde_json::from_str::<GcReport>(&json).unwrap().orphans.len(), 2);
    let asked = [true, false, true, true].map(|remove| Asked::Gc(GcRequest { remove }));
    assert_eq!(site.asked(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_run_in_a_box_that_does_not_run() {
    let site = Site::with(&["alice"]).await;
    site.change("alice", |devbox| devbox.state = BoxState::Stopped);
    let run = site.run(&["exec", "alice", "true"]).await.code(1);
    run.stderr_is(
        "boxgate: box alice is stopped: nothing can be run in it\n    start it first: boxgate start alice\n",
    );
    site.run(&["exec", "bob"]).await.code(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn top_draws_and_ends() {
    let site = Site::with(&["alice", "bob"]).await;
    let run = site.on_a_terminal(&["top", "--interval", "500ms"], "USER", "q").await.code(0);
    for shown in ["2 of 2 boxes ready", "60.0 MiB/1.0 GiB", "\u{1b}[?1049l"] {
        assert!(run.stdout.contains(shown), "{shown:?}: {:?}", run.stdout);
    }
    site.run(&["top"])
        .await
        .code(2)
        .stderr_is("boxgate: top needs a terminal\n    for scripts there is boxgate ls --json\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doctor_without_docker_says_so_and_fails() {
    let site = Site::with(&["alice"]).await;
    site.change("alice", |devbox| devbox.state = BoxState::Failed);
    let json = site.run(&["doctor", "--json"]).await.code(1).stdout;
    let findings: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let status = |check: &str| {
        let found = findings.iter().find(|finding| finding["check"] == check).unwrap();
        assert_eq!(found["status"] == "ok", found["remedy"].is_null(), "{found}");
        found["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (status("docker"), status("provisioner"), status("boxes")),
        ("fail".into(), "ok".into(), "warn".into())
    );
    let text = site.run(&["doctor"]).await.code(1);
    assert!(
        text.stdout.contains("FAIL  docker       docker: cannot be reached: there is no "),
        "{}",
        text.stdout
    );
    assert!(text.stderr.contains(" failed\n"), "{}", text.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_doctor_who_is_told_to_removes_anything() {
    let site = Site::with(&[]).await;
    site.run(&["doctor"]).await.code(1);
    site.run(&["doctor", "--fix"]).await.code(1);
    let asked: Vec<_> = site.asked().into_iter().filter(|asked| matches!(asked, Asked::Gc(_))).collect();
    assert_eq!(asked, [false, true].map(|remove| Asked::Gc(GcRequest { remove })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provisioner_that_is_not_there_or_refuses() {
    let site = Site::with(&[]).await;
    let run = site.run(&["--socket", "/no/such/socket", "ls"]).await.code(75).stdout_is("");
    assert!(
        run.stderr.starts_with("boxgate: provisioner /no/such/socket: cannot be reached: "),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("does boxgate-provisioner run?"), "{}", run.stderr);
    site.refuse();
    let run = site.run(&["stop", "alice"]).await.code(4);
    assert!(run.stderr.ends_with("    run it as root: sudo boxgate …\n"), "{}", run.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_the_configurations() {
    let site = Site::with(&["alice"]).await;
    let config = site.config();
    site.run_alone(&["--config", config.to_str().unwrap(), "ls"]).await.code(0);
    fs::write(&config, "[box]\nmemory = \"1 byte\"\nruntime = 7\n").unwrap();
    let run = site.run_alone(&["ls", "--config", config.to_str().unwrap()]).await.code(2);
    let faults = [":2: box.memory: ", ":3: box.runtime: "];
    assert!(
        faults.iter().all(|fault| run.stderr.contains(&format!("{}{fault}", config.display()))),
        "{}",
        run.stderr
    );
    site.run_alone(&["--config", "/no/such/boxgate.toml", "ls"]).await.code(2);
}

#[rstest]
#[case(&["show", "../etc"], "the name may hold only a-z")]
#[case(&["stop"], "--all")]
#[case(&["frobnicate"], "unrecognized subcommand")]
#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_are_a_usage_error(#[case] words: &[&str], #[case] says: &str) {
    let site = Site::with(&[]).await;
    let run = site.run(words).await.code(2);
    assert!(run.stderr.contains(says), "{}", run.stderr);
    assert_eq!(site.asked(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_and_manual_pages_know_every_verb() {
    let site = Site::with(&[]).await;
    let verbs = [
        "ls", "show", "new", "start", "stop", "restart", "reset", "rm", "keep", "logs", "exec", "top",
        "doctor", "gc", "backup", "restore",
    ];
    for shell in ["bash", "zsh", "fish"] {
        let script = site.run_alone(&["completions", shell]).await.code(0).stdout;
        assert!(verbs.iter().all(|verb| script.contains(verb)), "{shell}");
    }
    let script = site.directory().join("completions");
    fs::write(&script, site.run_alone(&["completions", "bash"]).await.stdout).unwrap();
    let line = format!(
        "source {}; COMP_WORDS=(boxgate re); COMP_CWORD=1; _boxgate boxgate re boxgate; echo \"${{COMPREPLY[*]}}\"",
        script.display()
    );
    site.shell(&line).await.code(0).stdout_is("restart reset restore\n");

    let pages = site.directory().join("man");
    site.run_alone(&["man", pages.to_str().unwrap()]).await.code(0).stdout_is("");
    for verb in verbs {
        let page = fs::read_to_string(pages.join(format!("boxgate-{verb}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
    let page = fs::read_to_string(pages.join("boxgate.1")).unwrap();
    assert!(page.contains("Exit codes"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_help_says_what_exit_codes_mean() {
    let site = Site::with(&[]).await;
    let help = site.run_alone(&["--help"]).await.code(0).stdout;
    assert!(help.contains("  3    there is no such box\n"), "{help}");
}
