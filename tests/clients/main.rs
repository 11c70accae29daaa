//! Can any client tell the gateway from sshd? Every family of clients does what it can do, against the gateway
//! and against the sshd of the very same box, reached directly: a difference is the finding.
//!
//! ```text
//! servers.rs   the two servers, and what the cases find in the box
//! table.rs     cases and what must come of them on both servers
//! driver.rs    runs a client library's cases: python/, node/ and go/ are small programs of our own
//! ```
//!
//! Then one file for each family, which is little more than its table. Versions are pinned: the libraries' by
//! lock files beside the drivers, the programs' by the distribution. `./devhost test` installs them all.
#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]

mod asyncssh;
mod audit;
mod driver;
mod dropbear;
mod fidelity;
mod files;
mod go;
mod openssh;
mod paramiko;
mod putty;
mod servers;
mod ssh2;
mod table;
mod tools;
