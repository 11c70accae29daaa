//! Samples become figures, and figures are judged by goals.

use std::fmt;

use serde_json::{Value, json};

use crate::profile::Profile;
use crate::site::Peer;

/// Measured values of one peer, in the figure's unit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The value below which this share of all values lies, interpolated between neighbours.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = share * (sorted.len() - 1) as f64;
        let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        below + (above - below) * place.fract()
    }

    fn json(&self) -> Value {
        let quantile = |share| rounded(self.quantile(share));
        json!({
            "n": self.0.len(),
            "min": quantile(0.0), "p25": quantile(0.25), "median": quantile(0.5),
            "p75": quantile(0.75), "p99": quantile(0.99), "max": quantile(1.0),
            "samples": self.0.iter().copied().map(rounded).collect::<Vec<_>>(),
        })
    }
}

/// A number of a [`Samples`] that a goal speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statistic {
    Median,
    P99,
}

impl Statistic {
    pub(crate) fn of(self, samples: &Samples) -> f64 {
        samples.quantile(if self == Self::Median { 0.5 } else { 0.99 })
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Median { "median" } else { "p99" })
    }
}

/// What the gateway should reach, in one run with those it is compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    AtMostTimes(f64, Peer),
    AtLeastTimes(f64, Peer),
    MoreByAtMost(f64, Peer),
    AtMost(f64),
}

/// Whether a goal was met.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) statistic: Statistic,
    pub(crate) seen: String,
    pub(crate) goal: String,
    pub(crate) value: f64,
    pub(crate) met: bool,
}

/// One thing measured at several peers.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) what: String,
    pub(crate) columns: Vec<(Peer, Samples)>,
    /// The rare slow ones are shown too.
    pub(crate) with_p99: bool,
    pub(crate) verdicts: Vec<Verdict>,
    /// What the gateway's time goes into, where somebody looked.
    pub(crate) profile: Option<Profile>,
}

impl Figure {
    pub(crate) fn new(
        name: &'static str,
        unit: &'static str,
        what: impl Into<String>,
        peers: &[Peer],
    ) -> Self {
        let columns = peers.iter().map(|&peer| (peer, Samples::default())).collect();
        Self { name, unit, what: what.into(), columns, with_p99: false, verdicts: Vec::new(), profile: None }
    }

    pub(crate) fn with_p99(self) -> Self {
        Self { with_p99: true, ..self }
    }

    pub(crate) fn push(&mut self, peer: Peer, value: f64) {
        self.columns.iter_mut().find(|(column, _)| *column == peer).unwrap().1.push(value);
    }

    pub(crate) fn of(&self, peer: Peer) -> &Samples {
        &self.columns.iter().find(|(column, _)| *column == peer).unwrap().1
    }

    /// What a peer that is no rival took, by the median: how near a goal anything of its kind can come.
    pub(crate) fn bound(&self, peer: Peer) -> Option<String> {
        let median = |wanted: Peer| {
            let (_, samples) = self.columns.iter().find(|(column, _)| *column == wanted)?;
            Some(Statistic::Median.of(samples))
        };
        let base = if peer == Peer::EngineAndLogin { Peer::Engine } else { Peer::Direct };
        let (bound, base_value) = (median(peer)?, median(base)?);
        let (value, unit, ratio) = (number(bound), self.unit, times(bound / base_value, base));
        Some(format!("{}: {peer} {value} {unit}, {ratio}", self.name))
    }

    /// The column that goals are about.
    fn subject(&self) -> Peer {
        let is_gateway = |peer: &Peer| matches!(peer, Peer::Gateway | Peer::Cold);
        self.columns.iter().map(|(peer, _)| *peer).find(is_gateway).unwrap()
    }

    pub(crate) fn judged(mut self, statistic: Statistic, goals: &[Goal]) -> Self {
        for goal in goals {
            let verdict = self.judge(statistic, *goal);
            self.verdicts.push(verdict);
        }
        self
    }

    /// Whether one of its goals was.
    pub(crate) fn missed(&self) -> bool {
        self.verdicts.iter().any(|verdict| !verdict.met)
    }

    fn judge(&self, statistic: Statistic, goal: Goal) -> Verdict {
        let own = statistic.of(self.of(self.subject()));
        let other = |peer| statistic.of(self.of(peer));
        let (value, seen, goal, met) = match goal {
            Goal::AtMostTimes(limit, peer) => {
                let ratio = own / other(peer);
                (ratio, times(ratio, peer), format!("≤ {limit}"), ratio <= limit)
            }
            Goal::AtLeastTimes(limit, peer) => {
                let ratio = own / other(peer);
                (ratio, times(ratio, peer), format!("≥ {limit}"), ratio >= limit)
            }
            Goal::MoreByAtMost(limit, peer) => {
                let more = own - other(peer);
                let seen = format!("{peer} {more:+.2} {}", self.unit);
                (more, seen, format!("≤ +{limit}"), more <= limit)
            }
            Goal::AtMost(limit) => {
                (own, format!("{} {}", number(own), self.unit), format!("≤ {limit}"), own <= limit)
            }
        };
        Verdict { statistic, seen, goal, value, met }
    }

    pub(crate) fn json(&self) -> Value {
        let peers: serde_json::Map<_, _> =
            self.columns.iter().map(|(peer, samples)| (peer.name().to_owned(), samples.json())).collect();
        let goals: Vec<_> = self
            .verdicts
            .iter()
            .map(|verdict| {
                json!({
                    "statistic": verdict.statistic.to_string(), "seen": verdict.seen, "value": verdict.value,
                    "goal": verdict.goal, "met": verdict.met,
                })
            })
            .collect();
        let profile = self.profile.as_ref().map(Profile::json);
        json!({
            "figure": self.name, "what": self.what, "unit": self.unit, "peers": peers, "goals": goals,
            "profile": profile,
        })
    }
}

fn times(ratio: f64, peer: Peer) -> String {
    format!("{ratio:.3} × {peer}")
}

/// As many digits as anybody wants to keep.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Three digits that mean something.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(direct: &[f64], gateway: &[f64]) -> Figure {
        let mut figure = Figure::new("login", "ms", "", &[Peer::Direct, Peer::Gateway]);
        for (peer, values) in [(Peer::Direct, direct), (Peer::Gateway, gateway)] {
            for &value in values {
                figure.push(peer, value);
            }
        }
        figure
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        let samples = Samples(vec![4.0, 1.0, 3.0, 2.0]);
        let seen = [0.0, 0.25, 0.5, 1.0].map(|share| samples.quantile(share));
        assert_eq!(seen.map(number), ["1.00", "1.75", "2.50", "4.00"]);
        assert_eq!(number(Samples(vec![7.0]).quantile(0.99)), "7.00");
    }

    #[test]
    fn goals_are_met_up_to_their_limits() {
        let figure = figure(&[10.0, 20.0, 30.0], &[11.0, 10.0, 10.0]);
        let met = |goal| figure.judge(Statistic::Median, goal).met;
        assert!(met(Goal::AtMostTimes(0.5, Peer::Direct)) && !met(Goal::AtMostTimes(0.49, Peer::Direct)));
        assert!(met(Goal::AtLeastTimes(0.5, Peer::Direct)) && !met(Goal::AtLeastTimes(0.51, Peer::Direct)));
        assert!(
            met(Goal::MoreByAtMost(-10.0, Peer::Direct)) && !met(Goal::MoreByAtMost(-11.0, Peer::Direct))
        );
        assert!(met(Goal::AtMost(10.0)) && !met(Goal::AtMost(9.9)));
    }

    #[test]
    fn bounds_are_compared_with_what_goals_are() {
        let mut echo = figure(&[2.0], &[3.0]);
        echo.columns.push((Peer::Socat, Samples(vec![2.5])));
        assert_eq!(echo.bound(Peer::Socat).as_deref(), Some("login: socat 2.50 ms, 1.250 × direct"));
        assert_eq!(echo.bound(Peer::EngineAndLogin), None);
    }

    #[test]
    fn a_verdict_says_what_was_seen() {
        let verdict = figure(&[100.0], &[56.0]).judge(Statistic::P99, Goal::AtMostTimes(0.5, Peer::Direct));
        assert_eq!(
            (verdict.seen.as_str(), verdict.goal.as_str(), verdict.met),
            ("0.560 × direct", "≤ 0.5", false)
        );
    }
}
