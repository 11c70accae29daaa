//! The harness of the end-to-end stories in `e2e/`: real clients, real programs, real boxes.
//!
//! ```text
//! place.rs    a numbered place on this machine, and the keeper that clears it when the tests are gone
//! program.rs  boxgate-gateway and boxgate-provisioner as processes with a log
//! devhost.rs  configuration, keys and the programs in one place: what a story starts from
//! ssh.rs      OpenSSH's ssh, scp and sftp, and rsync, as one of the place's users
//! terminal.rs ssh on a pseudo-terminal
//! docker.rs   what Docker has of a place; images made of nothing but busybox
//! local.rs    on this side of a forward: free ports, a small web server, files to send
//! machine.rs  a virtual machine that ami/install.sh made a devhost
//! cable.rs    a cable to the gateway that can be pulled
//! run.rs      a command with a time limit, and what came of it
//! wait.rs     polls with a deadline
//! ```
//!
//! Whatever fails, fails its story by a panic that tells what was expected and what was seen. Stories need
//! root, Docker and the built programs, so each is marked `#[ignore]` with that reason and
//! `./devhost test` runs it; none skips itself.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    reason = "a harness fails its story by panicking, and its checks are called for that alone"
)]

pub mod cable;
pub mod devhost;
pub mod docker;
pub mod local;
pub mod machine;
pub mod place;
pub mod program;
pub mod run;
pub mod ssh;
pub mod terminal;
pub mod wait;

pub use devhost::{Devhost, Setup};
pub use run::{Finished, Run, Running, until_succeeds};
pub use ssh::Login;
pub use wait::{Stopwatch, until};
