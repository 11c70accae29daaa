//! Where a process's time goes, by kind, as `perf` samples it, and what it leaves of the machine to others: what a
//! figure that misses its goal has to say for itself.
//!
//! A sample counts for the kind of the function that was running. Samples are taken by a timer, since many a
//! virtual machine has no performance counters. A function that runs with interrupts off is then seen where it puts
//! them on again: waking another processor looks like the unlocking that follows it, and is counted as waking.

use std::path::{Path, PathBuf};
use std::time::Duration;

use boxgate_tests::{Run, Running, Stopwatch, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::figure::rounded;
use crate::machine::{Ticks, cores};
use crate::process::cpu_seconds;

/// Samples a second: not in step with anything that ticks, and enough for the little that a keystroke costs.
const FREQUENCY: &str = "3989";
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Fewer samples say nothing.
const ENOUGH: usize = 50;
const MISSING: &str =
    "no profile: perf is not installed (Debian: apt-get install linux-perf, Ubuntu: linux-tools-generic)";

/// In the order in which they are asked, with parts of their functions' names. After `^` it is the name's start.
const KINDS: [(&str, &str); 8] = [
    ("ciphers", "aes gcm ghash chacha ChaCha poly1305 EVP_AEAD CRYPTO_ sha256 sha512 ::cipher::"),
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
    load: Load,
    seen: Result<Seen, String>,
}

/// How busy the processors were: shares of all their time, between 0 and 1.
#[derive(Debug, Clone, Copy)]
struct Load {
    all: f64,
    /// Of `all`, the process's own.
    own: f64,
}

impl Load {
    /// Of process `pid` during `work`.
    fn during(pid: u32, work: impl FnOnce()) -> Self {
        let (ticks, seconds, watch) = (Ticks::now(), cpu_seconds(pid), Stopwatch::start());
        work();
        let available = watch.elapsed().as_secs_f64() * cores() as f64;
        Self { all: Ticks::now().busy_since(ticks), own: (cpu_seconds(pid) - seconds) / available }
    }
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
        let recording = Recording::start(pid, directory);
        let load = Load::during(pid, work);
        let functions = recording.and_then(Recording::finish);
        Self { what: what.to_owned(), load, seen: functions.map(|text| Seen::of(&text)) }.enough()
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
        let Self { what, load: Load { all, own }, seen } = self;
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let what = format!("{what}: processors {} busy, {} the gateway's", percent(*all), percent(*own));
        match seen {
            Ok(Seen { samples, shares }) => {
                let shares: Vec<_> =
                    shares.iter().map(|&(kind, share)| format!("{kind} {}", percent(share))).collect();
                format!("{what}: {} ({samples} samples)", shares.join(", "))
            }
            Err(reason) => format!("{what}: {reason}"),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let Self { what, load, seen } = self;
        let busy = json!({ "all": rounded(load.all), "own": rounded(load.own) });
        match seen {
            Ok(Seen { samples, shares }) => {
                let shares: serde_json::Map<_, _> =
                    shares.iter().map(|&(kind, share)| (kind.to_owned(), json!(rounded(share)))).collect();
                json!({ "what": what, "busy": busy, "samples": samples, "shares": shares })
            }
            Err(reason) => json!({ "what": what, "busy": busy, "missing": reason }),
        }
    }
}

impl Seen {
    /// From a line for each sample: an address, and the name of the function there.
    fn of(text: &str) -> Self {
        let mut counts = [0_usize; KINDS.len() + 1];
        for (_, function) in text.lines().filter_map(|line| line.trim().split_once(' ')) {
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

/// perf, looking at a process.
struct Recording {
    perf: Running,
    data: PathBuf,
}

impl Recording {
    fn start(pid: u32, directory: &Path) -> Result<Self, String> {
        if !Run::shell("command -v perf >/dev/null").finish().succeeded() {
            return Err(MISSING.to_owned());
        }
        let data = directory.join("perf.data");
        let perf = Run::new("perf")
            .args(["record", "-q", "-e", "cpu-clock", "-F", FREQUENCY, "-p", &pid.to_string(), "-o"])
            .arg(&data);
        let mut perf = perf.start();
        // The file is there when perf begins to look.
        until("perf", READY_WITHIN, || {
            let began = data.exists() || !perf.is_running();
            began.then_some(()).ok_or_else(|| "nothing recorded yet".to_owned())
        });
        if perf.is_running() {
            return Ok(Self { perf, data });
        }
        Err(failure(&perf.finish_within(READY_WITHIN).errors()))
    }

    /// A line for each sample, as [`Seen::of`] reads them.
    fn finish(mut self) -> Result<String, String> {
        self.perf.signal(Signal::SIGINT);
        let recorded = self.perf.finish_within(READY_WITHIN);
        // perf 6.1 names no function without its address.
        let script = Run::new("perf").args(["script", "-F", "ip,sym", "-i"]).arg(&self.data).finish();
        std::fs::remove_file(&self.data).ok();
        if script.succeeded() {
            Ok(script.text())
        } else {
            Err(failure(&(recorded.errors() + &script.errors())))
        }
    }
}

fn failure(said: &str) -> String {
    format!("no profile: perf fails: {}", said.lines().next().unwrap_or("without a word"))
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
            ("aws_lc_0_47_0_ChaCha20_ctr32_avx2", "ciphers"),
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

    fn profile(text: &str) -> Profile {
        let load = Load { all: 0.97, own: 0.3 };
        Profile { what: "down".to_owned(), load, seen: Ok(Seen::of(text)) }.enough()
    }

    #[test]
    fn shares_are_told_with_the_largest_first() {
        let profile =
            profile(&"  55d0 _aesni_ctr32_6x\n\n ffff81 tcp_ack\nffff81 tcp_ack\n 0 [unknown]\n".repeat(25));
        let start =
            "down: processors 97 % busy, 30 % the gateway's: the network 50 %, ciphers 25 %, the rest 25 %";
        assert!(profile.line().starts_with(start), "{}", profile.line());
        assert!(profile.line().ends_with("(100 samples)"));
        assert_eq!(profile.json()["shares"]["ciphers"], 0.25);
        assert_eq!(profile.json()["busy"]["own"], 0.3);
    }

    #[test]
    fn what_says_nothing_is_no_profile() {
        for text in ["", "\n\n", "ffff81 tcp_ack\n"] {
            let profile = profile(text);
            assert!(profile.line().contains("the gateway's: no profile: only "), "{}", profile.line());
            assert!(profile.json()["missing"].is_string());
        }
    }
}
