//! The network-facing SSH server. It knows keys, names and packets; it never names the container engine.
//!
//! ```text
//!  client ─TCP─► server ─► accept ─► authenticate ─► resolve ─► ensure ─► dial ─► relay ─► account
//!                binds,    limits     a key becomes   whose box  a Grant   an      packets  what it
//!                drains    and grace  a Principal     → a Grant  becomes   Upstream both    came to
//!                                                                an Endpoint        ways
//! ```
//!
//! [`connection`] walks one client through that line; each step is a module of its name. [`uses`] tells the
//! provisioner meanwhile who is connected to which box.
//!
//! All of that is done by a worker process ([`worker`]), which a small supervisor ([`supervise`]) renews without anyone
//! noticing: it holds the listening sockets ([`listeners`]) and reads nothing from the network.
//!
//! Invariants:
//! - Nothing is asked of the provisioner before a signature was verified ([`connection`]).
//! - [`resolve::resolve`] alone makes a [`resolve::Grant`] or a [`resolve::LobbyGrant`], and [`ensure`] takes nothing
//!   else.
//! - The relay keeps nothing of what crosses it, and counts it in passing ([`relay::tap`]); the memory of a connection
//!   is bounded ([`relay`]).
//! - A box is believed only with the host key that the provisioner made for it ([`dial`]).

pub mod account;
pub mod authenticate;
pub mod authority;
pub mod connection;
pub mod dial;
pub mod ensure;
pub mod farewell;
pub mod host_keys;
pub mod key_file;
pub mod leash;
pub mod listeners;
pub mod penalties;
pub mod relay;
pub mod resolve;
pub mod server;
pub mod service;
pub mod socket;
pub mod startups;
pub mod supervise;
pub mod uses;
pub mod watched_file;
pub mod worker;
