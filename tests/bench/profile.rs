//! Where a process's time goes, by kind, as `perf` samples it: what a bulk figure that misses its goal has to say for
//! itself.
//!
//! A sample counts for the kind of the function that was running. In a virtual machine without performance counters
//! perf takes its samples by a timer, and a function that runs with interrupts off is seen where it puts them on
//! again: waking another processor then looks like the unlocking that follows it, and is counted as waking.

use std::path::Path;
use std::time::Duration;

use boxgate_tests::{Run, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Samples a second: not in step with anything that ticks.
const FREQUENCY: &str = "997";
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Fewer samples say nothing.
const ENOUGH: usize = 50;
const MISSING: &str =
    "no profile: perf is not installed (Debian: apt-get install linux-perf, Ubuntu: linux-tools-generic)";

/// In the order in which they are asked, with parts of their functions' names. After `^` it is the name's start.
const KINDS: [(&str, &str); 8] = [
    ("ciphers", "aes gcm ghash chacha poly1305 EVP_AEAD CRYPTO_ sha256 sha512 ::cipher::"),
    (
        "copies",
        "memmove memcpy memset copy_to_iter copy_from_iter copy_to_user copy_from_user check_object_size virt_addr_valid",
    ),
    ("allocator", "malloc calloc realloc _int_free ^free ^cfree unlink_chunk madvise BytesMut::reserve"),
    ("the relay's own code", "russh boxgate tokio mio:: bytes:: core:: alloc:: std:: parking_lot tracing"),
    (
        "switches and wake-ups",
        "switch sched wake futex epoll ^ep_ eventfd wait idle ^pick_ ^select_ queue_task update_curr update_load rseq \
         hrtimer spin_unlock_irq spin_lock_irqsave",
    ),
    (
        "entering the kernel",
        "syscall ^entry_ sysret irqentry exit_to_user x64_sys ^__sys_ ^fdget ^fput __get_user __put_user ^asm_",
    ),
    (
        "the network",
        "tcp ^ip_ ^__ip_ _ip_ ipv4 ipv6 inet skb sock ^sk_ ^__sk_ nf_ conntrack ipt_ xt_ ^br_ ^__br_ veth loopback dev_ \
         netif net_rx napi softirq local_bh spin_lock_bh spin_unlock_bh bbr_ qdisc eth_ siphash process_backlog \
         raw_local_deliver __send __libc_recv",
    ),
    (
        "the kernel's memory and locks",
        "slab kmem ^kfree kmalloc alloc_pages alloc_frozen free_frozen freelist page_frag folio zone policy_node rcu_ \
         spin_lock spin_unlock memcg",
    ),
];
const REST: &str = "the rest";

/// Shares of a process's time, or why there are none.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    what: String,
    seen: Result<Seen, String>,
}

#[derive(Debug, Clone)]
struct Seen {
    samples: usize,
    /// Of all samples, each between 0 and 1.
    shares: Vec<(&'static str, f64)>,
}

impl Profile {
    /// Looks at process `pid` during `work`, which is called `what`. Uses `directory` for what perf writes.
    pub(crate) fn take(what: &str, pid: u32, directory: &Path, work: impl FnOnce()) -> Self {
        Self { what: what.to_owned(), seen: sample(pid, directory, work).map(|text| Seen::of(&text)) }
            .enough()
    }

    fn enough(mut self) -> Self {
        if let Ok(Seen { samples, .. }) = self.seen
            && samples < ENOUGH
        {
            self.seen = Err(format!("no profile: only {samples} samples"));
        }
        self
    }

    /// For the report: one line.
    pub(crate) fn line(&self) -> String {
        let Self { what, seen } = self;
        match seen {
            Ok(Seen { samples, shares }) => {
                let shares: Vec<_> =
                    shares.iter().map(|(kind, share)| format!("{kind} {:.0} %", share * 100.0)).collect();
                format!("{what}: {} ({samples} samples)", shares.join(", "))
            }
            Err(reason) => format!("{what}: {reason}"),
        }
    }

    pub(crate) fn json(&self) -> Value {
        match &self.seen {
            Ok(Seen { samples, shares }) => {
                let shares: serde_json::Map<_, _> = shares
                    .iter()
                    .map(|&(kind, share)| (kind.to_owned(), json!((share * 1e4).round() / 1e4)))
                    .collect();
                json!({ "what": self.what, "samples": samples, "shares": shares })
            }
            Err(reason) => json!({ "what": self.what, "missing": reason }),
        }
    }
}

impl Seen {
    /// From the names of functions, one line for each sample.
    fn of(text: &str) -> Self {
        let mut counts = [0_usize; KINDS.len() + 1];
        for function in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            counts[kind(function)] += 1;
        }
        let samples = counts.iter().sum();
        let names = KINDS.iter().map(|&(kind, _)| kind).chain([REST]);
        let mut shares: Vec<_> =
            names.zip(counts).map(|(kind, count)| (kind, count as f64 / samples as f64)).collect();
        shares.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        Self { samples, shares }
    }
}

/// The place of a function's kind in [`KINDS`], or behind them.
fn kind(function: &str) -> usize {
    let has = |part: &str| match part.strip_prefix('^') {
        Some(start) => function.starts_with(start),
        None => function.contains(part),
    };
    KINDS.iter().position(|(_, parts)| parts.split_whitespace().any(has)).unwrap_or(KINDS.len())
}

fn sample(pid: u32, directory: &Path, work: impl FnOnce()) -> Result<String, String> {
    if !Run::shell("command -v perf >/dev/null").finish().succeeded() {
        return Err(MISSING.to_owned());
    }
    let data = directory.join("perf.data");
    let perf = |order: &str| Run::new("perf").arg(order);
    let record = perf("record").args(["-q", "-F", FREQUENCY, "-p", &pid.to_string(), "-o"]).arg(&data);
    let mut record = record.start();
    // The file is there when perf begins to look.
    let mut began = true;
    until("perf", READY_WITHIN, || {
        began = record.is_running();
        if data.exists() || !began { Ok(()) } else { Err("nothing recorded yet".to_owned()) }
    });
    work();
    record.signal(Signal::SIGINT);
    let recorded = record.finish_within(READY_WITHIN);
    let script = perf("script").args(["-F", "sym", "-i"]).arg(&data).finish();
    std::fs::remove_file(&data).ok();
    if began && script.succeeded() {
        return Ok(script.text());
    }
    let said = [recorded.errors(), script.errors()].concat();
    Err(format!("no profile: perf fails: {}", said.lines().next().unwrap_or("without a word")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_kinds() {
        let named = |function| KINDS.get(kind(function)).map_or(REST, |&(kind, _)| kind);
        for (function, expected) in [
            ("_aesni_ctr32_ghash_6x", "ciphers"),
            ("<russh::cipher::gcm::OpeningKey<N> as russh::cipher::OpeningKey>::open", "ciphers"),
            ("_copy_to_iter", "copies"),
            ("__memmove_avx_unaligned_erms", "copies"),
            ("finish_task_switch.isra.0", "switches and wake-ups"),
            ("_raw_spin_unlock_irqrestore", "switches and wake-ups"),
            ("do_epoll_wait", "switches and wake-ups"),
            ("_int_free", "allocator"),
            ("do_syscall_64", "entering the kernel"),
            ("tcp_sendmsg_locked", "the network"),
            ("nf_conntrack_tcp_packet", "the network"),
            ("__slab_free", "the kernel's memory and locks"),
            ("russh::raw::Hop<R,W>::poll", "the relay's own code"),
            ("tokio::runtime::task::raw::schedule", "the relay's own code"),
            ("[unknown]", REST),
        ] {
            assert_eq!(named(function), expected, "{function}");
        }
    }

    #[test]
    fn shares_are_told_with_the_largest_first() {
        let text = "_aesni_ctr32_6x\n\n  tcp_ack\ntcp_ack\n[unknown]\n".repeat(25);
        let profile = Profile { what: "down".to_owned(), seen: Ok(Seen::of(&text)) }.enough();
        assert!(profile.line().starts_with("down: the network 50 %, ciphers 25 %, the rest 25 %"));
        assert!(profile.line().ends_with("(100 samples)"));
        assert_eq!(profile.json()["shares"]["ciphers"], 0.25);
    }

    #[test]
    fn what_says_nothing_is_no_profile() {
        for text in ["", "tcp_ack\n"] {
            let profile = Profile { what: "up".to_owned(), seen: Ok(Seen::of(text)) }.enough();
            assert!(profile.line().starts_with("up: no profile: only "), "{}", profile.line());
            assert!(profile.json()["missing"].is_string());
        }
    }
}
