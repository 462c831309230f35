// SPDX-License-Identifier: MIT OR Apache-2.0
//! Time stamps of log lines.

use super::number::decimal;

/// When a line was written, as the log says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// As it stands in the log.
    pub text: String,
    /// For comparison.
    pub key: Key,
}

/// A point in time that can be compared with others of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Microseconds since boot.
    Boot(u64),
    /// Microseconds since 1970 in the log's own time zone.
    Wall(u64),
    /// The same without a year: as if it were 1972, which has every day.
    Yearless(u64),
}

const SECOND: u64 = 1_000_000;
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

impl Key {
    /// Whether this is before `other`; `None` where they cannot be compared.
    pub fn before(self, other: Self) -> Option<bool> {
        match (self, other) {
            (Self::Boot(a), Self::Boot(b))
            | (Self::Wall(a), Self::Wall(b))
            | (Self::Yearless(a), Self::Yearless(b)) => Some(a < b),
            (Self::Wall(a), Self::Yearless(b)) => Some(yearless(a) < b),
            (Self::Yearless(a), Self::Wall(b)) => Some(a < yearless(b)),
            _ => None,
        }
    }
}

/// The same time of the year 1972.
fn yearless(wall: u64) -> u64 {
    let (_, month, day) = civil(wall / (86400 * SECOND));
    days(1972, month, day) * 86400 * SECOND + wall % (86400 * SECOND)
}

impl Stamp {
    /// The time stamp in what stands before a message: that of the kernel (`[   12.345678]`) if there is one,
    /// else of the logger.
    pub fn find(prefix: &[u8]) -> Option<Self> {
        boot(prefix).or_else(|| wall(prefix)).or_else(|| syslog(prefix))
    }

    /// A time stamp that somebody typed: seconds since boot, or any form of [`Self::find`].
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.trim().as_bytes();
        if let Some((micros, b"")) = seconds(bytes) {
            return Some(Self { text: text.trim().to_owned(), key: Key::Boot(micros) });
        }
        let mut whole = bytes.to_vec();
        // A day alone begins at midnight.
        if whole.len() == 10 && whole.get(4) == Some(&b'-') {
            whole.extend(b"T00:00:00");
        }
        let stamp = Self::find(&whole)?;
        Some(Self { text: text.trim().to_owned(), ..stamp })
    }

    fn new(text: &[u8], key: Key) -> Self {
        Self { text: String::from_utf8_lossy(text).trim().to_owned(), key }
    }

    /// From microseconds since 1970 (UTC), as journald's JSON has it.
    pub fn of_micros(digits: &[u8]) -> Option<Self> {
        let (micros, rest) = decimal(digits)?;
        let day = micros / (86400 * SECOND);
        if !rest.is_empty() || day > 400_000 {
            return None;
        }
        let (year, month, date) = civil(day);
        let (seconds, micros_of) = (micros / SECOND % 86400, micros % SECOND);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let text =
            format!("{year}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{micros_of:06}");
        Some(Self { text, key: Key::Wall(micros) })
    }
}

/// `12.345678`, to microseconds.
fn seconds(text: &[u8]) -> Option<(u64, &[u8])> {
    let (whole, rest) = decimal(text)?;
    let (fraction, rest) = match rest.strip_prefix(b".") {
        Some(rest) => {
            let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (digits, rest) = rest.split_at_checked(length)?;
            let micros = digits.iter().chain(b"000000").take(6);
            (micros.fold(0, |value, digit| value * 10 + u64::from(digit - b'0')), rest)
        }
        None => (0, rest),
    };
    Some((whole.checked_mul(SECOND)?.checked_add(fraction)?, rest))
}

/// `[   12.345678]`, also with a thread behind the number: `[   12.345678][ T123]`, `[   12.345678 T1]`.
fn boot(prefix: &[u8]) -> Option<Stamp> {
    for start in memchr::memchr_iter(b'[', prefix) {
        let inner = prefix.get(start + 1..)?.trim_ascii_start();
        let Some((micros, rest)) = seconds(inner) else { continue };
        let number = inner.get(..inner.len() - rest.len())?;
        if number.contains(&b'.') && matches!(rest.first(), Some(b']' | b' ' | b'@')) {
            return Some(Stamp::new(number, Key::Boot(micros)));
        }
    }
    None
}

/// `2026-11-26T02:50:42.123`, with a space for the T too; or `Thu Nov 26 02:50:42 2026` of `dmesg -T`.
fn wall(prefix: &[u8]) -> Option<Stamp> {
    for dash in memchr::memchr_iter(b'-', prefix) {
        let Some(start) = dash.checked_sub(4) else { continue };
        let Some(text) = prefix.get(start..) else { continue };
        if let Some((micros, length)) = iso(text) {
            return Some(Stamp::new(text.get(..length)?, Key::Wall(micros)));
        }
    }
    let (text, month, day, time, length) = named(prefix)?;
    let year = text.get(length..)?.strip_prefix(b" ").and_then(decimal)?;
    let (1970..=2999, rest) = (year.0, year.1) else { return None };
    let key = Key::Wall(days(year.0, month, day) * 86400 * SECOND + time);
    Some(Stamp::new(text.get(..text.len() - rest.len())?, key))
}

/// `Nov 26 02:50:42`.
fn syslog(prefix: &[u8]) -> Option<Stamp> {
    let (text, month, day, time, length) = named(prefix)?;
    let key = Key::Yearless(days(1972, month, day) * 86400 * SECOND + time);
    Some(Stamp::new(text.get(..length)?, key))
}

/// A date with the month's name: where it begins, month, day, microseconds of the day, and its length.
fn named(prefix: &[u8]) -> Option<(&[u8], u64, u64, u64, usize)> {
    for start in 0..prefix.len().min(64) {
        let text = prefix.get(start..)?;
        let Some(month) = MONTHS.iter().position(|name| text.starts_with(*name)) else { continue };
        let Some(rest) = text.get(3..)?.strip_prefix(b" ") else { continue };
        let Some((day @ 1..=31, rest)) = decimal(rest.trim_ascii_start()) else { continue };
        let Some((time, rest)) = rest.strip_prefix(b" ").and_then(clock) else { continue };
        return Some((text, month as u64 + 1, day, time, text.len() - rest.len()));
    }
    None
}

/// `02:50:42.123` in microseconds.
fn clock(text: &[u8]) -> Option<(u64, &[u8])> {
    let (hour @ 0..=23, rest) = decimal(text)? else { return None };
    let (minute @ 0..=59, rest) = decimal(rest.strip_prefix(b":")?)? else { return None };
    let (micros, rest) = seconds(rest.strip_prefix(b":")?)?;
    (micros <= 61 * SECOND).then_some(((hour * 3600 + minute * 60) * SECOND + micros, rest))
}

/// `2026-11-26T02:50:42.123` in microseconds, and its length.
fn iso(text: &[u8]) -> Option<(u64, usize)> {
    let (year @ 1970..=2999, rest) = decimal(text.get(..4)?)? else { return None };
    if !rest.is_empty() {
        return None;
    }
    let (month @ 1..=12, rest) = decimal(text.get(4..)?.strip_prefix(b"-")?)? else { return None };
    let (day @ 1..=31, rest) = decimal(rest.strip_prefix(b"-")?)? else { return None };
    let rest = rest.strip_prefix(b"T").or_else(|| rest.strip_prefix(b" "))?;
    let (micros, rest) = clock(rest)?;
    Some((days(year, month, day) * 86400 * SECOND + micros, text.len() - rest.len()))
}

/// Days from 1970-01-01 to a date from 1970 to 2999.
fn days(year: u64, month: u64, day: u64) -> u64 {
    // Years begin in March, so that leap days are at their ends.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year / 4 - year / 100 + year / 400;
    year * 365 + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// The date of a day since 1970-01-01.
fn civil(day: u64) -> (u64, u64, u64) {
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (era * 400 + year, month, date)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(prefix: &str) -> (String, Key) {
        let stamp = Stamp::find(prefix.as_bytes()).unwrap();
        (stamp.text, stamp.key)
    }

    #[test]
    fn every_kind_of_stamp_is_found_in_what_stands_before_a_message() {
        let boot = |micros| Key::Boot(micros);
        assert_eq!(find("[    7.471032] [pid:134,cpu0]"), ("7.471032".to_owned(), boot(7_471_032)));
        assert_eq!(find("<3>[12345.5][  T123] "), ("12345.5".to_owned(), boot(12_345_500_000)));
        assert_eq!(find("Nov 26 02:50:42 host kernel: [ 1.000001] ").1, boot(1_000_001));
        // 2026-11-26 is day 20783.
        let wall = (20_783 * 86_400 + 2 * 3600 + 50 * 60 + 42) * 1_000_000;
        let iso = "2026-11-26T02:50:42.25+0000 host kernel: ";
        assert_eq!(find(iso), ("2026-11-26T02:50:42.25".to_owned(), Key::Wall(wall + 250_000)));
        let ctime = ("Nov 26 02:50:42 2026".to_owned(), Key::Wall(wall));
        assert_eq!(find("[Thu Nov 26 02:50:42 2026] "), ctime);
        let (text, key) = find("Nov  6 02:50:42 host kernel: ");
        assert_eq!(text, "Nov  6 02:50:42");
        assert!(matches!(key, Key::Yearless(_)));
        assert_eq!(Stamp::find(b"arm-smmu-v3 [pid:1]"), None);
        let journal = Stamp::of_micros(b"1795661442250000").unwrap();
        assert_eq!(
            journal,
            Stamp { text: "2026-11-26T02:50:42.250000".to_owned(), key: Key::Wall(wall + 250_000) }
        );
    }

    #[test]
    fn what_somebody_types_is_compared_with_the_logs_own_form() {
        let parse = |text| Stamp::parse(text).unwrap().key;
        assert_eq!(parse("12.5"), Key::Boot(12_500_000));
        assert_eq!(parse("2026-11-26"), Key::Wall(20_783 * 86_400 * 1_000_000));
        let syslog = find("Nov 26 02:50:42 ").1;
        assert_eq!(syslog.before(parse("2026-11-26 03:00:00")), Some(true));
        assert_eq!(parse("2026-11-25T03:00:00").before(syslog), Some(true));
        assert_eq!(parse("12.5").before(syslog), None);
        assert_eq!(Stamp::parse("yesterday"), None);
    }

    #[test]
    fn days_and_dates_are_inverse() {
        assert_eq!((days(1970, 1, 1), days(2000, 3, 1)), (0, 11_017));
        for day in (0..376_000).step_by(7) {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day);
        }
    }
}
