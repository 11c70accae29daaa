//! Shapes as written → types as used. Every setting is looked at, whatever the others were.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::raw::{self, Field, Number, line_of};
use crate::{Config, Fault, FirewallSwitch, InstanceName, ProvisionerConfig};

mod devbox;
mod gateway;
mod groups;
mod users;

/// Prefix length of one box's network: a gateway address, the box, and room for its own bridges.
const BOX_PREFIX: u8 = 28;

/// Each spare connection is two processes of the box's sshd, each spare box some 100 MiB of memory.
const MAX_SPARES: usize = 16;

/// Where a fault is reported while settings are read.
struct Check<'a> {
    text: &'a str,
    faults: &'a mut Vec<Fault>,
}

impl Check<'_> {
    fn fault(&mut self, line: usize, setting: &str, problem: impl Display, remedy: impl Display) {
        self.faults.push(Fault {
            line,
            setting: setting.to_owned(),
            problem: problem.to_string(),
            remedy: remedy.to_string(),
        });
    }

    fn line<T>(&self, field: &Field<T>) -> usize {
        line_of(self.text, field.span.start)
    }

    /// The setting's value after `parse`, its default when it is not set. A fault leaves the default too: no
    /// [`Config`] is made then, but reading goes on and finds the next fault.
    fn read<T: Clone, U>(
        &mut self,
        setting: &str,
        field: Option<&Field<T>>,
        default: U,
        remedy: &str,
        parse: impl FnOnce(T) -> Result<U, String>,
    ) -> U {
        let Some(field) = field else { return default };
        match field.value.clone().and_then(parse) {
            Ok(value) => value,
            Err(problem) => {
                self.fault(self.line(field), setting, problem, remedy);
                default
            }
        }
    }

    fn path(&mut self, setting: &str, field: Option<&Field<String>>, default: &str) -> PathBuf {
        let remedy = format!("write an absolute path, for example \"{default}\"");
        self.read(setting, field, PathBuf::from(default), &remedy, |path| {
            let path = PathBuf::from(path);
            if path.is_absolute() {
                Ok(path)
            } else {
                Err(format!("{} is not an absolute path", path.display()))
            }
        })
    }

    fn optional_path(
        &mut self,
        setting: &str,
        field: Option<&Field<String>>,
        example: &str,
    ) -> Option<PathBuf> {
        field.map(|field| self.path(setting, Some(field), example))
    }

    fn duration(&mut self, setting: &str, field: Option<&Field<String>>, default: Duration) -> Duration {
        let remedy = "write a time of at least one second with its unit, for example \"60s\" or \"2m\"";
        self.read(setting, field, default, remedy, |text| match humantime::parse_duration(&text) {
            Ok(duration) if duration >= Duration::from_secs(1) => Ok(duration),
            Ok(_) => Err(format!("{text} is too short")),
            Err(fault) => Err(format!("{text:?} is not a time: {fault}")),
        })
    }

    /// A number above 0.
    fn number(&mut self, setting: &str, field: Option<&Field<Number>>, default: f64) -> f64 {
        let remedy = format!("write a number above 0, for example {default}");
        self.read(setting, field, default, &remedy, |number| match number.as_f64() {
            number if number.is_finite() && number > 0.0 => Ok(number),
            number => Err(format!("{number} is out of range")),
        })
    }

    fn count(&mut self, setting: &str, field: Option<&Field<i64>>, default: usize) -> usize {
        let remedy = format!("write a whole number of at least 1, for example {default}");
        self.read(setting, field, default, &remedy, |number| match usize::try_from(number) {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(format!("{number} is out of range")),
        })
    }

    fn spares(&mut self, setting: &str, field: Option<&Field<i64>>, default: usize) -> usize {
        let remedy = format!("write a whole number from 0 to {MAX_SPARES}, for example 1");
        self.read(setting, field, default, &remedy, |number| match usize::try_from(number) {
            Ok(count @ 0..=MAX_SPARES) => Ok(count),
            _ => Err(format!("{number} is out of range")),
        })
    }

    fn flag(&mut self, setting: &str, field: Option<&Field<bool>>, default: bool) -> bool {
        self.read(setting, field, default, "write true or false", Ok)
    }
}

/// `None` never happens without a fault, but a fault may leave `Some`: the caller looks at both.
pub(crate) fn validate(file: &raw::File, text: &str, faults: &mut Vec<Fault>) -> Option<Config> {
    let mut check = Check { text, faults };
    let gateway = gateway::gateway(&file.gateway, &mut check);
    let provisioner = provisioner(&file.provisioner, &mut check)?;
    let devbox = devbox::devbox(&file.devbox, &mut check);
    let groups = groups::groups(&file.groups, &mut check);
    let users = users::users(&file.users, !gateway.user_ca_keys.is_empty(), &mut check);
    Some(Config { gateway, provisioner, devbox, groups, users })
}

fn provisioner(raw: &raw::Provisioner, check: &mut Check<'_>) -> Option<ProvisionerConfig> {
    let instance = check.read(
        "provisioner.instance",
        raw.instance.as_ref(),
        InstanceName::parse("boxgate").ok(),
        "write a short name of a-z, 0-9, '-' and '_', for example \"boxgate\"",
        |name| InstanceName::parse(&name).map(Some).map_err(|fault| format!("{name:?} {fault}")),
    );
    let gateway_user = check.read(
        "provisioner.gateway_user",
        raw.gateway_user.as_ref(),
        "boxgate".to_owned(),
        "write the name or the number of the Unix user that runs the gateway, for example \"boxgate\"",
        |user| if user.is_empty() { Err("is empty".to_owned()) } else { Ok(user) },
    );
    let network_pool = network_pool(raw, check)?;
    let socket = check.path("provisioner.socket", raw.socket.as_ref(), "/run/boxgate/provisioner.sock");
    Some(ProvisionerConfig {
        instance: instance?,
        lobby_socket: lobby_socket(raw, &socket, check),
        socket,
        gateway_user,
        state_dir: check.path(
            "provisioner.state_dir",
            raw.state_dir.as_ref(),
            "/var/lib/boxgate/provisioner",
        ),
        docker_socket: check.path(
            "provisioner.docker_socket",
            raw.docker_socket.as_ref(),
            "/var/run/docker.sock",
        ),
        docker_timeout: check.duration(
            "provisioner.docker_timeout",
            raw.docker_timeout.as_ref(),
            Duration::from_secs(60),
        ),
        network_pool,
        memory_share: check.number("provisioner.memory_share", raw.memory_share.as_ref(), 2.0),
        spare_boxes: check.spares("provisioner.spare_boxes", raw.spare_boxes.as_ref(), 0),
        firewall: firewall(raw, check),
    })
}

fn firewall(raw: &raw::Provisioner, check: &mut Check<'_>) -> FirewallSwitch {
    check.read(
        "provisioner.firewall",
        raw.firewall.as_ref(),
        FirewallSwitch::On,
        "write \"on\", or \"off\" where something else keeps boxes from each other and from this host",
        |switch| match switch.as_str() {
            "on" => Ok(FirewallSwitch::On),
            "off" => Ok(FirewallSwitch::Off),
            other => Err(format!("is neither on nor off but {other:?}")),
        },
    )
}

/// Beside the other socket, unless it is said where.
fn lobby_socket(raw: &raw::Provisioner, socket: &Path, check: &mut Check<'_>) -> PathBuf {
    let beside = socket.with_file_name("lobby.sock");
    let example = beside.to_string_lossy();
    let lobby = check.path("provisioner.lobby_socket", raw.lobby_socket.as_ref(), &example);
    if lobby == socket {
        let line = raw.lobby_socket.as_ref().or(raw.socket.as_ref()).map_or(1, |field| check.line(field));
        let remedy = "give it a socket of its own, or leave it out: it is then lobby.sock beside the other";
        check.fault(line, "provisioner.lobby_socket", "is provisioner.socket", remedy);
    }
    lobby
}

fn network_pool(raw: &raw::Provisioner, check: &mut Check<'_>) -> Option<Ipv4Net> {
    check.read(
        "provisioner.network_pool",
        raw.network_pool.as_ref(),
        "10.201.0.0/16".parse().ok(),
        "write a private IPv4 range of at least a /28 that nothing else uses, for example \"10.201.0.0/16\"",
        |text| {
            let net: Ipv4Net = text.parse().map_err(|_| format!("{text:?} is not an IPv4 range"))?;
            if !net.addr().is_private() {
                return Err(format!("{net} is not a private range (RFC 1918)"));
            }
            if net.prefix_len() > BOX_PREFIX {
                return Err(format!("{net} is smaller than one box's network"));
            }
            Ok(Some(net.trunc()))
        },
    )
}
