//! Boxgate's configuration: one TOML file read by the gateway and the provisioner.
//!
//! ```text
//! boxgate.toml ──raw.rs──► shapes as written ──validate.rs──► Config (types as used)
//!                              │                                 ▲
//!                              └──────────► Faults ──────────────┘ all of them, or a Config; never both
//! ```
//!
//! Invariants: a [`Config`] is valid by construction; the TOML shapes never leave this crate; each fault
//! names its line and says what to write instead.

mod addresses;
mod comfort;
mod config;
mod egress;
mod fault;
mod key_url;
mod keys;
mod names;
mod public_name;
mod raw;
mod registry_mirror;
mod settings;
mod validate;

pub use addresses::{AddressError, AddressPatterns};
pub use comfort::{Comfort, ComfortError, Dotfiles, DotfilesUrl, Locale, TimeZone};
pub use config::{
    Config, DevBoxConfig, FirewallSwitch, GatewayConfig, Group, PenaltyConfig, ProvisionerConfig, Runtime,
    Startups, User,
};
pub use egress::{Destination, DestinationError, Egress};
pub use fault::{Fault, Faults, LoadError};
pub use key_url::{KeyUrl, KeyUrlError};
pub use keys::{
    AuthorizedKey, KeyError, KeyOptions, KeyRole, Permission, Permissions, check_strength, is_security_key,
};
pub use names::{DevBoxId, DevBoxName, InstanceName, LOBBY, LoginName, NameError};
pub use public_name::{PublicName, PublicNameError};
pub use registry_mirror::{RegistryMirror, RegistryMirrorError};
pub use settings::{BoxLimits, BoxSettings, Cluster, IdleStop, Overrides};

/// The example that documents every setting; a test keeps it parseable.
pub const EXAMPLE: &str = include_str!("../example.toml");
