//! Versions as programs print them: `6.18.44-aws`, `20.10.24+dfsg1`.

/// Major, minor and patch level, as far as they are there.
pub(super) fn version(text: &str) -> Option<(u32, u32, u32)> {
    let numbers = text.trim_start_matches('v').split(|c: char| c != '.' && !c.is_ascii_digit()).next()?;
    let mut numbers = numbers.split('.').map(str::parse::<u32>);
    let major = numbers.next()?.ok()?;
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or_default();
    Some((major, next(), next()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("6.18.44-aws", Some((6, 18, 44)))]
    #[case("20.10.24+dfsg1", Some((20, 10, 24)))]
    #[case("0.7.1", Some((0, 7, 1)))]
    #[case("v29.1", Some((29, 1, 0)))]
    #[case("6", Some((6, 0, 0)))]
    #[case("unknown", None)]
    #[case("", None)]
    fn versions(#[case] text: &str, #[case] expected: Option<(u32, u32, u32)>) {
        assert_eq!(version(text), expected);
    }
}
