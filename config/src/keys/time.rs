//! `expiry-time=`: a moment as `authorized_keys` writes it.

use std::time::SystemTime;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Parses `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, in this host's time zone or, with `Z` behind it, in UTC.
pub(super) fn parse_time(text: &str) -> Result<SystemTime, String> {
    let (digits, zone) = match text.strip_suffix(['Z', 'z']) {
        Some(digits) => (digits, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    let malformed =
        || format!("is {text:?}, which is no time: write YYYYMMDD[HHMM[SS]], with a Z behind it for UTC");
    if !digits.bytes().all(|c| c.is_ascii_digit()) || ![8, 12, 14].contains(&digits.len()) {
        return Err(malformed());
    }
    // Digits alone: each range is one or two characters within the text, or beyond its end.
    let number = |from: usize, to: usize| digits.get(from..to).map_or(Ok(0), str::parse::<i8>);
    let year: i16 = digits[..4].parse().map_err(|_| malformed())?;
    let part = |from| number(from, from + 2).map_err(|_| malformed());
    let civil = DateTime::new(year, part(4)?, part(6)?, part(8)?, part(10)?, part(12)?, 0);
    let zoned = civil.and_then(|civil| civil.to_zoned(zone)).map_err(|_| malformed())?;
    Ok(zoned.timestamp().into())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("19700102Z", 86_400)]
    #[case("197001010001Z", 60)]
    #[case("19700101000102Z", 62)]
    #[case("20380119031408Z", 2_147_483_648)]
    fn in_utc(#[case] text: &str, #[case] seconds: u64) {
        assert_eq!(parse_time(text).unwrap(), UNIX_EPOCH + Duration::from_secs(seconds));
    }

    #[test]
    fn in_the_time_zone_of_the_host() {
        let day = Duration::from_secs(86_400);
        let noon = UNIX_EPOCH + day * 366 + day / 2;
        let local = parse_time("197101021200").unwrap();
        let apart = local.duration_since(noon).unwrap_or_else(|before| before.duration());
        assert!(apart <= Duration::from_secs(14 * 3600), "{apart:?}");
    }

    #[rstest]
    #[case("")]
    #[case("Z")]
    #[case("2024")]
    #[case("2024-01-01")]
    #[case("20241301")]
    #[case("20240230Z")]
    #[case("2024010125")]
    #[case("202401012500")]
    #[case("never")]
    #[case("２０２４0101")]
    fn nonsense_is_refused(#[case] text: &str) {
        parse_time(text).unwrap_err();
    }
}
