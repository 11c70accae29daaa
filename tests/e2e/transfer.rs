//! Files go both ways, by each of the usual programs.

use std::fs;
use std::path::{Path, PathBuf};

use boxgate_tests::local::{make_tree, random_bytes};
use boxgate_tests::{Devhost, Login, Run};

/// A directory of this story's own, here.
fn workplace(devhost: &Devhost, name: &str) -> PathBuf {
    let place = devhost.directory().join(name);
    fs::create_dir(&place).unwrap();
    place
}

/// Both trees must have the same files with the same contents.
#[track_caller]
fn assert_same(one: &Path, two: &Path) {
    Run::new("diff").arg("-r").arg(one).arg(two).ok().stdout_is("");
}

#[track_caller]
fn scp_there_and_back(devhost: &Devhost, protocol: &[&str], name: &str) {
    let (alice, place) = (devhost.login("alice"), workplace(devhost, name));
    let (tree, back) = (place.join("tree"), place.join("back"));
    make_tree(&tree);
    let recursive = [protocol, &["-r", "-p"]].concat();
    alice.scp(&recursive, tree.to_str().unwrap(), &format!(":{name}")).ok();
    alice.ssh(&format!("cat '{name}/with space and ünïcode'")).ok().stdout_is("odd\n");
    alice.scp(&recursive, &format!(":{name}"), back.to_str().unwrap()).ok();
    assert_same(&tree, &back);
    alice.scp(protocol, ":no-such-file", back.to_str().unwrap()).finish().code(1).stderr_has("No such file");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn scp_over_sftp() {
    scp_there_and_back(&Devhost::shared(), &["-s"], "scp-sftp");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn scp_by_its_old_protocol() {
    scp_there_and_back(&Devhost::shared(), &["-O"], "scp-old");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn sftp_puts_gets_lists_and_renames() {
    let devhost = Devhost::shared();
    let (alice, place) = (devhost.login("alice"), workplace(&devhost, "sftp"));
    let (there, back) = (place.join("there"), place.join("back"));
    fs::write(&there, random_bytes(5_000_000)).unwrap();
    let (from, to) = (there.display(), back.display());
    let batch = format!(
        "mkdir sftp-story\ncd sftp-story\nput {from} first\nrename first second\nchmod 600 second\n\
         ls -l\nget second {to}\nrm second\ncd ..\nrmdir sftp-story\n"
    );
    alice.sftp(&batch).ok().stdout_has("-rw------- ").stdout_has("second");
    assert_same(&there, &back);
    alice.sftp("get no-such-file\n").finish().code(1).stderr_has("not found");
}

#[track_caller]
fn rsync(alice: &Login, options: &[&str], from: &str, to: &str) -> String {
    alice.rsync(&[&["-a", "--itemize-changes"], options].concat(), from, to).ok().text()
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn rsync_sends_what_changed_and_nothing_else() {
    let devhost = Devhost::shared();
    let (alice, place) = (devhost.login("alice"), workplace(&devhost, "rsync"));
    let (tree, back) = (place.join("tree"), place.join("back"));
    make_tree(&tree);
    let (here, home) = (format!("{}/", tree.display()), format!("{}/", back.display()));
    rsync(&alice, &[], &here, ":rsync-story/");

    let mut large = fs::read(tree.join("large")).unwrap();
    large[1_500_000] ^= 1;
    fs::write(tree.join("large"), large).unwrap();
    let changed = rsync(&alice, &["--checksum"], &here, ":rsync-story/");
    let files: Vec<_> = changed.lines().filter(|line| line.starts_with("<f")).collect();
    assert!(matches!(files[..], [file] if file.ends_with(" large")), "only large had changed:\n{changed}");

    alice.ssh("rm rsync-story/empty").ok();
    Run::new("cp").args(["-a", &here, &home]).ok();
    rsync(&alice, &["--delete", "--checksum"], ":rsync-story/", &home);
    assert!(!back.join("empty").exists(), "what was removed there is removed here");
    fs::remove_file(tree.join("empty")).unwrap();
    assert_same(&tree, &back);
}
