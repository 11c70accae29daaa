//! Which capabilities this host can give: a container cannot have one that the host itself lacks.

/// Bit of `CAP_SYS_RESOURCE` (capabilities(7), `linux/capability.h`).
const SYS_RESOURCE: u32 = 24;

/// Whether a container may be given `CAP_SYS_RESOURCE`. When the kernel does not tell, it may.
pub(super) fn has_sys_resource() -> bool {
    std::fs::read_to_string("/proc/self/status").ok().and_then(|status| bounding(&status)).is_none_or(has)
}

fn has(bounding: u64) -> bool {
    bounding >> SYS_RESOURCE & 1 == 1
}

/// The bounding set of a `/proc/PID/status` (proc(5)).
fn bounding(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("Name:\tx\nCapBnd:\t000001ffffffffff\n", Some(true))]
    #[case("Name:\tx\nCapBnd:\t000001fffeffffff\n", Some(false))]
    #[case("Name:\tx\n", None)]
    #[case("CapBnd:\tnonsense\n", None)]
    fn a_bounding_set(#[case] status: &str, #[case] expected: Option<bool>) {
        assert_eq!(bounding(status).map(has), expected);
    }
}
