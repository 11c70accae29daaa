//! Homes and Docker data on their way out of a host and into another: two installations on this machine.

use std::fs;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use boxgate_provisioner_api::{BoxState, FailureCode, Order, OrphanKind};
use rstest::rstest;
use tar::EntryType as Kind;
use tokio::time::{Instant, sleep, timeout};

use crate::installation::{Installation, docker, docker_fails, image};
use crate::proxy::QUICK;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Of each kind that a file can be, in both volumes; `DESCRIBE` tells them apart. Written on the host, since not every image
/// has the tools.
const FURNISH: &str = r#"
import os, socket, struct, sys
home, data = sys.argv[1] + "/alice", sys.argv[2]
os.umask(0)
os.makedirs(home, exist_ok=True)
os.chdir(home)
def write(path, content=b"x", mode=0o644):
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, mode)
os.mkdir("odd", 0o750)
for name in [b"two\nlines", b"-rf * $HOME", b"\377\376", "\u00fcn\u00ef".encode(), b"n" * 255]:
    write(b"odd/" + name)
write("linked", b"one"); os.link("linked", "odd/linked"); os.symlink("/etc/passwd", "odd/symlink")
write("attributed"); os.setxattr("attributed", "user.colour", b"blue\0"); os.setxattr("attributed", "trusted.secret", b"7")
# capabilities(7): cap_net_raw+ep, in its second version.
os.setxattr("attributed", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0))
# acl(5): user::rw-, user:1234:r--, group::r--, mask::r--, other::r--.
entries = [(1, 6, 0xffffffff), (2, 4, 1234), (4, 4, 0xffffffff), (16, 4, 0xffffffff), (32, 4, 0xffffffff)]
write("acl"); os.setxattr("acl", "system.posix_acl_access", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries))
write("sparse"); os.truncate("sparse", 1 << 30)
with open("sparse", "ab") as file: file.write(b"end")
write("setuid", b"true", 0o4755); os.mkfifo("fifo", 0o600); os.mkdir("sticky"); os.chmod("sticky", 0o1777)
write("old"); os.utime("old", ns=(981173106789000001, 981173106789000001))
socket.socket(socket.AF_UNIX).bind("socket")
os.chown("odd", 1000, 1000); os.lchown("odd/symlink", 165536, 165537); os.chown("linked", 1000, 4000000000)
diff = data + "/overlay2/x/diff"
os.makedirs(diff); os.chdir(diff)
os.mknod("whiteout", 0o020600, os.makedev(0, 0)); os.mkdir("opaque"); os.setxattr("opaque", "trusted.overlay.opaque", b"y")
"#;

/// All that is worth keeping of each file, sockets left out.
const DESCRIBE: &str = r#"
import hashlib, os, stat, sys
names = {}
for tree in [sys.argv[1], sys.argv[2] + "/overlay2/x"]:
    for directory, directories, files in sorted(os.walk(os.fsencode(tree))):
        for path in sorted([directory] + [os.path.join(directory, name) for name in directories + files]):
            at = os.lstat(path)
            if stat.S_ISSOCK(at.st_mode):
                continue
            same = names.setdefault((at.st_dev, at.st_ino), os.path.relpath(path, os.fsencode(tree)))
            content = ""
            if stat.S_ISREG(at.st_mode) and at.st_size < 1 << 20:
                with open(path, "rb") as file: content = hashlib.sha256(file.read()).hexdigest()[:16]
            if stat.S_ISLNK(at.st_mode): content = os.readlink(path)
            attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(os.listxattr(path, follow_symlinks=False))}
            size = at.st_size if not stat.S_ISDIR(at.st_mode) else 0
            print(same, oct(at.st_mode), at.st_uid, at.st_gid, at.st_nlink, size, at.st_rdev, at.st_mtime_ns, content, attributes)
            assert size < 1 << 30 or at.st_blocks < 100, "it is sparse no more"
"#;

/// With a box of alice's that has what `FURNISH` makes.
async fn furnished() -> Installation {
    let mut installation = Installation::new().await;
    installation.boot_with(QUICK).await;
    installation.ensure("alice").await.unwrap();
    on_volumes(&installation, FURNISH);
    installation
}

/// Runs a program of Python's with the places of alice's volumes on this host.
fn on_volumes(installation: &Installation, program: &str) -> String {
    let place = |of: &str| {
        docker(&[
            "volume",
            "inspect",
            "--format",
            "{{.Mountpoint}}",
            &installation.name(&format!("alice.{of}")),
        ])
    };
    let mut python = std::process::Command::new("python3");
    let output = python.args(["-c", program, &place("home"), &place("docker")]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn boxgate(installation: &Installation, words: &[&str]) -> Output {
    let mut command = installation.boxgate(words);
    command.stdin(Stdio::null()).kill_on_drop(true);
    timeout(PATIENCE, command.output()).await.unwrap().unwrap()
}

/// What it says, if it ends with this code.
async fn says(installation: &Installation, words: &[&str], code: i32) -> String {
    let output = boxgate(installation, words).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
    said
}

async fn state(installation: &Installation, id: &str) -> Option<BoxState> {
    let boxes = installation.client().boxes().await.unwrap();
    boxes.into_iter().find(|devbox| devbox.id.to_string() == id).map(|devbox| devbox.state)
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Containers that pack or unpack volumes.
fn movers(installation: &Installation) -> String {
    let label = format!("label=io.boxgate.mover={}", installation.instance);
    docker(&["ps", "--all", "--quiet", "--filter", &label])
}

fn file(installation: &Installation) -> PathBuf {
    installation.state("alice.tar.zst")
}

async fn backed_up(installation: &Installation) -> PathBuf {
    let file = file(installation);
    says(installation, &["backup", "alice", file.to_str().unwrap()], 0).await;
    file
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_person_moves_to_another_host_through_a_pipe() {
    let (old, mut new) = (furnished().await, Installation::new().await);
    new.boot_with(QUICK).await;
    let described = on_volumes(&old, DESCRIBE);
    for kept in [
        "two\\nlines",
        "trusted.secret",
        "trusted.overlay.opaque",
        "security.capability",
        "0o104755",
        "posix_acl",
    ] {
        assert!(described.contains(kept), "{kept}: {described}");
    }
    let (from, to) = (old.boxgate(&["backup", "alice", "-"]), new.boxgate(&["restore", "-"]));
    let line = format!("set -o pipefail; {} | {}", shown(&from), shown(&to));
    let output = tokio::process::Command::new("bash").args(["-c", &line]).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(on_volumes(&new, DESCRIBE), described);
    assert_eq!(
        (state(&old, "alice").await, state(&new, "alice").await),
        (Some(BoxState::Ready), Some(BoxState::Stopped))
    );
    assert_eq!((movers(&old), movers(&new)), (String::new(), String::new()));
    // Her next login there makes the rest of it.
    new.ensure("alice").await.unwrap();
    assert_eq!(docker(&["exec", &new.name("alice"), "cat", "/home/alice/odd/linked"]), "one");
    assert_eq!(new.gc(true).await.orphans, []);
}

fn shown(command: &tokio::process::Command) -> String {
    let command = command.as_std();
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn the_images_in_a_box_run_after_it_was_restored() {
    let installation = Installation::new().await;
    installation.ensure("alice").await.unwrap();
    let name = installation.name("alice");
    let inner = "until docker info >/dev/null 2>&1; do sleep 0.2; done
        tar --create --dereference --directory=/ bin/sh $(ldd /bin/sh | grep -o '/[^ ]*' | cut -c2-) | docker import - tiny >/dev/null
        printf 'FROM tiny\\nRUN [\"/bin/sh\", \"-c\", \"echo built > /made\"]\\n' | docker build --quiet --tag inner - >/dev/null";
    docker(&["exec", &name, "sh", "-ec", inner]);
    let file = backed_up(&installation).await;
    installation.order("alice", Order::Remove).await.unwrap();
    says(&installation, &["restore", file.to_str().unwrap()], 0).await;
    installation.ensure("alice").await.unwrap();
    let run = "until docker info >/dev/null 2>&1; do sleep 0.2; done
        docker run --rm --network=none inner /bin/sh -c 'read made < /made; echo $made'";
    assert_eq!(docker(&["exec", &name, "sh", "-ec", run]), "built");
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_box_that_is_there_and_another_owner_are_refused_and_another_name_is_not() {
    let installation = furnished().await;
    let file = backed_up(&installation).await;
    let file = file.to_str().unwrap();
    let said = says(&installation, &["restore", file], 1).await;
    assert!(said.contains("there is such a box already") && said.contains("--as alice+NAME"), "{said}");
    let said = says(&installation, &["restore", file, "--as", "bob"], 1).await;
    assert!(said.contains("holds the home of alice"), "{said}");
    let said = says(&installation, &["restore", file, "--as", "alice+old"], 0).await;
    assert!(said.contains("nobody can log in as alice yet"), "{said}");
    assert_eq!((installation.list("volume").len(), state(&installation, "bob").await), (4, None));
    installation.ensure("alice+old").await.unwrap();
    assert_eq!(docker(&["exec", &installation.name("alice.old"), "cat", "/home/alice/linked"]), "one");
}

/// What becomes of an archive on its way, and what is said of it.
#[rstest]
#[case::cut_short(|archive: &mut Vec<u8>| archive.truncate(archive.len() / 2), "cannot be read as an archive")]
#[case::damaged(|archive: &mut Vec<u8>| { let at = archive.len() / 2; archive[at] ^= 0x55; }, "cannot be read as an archive")]
#[case::without_its_end(|archive: &mut Vec<u8>| {
    let tar = zstd::decode_all(&archive[..]).unwrap();
    *archive = zstd::encode_all(&tar[..tar.len() - 1024], 1).unwrap();
}, "cut short")]
#[case::of_another_version(|archive: &mut Vec<u8>| {
    let mut tar = zstd::decode_all(&archive[..]).unwrap();
    let at = tar.windows(11).position(|window| window == b"\"format\":1,").unwrap();
    tar[at + 9] = b'9';
    *archive = zstd::encode_all(&tar[..], 1).unwrap();
}, "is of format 9")]
#[case::something_else(|archive: &mut Vec<u8>| *archive = b"hello".to_vec(), "cannot be read as an archive")]
#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn of_a_bad_archive_nothing_is_kept(#[case] spoil: fn(&mut Vec<u8>), #[case] expected: &str) {
    let installation = furnished().await;
    let file = backed_up(&installation).await;
    installation.order("alice", Order::Remove).await.unwrap();
    let mut archive = fs::read(&file).unwrap();
    spoil(&mut archive);
    fs::write(&file, archive).unwrap();
    let said = says(&installation, &["restore", file.to_str().unwrap()], 1).await;
    assert!(said.contains(expected), "{said}");
    until("it is taken back", async || installation.list("volume").is_empty()).await;
    assert_eq!((state(&installation, "alice").await, movers(&installation)), (None, String::new()));
}

/// Members that want out of the two trees, between a real head and a real end.
#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_hostile_archive_reaches_nothing_but_its_own_box() {
    let installation = furnished().await;
    let file = backed_up(&installation).await;
    installation.order("alice", Order::Remove).await.unwrap();
    let victim = installation.state("victim");
    fs::write(&victim, "untouched").unwrap();
    let tar = zstd::decode_all(&fs::read(&file).unwrap()[..]).unwrap();
    let evil = hostile(victim.to_str().unwrap());
    let end = tail(evil.len());
    fs::write(&file, zstd::encode_all(&[&tar[..1024], &evil, &end].concat()[..], 1).unwrap()).unwrap();
    let output = boxgate(&installation, &["restore", file.to_str().unwrap()]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("tar ended with exit code 2"), "{said}");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert!(!PathBuf::from("/tmp/boxgate-evil").exists() && !PathBuf::from("/home/boxgate-evil").exists());
    assert_eq!(installation.list("volume"), [""; 0]);
}

fn hostile(victim: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: Kind, link: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, content).unwrap();
    };
    add("home/", Kind::Directory, "", b"");
    add("docker/", Kind::Directory, "", b"");
    add("home/../../tmp/boxgate-evil", Kind::Regular, "", b"evil");
    add("/home/boxgate-evil", Kind::Regular, "", b"evil");
    add("/tmp/boxgate-evil", Kind::Regular, "", b"evil");
    add("home/up", Kind::Symlink, "/tmp", b"");
    add("home/up/boxgate-evil", Kind::Regular, "", b"evil");
    add("home/hard", Kind::Link, victim, b"");
    add("home/hard", Kind::Regular, "", b"evil");
    add("home", Kind::Symlink, "/etc", b"");
    add("home/passwd", Kind::Regular, "", b"evil");
    builder.into_inner().unwrap()
}

fn tail(bytes: usize) -> Vec<u8> {
    let content = format!("{{\"bytes\":{bytes}}}");
    let mut header = tar::Header::new_ustar();
    header.set_path("boxgate-complete.json").unwrap();
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut tail = [header.as_bytes(), content.as_bytes()].concat();
    tail.resize(1024, 0);
    tail
}

/// Enough that packing takes a while.
const FILL: &str = r#"
import os, sys
with open(sys.argv[1] + "/alice/large", "wb") as file:
    for _ in range(300): file.write(os.urandom(1 << 20))
"#;

/// A backup that nobody reads on: it stands still in its middle.
fn stalled(installation: &Installation) -> tokio::process::Child {
    let mut command = installation.boxgate(&["backup", "alice", "-"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap()
}

async fn packs(installation: &Installation) {
    until("it packs", async || {
        let name = installation.name("alice.MOVER");
        !docker(&["ps", "--filter", &format!("name=^{name}$"), "--quiet"]).is_empty()
    })
    .await;
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_backup_whose_reader_dies_leaves_the_box_as_it_was() {
    let installation = furnished().await;
    on_volumes(&installation, FILL);
    let mut backup = stalled(&installation);
    packs(&installation).await;
    assert_eq!(installation.inspect("alice", "{{.State.Status}}"), "exited");
    // A login waits, and is told why.
    let login = installation.ensure("alice");
    tokio::pin!(login);
    assert!(timeout(Duration::from_secs(1), &mut login).await.is_err(), "it waits");
    backup.kill().await.unwrap();
    timeout(PATIENCE, login).await.unwrap().unwrap();
    assert_eq!(
        (state(&installation, "alice").await, movers(&installation)),
        (Some(BoxState::Ready), String::new())
    );
    assert_eq!(installation.gc(true).await.orphans, []);
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_provisioner_that_is_killed_in_a_backup_leaves_a_box_that_can_be_had() {
    let mut installation = furnished().await;
    on_volumes(&installation, FILL);
    let backup = stalled(&installation);
    packs(&installation).await;
    installation.kill();
    assert_ne!(movers(&installation), "");
    installation.start().await;
    until("what packed is gone", async || movers(&installation).is_empty()).await;
    installation.ensure("alice").await.unwrap();
    drop(backup);
    assert_eq!(installation.gc(true).await.orphans, []);
    backed_up(&installation).await;
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn what_a_killed_restore_left_is_no_box_until_it_is_restored_or_given_up() {
    let mut installation = furnished().await;
    on_volumes(&installation, FILL);
    let file = backed_up(&installation).await;
    installation.order("alice", Order::Remove).await.unwrap();
    for give_up in [true, false] {
        // Half of it, and then nothing more.
        let line = format!(
            "(head -c 100M {}; sleep 1000) | exec {}",
            file.display(),
            shown(&installation.boxgate(&["restore", "-"]))
        );
        let mut command = tokio::process::Command::new("bash");
        command.args(["-c", &line]).stderr(Stdio::null()).kill_on_drop(true).process_group(0);
        let mut restore = command.spawn().unwrap();
        packs(&installation).await;
        installation.kill();
        let group = nix::unistd::Pid::from_raw(-i32::try_from(restore.id().unwrap()).unwrap());
        nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL).unwrap();
        restore.wait().await.unwrap();
        installation.start().await;
        until("what unpacked is gone", async || movers(&installation).is_empty()).await;

        let failure = installation.ensure("alice").await.unwrap_err();
        assert_eq!(failure.code, FailureCode::HalfRestored, "{failure}");
        assert!(failure.remedy.contains("boxgate rm alice"), "{failure}");
        assert_eq!(state(&installation, "alice").await, Some(BoxState::Failed));
        says(&installation, &["backup", "alice", "-"], 1).await;
        assert_eq!(installation.gc(true).await.orphans, [], "volumes are nobody's to collect");
        if give_up {
            installation.order("alice", Order::Remove).await.unwrap();
            assert_eq!(installation.list("volume"), [""; 0]);
        }
    }
    says(&installation, &["restore", file.to_str().unwrap()], 0).await;
    installation.ensure("alice").await.unwrap();
    let size = docker(&["exec", &installation.name("alice"), "stat", "--format", "%s", "/home/alice/large"]);
    assert_eq!(size, (300 << 20).to_string());
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn what_was_left_packing_is_collected() {
    let installation = furnished().await;
    let mover = installation.name("alice.MOVER");
    let label = format!("io.boxgate.mover={}", installation.instance);
    docker(&["create", "--name", &mover, "--label", &label, "--label", "io.boxgate.box=alice", &image()]);
    let found = installation.gc(true).await.orphans;
    assert_eq!(
        found.iter().map(|orphan| (orphan.kind, orphan.removed)).collect::<Vec<_>>(),
        [(OrphanKind::Container, true)]
    );
    assert!(docker_fails(&["inspect", &mover]).contains("No such object"));
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn of_all_boxes_one_that_fails_does_not_stop_the_others() {
    let installation = furnished().await;
    installation.ensure("bob").await.unwrap();
    installation.order("bob", Order::Stop).await.unwrap();
    docker(&["rm", &installation.name("bob")]);
    docker(&["volume", "rm", &installation.name("bob.docker")]);
    installation.ensure("carol").await.unwrap();
    installation.order("carol", Order::Stop).await.unwrap();
    let directory = installation.state("backups");
    let said = says(&installation, &["backup", "--all", directory.to_str().unwrap()], 1).await;
    assert!(said.contains("box bob: its volume") && said.contains("is gone"), "{said}");
    let mut files: Vec<_> =
        fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["alice.tar.zst", "carol.tar.zst"]);
    // Each is what it was: one ran, one did not.
    assert_eq!(state(&installation, "alice").await, Some(BoxState::Ready));
    assert_eq!(state(&installation, "carol").await, Some(BoxState::Stopped));
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_disk_that_is_full_is_told_and_the_box_runs_on() {
    let installation = furnished().await;
    let line = format!("{} > /dev/full", shown(&installation.boxgate(&["backup", "alice", "-"])));
    let output = tokio::process::Command::new("bash").args(["-c", &line]).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("No space left on device"), "{said}");
    until("the box is up again", async || state(&installation, "alice").await == Some(BoxState::Ready)).await;
    assert_eq!(movers(&installation), "");
}
