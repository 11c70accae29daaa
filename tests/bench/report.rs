//! The table that people read and the file that is kept.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::figure::{Figure, Statistic, Verdict, number};
use crate::profile::Profile;
use crate::site::Peer;

const HEAD: [&str; 8] =
    ["figure", "unit", "direct or engine", "gateway", "ssh -J", "the gateway's", "goal", ""];

/// A line for each figure and each of its goals: median (25th–75th percentile) at each peer.
pub(crate) fn table(figures: &[Figure], facts: &Value) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    for figure in figures {
        lines.extend(lines_of(figure, Statistic::Median));
        if figure.with_p99 {
            lines.extend(lines_of(figure, Statistic::P99));
        }
    }
    let widths: Vec<_> = (0..HEAD.len())
        .map(|place| lines.iter().map(|line| line[place].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::from("\n");
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end()).unwrap();
    }
    text + "\n" + &profiles(figures) + &bounds(figures) + &notes(figures, facts)
}

fn lines_of(figure: &Figure, statistic: Statistic) -> Vec<[String; 8]> {
    let column = |wanted: &[Peer]| {
        let found = figure.columns.iter().find(|(peer, _)| wanted.contains(peer));
        found.map_or_else(String::new, |(_, samples)| match statistic {
            Statistic::P99 => number(samples.quantile(0.99)),
            Statistic::Median => {
                let [low, middle, high] = [0.25, 0.5, 0.75].map(|share| number(samples.quantile(share)));
                format!("{middle} ({low}–{high})")
            }
        })
    };
    let verdicts = figure.verdicts.iter().filter(|verdict| verdict.statistic == statistic);
    let mut verdicts = verdicts.map(judgement);
    let [seen, goal, met] = verdicts.next().unwrap_or_default();
    let name = match statistic {
        Statistic::Median => figure.name.to_owned(),
        Statistic::P99 => format!("{}, p99", figure.name),
    };
    let peers =
        [column(&[Peer::Direct, Peer::Engine]), column(&[Peer::Gateway, Peer::Cold]), column(&[Peer::Jump])];
    let [direct, gateway, jump] = peers;
    let first = [name, figure.unit.to_owned(), direct, gateway, jump, seen, goal, met];
    let more = verdicts.map(|[seen, goal, met]| {
        let blank = String::new;
        [blank(), blank(), blank(), blank(), blank(), seen, goal, met]
    });
    std::iter::once(first).chain(more).collect()
}

fn judgement(verdict: &Verdict) -> [String; 3] {
    let met = if verdict.met { "met" } else { "MISSED" };
    [verdict.seen.clone(), verdict.goal.clone(), met.to_owned()]
}

/// What the gateway does where it missed a goal for bulk transfers.
fn profiles(figures: &[Figure]) -> String {
    let lines: Vec<_> =
        figures.iter().filter_map(|figure| figure.profile.as_ref()).map(Profile::line).collect();
    if lines.is_empty() {
        return String::new();
    }
    format!("the gateway's time where a goal is missed:\n  {}\n\n", lines.join("\n  "))
}

/// How near its goals anything could come that does less than a gateway must.
fn bounds(figures: &[Figure]) -> String {
    let of =
        |figure: &Figure| [Peer::Socat, Peer::EngineAndLogin].into_iter().find_map(|peer| figure.bound(peer));
    let lines: Vec<_> = figures.iter().filter_map(of).collect();
    if lines.is_empty() {
        return String::new();
    }
    format!(
        "what is possible here, with a relay that only copies bytes or with none:\n  {}\n\n",
        lines.join("\n  ")
    )
}

fn notes(figures: &[Figure], facts: &Value) -> String {
    let all = figures.iter().flat_map(|figure| &figure.verdicts);
    let (met, missed): (Vec<_>, Vec<_>) = all.partition(|verdict| verdict.met);
    let fact = |path: &str| match facts.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let mut text = format!("{} goals met, {} missed\n", met.len(), missed.len());
    for lines in [
        format!("{}, revision {}", fact("/date"), fact("/revision")),
        format!(
            "{} × {}, {} MiB, {}",
            fact("/machine/cores"),
            fact("/machine/processor"),
            fact("/machine/memory_mib"),
            fact("/machine/kernel")
        ),
        format!(
            "TCP by {}; busy before {}, stolen {}, load {} before and {} after",
            fact("/machine/congestion_control"),
            fact("/machine/busy_before"),
            fact("/machine/stolen"),
            fact("/machine/load_before"),
            fact("/machine/load_after")
        ),
        format!(
            "{}, {}; in the box {}",
            fact("/algorithms/key_exchange"),
            fact("/algorithms/cipher_unless_named"),
            fact("/versions/box_sshd")
        ),
    ] {
        writeln!(text, "{lines}").unwrap();
    }
    if facts["quick"] == true {
        text += "quick: these figures say that the bench works, nothing more\n";
    }
    text
}

/// Keeps all figures with every sample.
pub(crate) fn write(file: &Path, figures: &[Figure], facts: &Value) {
    let kept = json!({ "facts": facts, "figures": figures.iter().map(Figure::json).collect::<Vec<_>>() });
    let written = file
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(file, serde_json::to_string_pretty(&kept).unwrap() + "\n"));
    written.unwrap_or_else(|fault| panic!("{}: {fault}", file.display()));
}
