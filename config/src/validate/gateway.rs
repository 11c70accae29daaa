//! `[gateway]` and `[gateway.penalties]`.

use std::net::SocketAddr;
use std::time::Duration;

use super::Check;
use super::users::plain_key;
use crate::raw::{self, Field};
use crate::{AddressPatterns, GatewayConfig, PenaltyConfig, PublicName, Startups};

/// A day: whoever stays logged in overnight is not cut off in the morning, and what is old is gone the day after.
const DRAIN: Duration = Duration::from_secs(24 * 3600);

pub(super) fn gateway(raw: &raw::Gateway, check: &mut Check<'_>) -> GatewayConfig {
    let grace = Duration::from_secs(60);
    let certificates = raw.host_certificates.as_deref().unwrap_or_default();
    let authorities = raw.user_ca_keys.as_deref().unwrap_or_default();
    let state_dir = "/var/lib/boxgate/gateway";
    GatewayConfig {
        listen: listen(raw.listen.as_ref(), check),
        public_name: check.read(
            "gateway.public_name",
            raw.public_name.as_ref(),
            None,
            "write what people write behind the @, for example \"devhost.example.org\", and behind a colon the port \
             if it is another than 22",
            |name| {
                PublicName::parse(&name).map(Some).map_err(|fault| format!("{name:?} {fault}"))
            },
        ),
        state_dir: check.path("gateway.state_dir", raw.state_dir.as_ref(), state_dir),
        login_grace_time: check.duration("gateway.login_grace_time", raw.login_grace_time.as_ref(), grace),
        max_auth_tries: check.count("gateway.max_auth_tries", raw.max_auth_tries.as_ref(), 6),
        max_startups: startups(raw.max_startups.as_ref(), check),
        max_connections: check.count("gateway.max_connections", raw.max_connections.as_ref(), 4096),
        spare_connections: check.spares("gateway.spare_connections", raw.spare_connections.as_ref(), 1),
        host_certificates: certificates
            .iter()
            .map(|file| check.path("gateway.host_certificates", Some(file), "/etc/boxgate/host-cert.pub"))
            .collect(),
        authorized_keys_dir: check.path(
            "gateway.authorized_keys_dir",
            raw.authorized_keys_dir.as_ref(),
            "/etc/boxgate/authorized_keys.d",
        ),
        user_ca_keys: authorities
            .iter()
            .filter_map(|field| plain_key("gateway.user_ca_keys", field, check))
            .collect(),
        revoked_keys: check.optional_path(
            "gateway.revoked_keys",
            raw.revoked_keys.as_ref(),
            "/etc/boxgate/revoked_keys",
        ),
        key_url_refresh: check.duration(
            "gateway.key_url_refresh",
            raw.key_url_refresh.as_ref(),
            Duration::from_secs(600),
        ),
        key_url_ca_file: check.optional_path(
            "gateway.key_url_ca_file",
            raw.key_url_ca_file.as_ref(),
            "/etc/boxgate/key-servers.pem",
        ),
        drain: drain(raw.drain.as_ref(), check),
        penalties: penalties(&raw.penalties, check),
    }
}

fn listen(field: Option<&Field<Vec<String>>>, check: &mut Check<'_>) -> Vec<SocketAddr> {
    check.read(
        "gateway.listen",
        field,
        vec![SocketAddr::from(([0, 0, 0, 0], 22))],
        "write a list of addresses with their ports, for example [\"0.0.0.0:22\", \"[::]:22\"]",
        |addresses| {
            if addresses.is_empty() {
                return Err("names no address".to_owned());
            }
            let parse = |address: &String| address.parse().map_err(|_| format!("{address:?} is not IP:PORT"));
            addresses.iter().map(parse).collect()
        },
    )
}

fn drain(field: Option<&Field<String>>, check: &mut Check<'_>) -> Option<Duration> {
    let remedy = "write a time of at least one second with its unit, for example \"24h\", or \"never\"";
    check.read("gateway.drain", field, Some(DRAIN), remedy, |text| match humantime::parse_duration(&text) {
        _ if text == "never" => Ok(None),
        Ok(duration) if duration >= Duration::from_secs(1) => Ok(Some(duration)),
        Ok(_) => Err(format!("{text} is too short")),
        Err(fault) => Err(format!("{text:?} is not a time: {fault}")),
    })
}

fn startups(field: Option<&Field<raw::Startups>>, check: &mut Check<'_>) -> Startups {
    check.read(
        "gateway.max_startups",
        field,
        Startups { start: 300, rate: 30, full: 500 },
        "write a whole number of at least 1, or \"start:rate:full\" with a rate in percent, for example \"300:30:500\"",
        |value| {
            let text = match value {
                raw::Startups::Number(number) => number.to_string(),
                raw::Startups::Text(text) => text,
            };
            parse_startups(&text).ok_or_else(|| format!("{text} is out of range"))
        },
    )
}

fn parse_startups(text: &str) -> Option<Startups> {
    let mut parts = text.split(':');
    let start: usize = parts.next()?.parse().ok()?;
    let startups = match (parts.next(), parts.next()) {
        (None, _) => Startups { start, rate: 100, full: start },
        (Some(rate), full) => Startups { start, rate: rate.parse().ok()?, full: full?.parse().ok()? },
    };
    let sound = parts.next().is_none() && start > 0 && startups.full >= start && startups.rate <= 100;
    sound.then_some(startups)
}

fn penalties(raw: &raw::Penalties, check: &mut Check<'_>) -> PenaltyConfig {
    let exempt = check.read(
        "gateway.penalties.exempt",
        raw.exempt.as_ref(),
        AddressPatterns::parse_networks("127.0.0.0/8,::1").ok(),
        "write a list of addresses and networks, for example [\"127.0.0.0/8\", \"::1\"], or [] for none",
        |networks| {
            if networks.is_empty() {
                return Ok(None);
            }
            AddressPatterns::parse_networks(&networks.join(",")).map(Some).map_err(|fault| fault.to_string())
        },
    );
    let seconds = Duration::from_secs;
    let mut duration = |name: &str, field: &Option<Field<String>>, default| {
        let remedy = "write a time with its unit, for example \"15s\" or \"10m\", or \"0s\" for none";
        let parse = |text: String| {
            humantime::parse_duration(&text).map_err(|fault| format!("{text:?} is not a time: {fault}"))
        };
        check.read(&format!("gateway.penalties.{name}"), field.as_ref(), default, remedy, parse)
    };
    PenaltyConfig {
        failed: duration("failed", &raw.failed, seconds(5)),
        not_tried: duration("not_tried", &raw.not_tried, seconds(1)),
        grace_exceeded: duration("grace_exceeded", &raw.grace_exceeded, seconds(10)),
        crashed: duration("crashed", &raw.crashed, seconds(90)),
        min: duration("min", &raw.min, seconds(15)),
        max: duration("max", &raw.max, seconds(600)),
        max_sources: check.count("gateway.penalties.max_sources", raw.max_sources.as_ref(), 65_536),
        exempt,
    }
}
