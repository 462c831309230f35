// SPDX-License-Identifier: MIT OR Apache-2.0
//! One line: who says it, when, and what.

use std::borrow::Cow;

use memchr::memmem;

use super::stamp::Stamp;

/// A line without what loggers put before messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// When it was written.
    pub stamp: Option<Stamp>,
    /// The SMMU that it is about.
    pub instance: Option<String>,
    /// Whether an SMMU's driver says it, with or without a name.
    pub tagged: bool,
    /// Whether the name stands behind `platform`: no driver is bound to the device.
    pub unbound: bool,
    /// The message; the whole line where nothing says whose it is.
    pub text: &'a [u8],
}

/// A line that others wrote can have anything in it: colours, carriage returns, NULs. Removed here.
pub fn clean(raw: &[u8]) -> Cow<'_, [u8]> {
    if !raw.iter().any(|byte| matches!(byte, 0 | b'\r' | 0x1b | b'=')) {
        return Cow::Borrowed(raw);
    }
    let mut kept = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            0 | b'\r' => {}
            // A colour: ESC [ digits and semicolons, a letter.
            0x1b => {
                if let Some(code) = rest.strip_prefix(b"[") {
                    let length = code.iter().take_while(|byte| !byte.is_ascii_alphabetic()).count();
                    rest = code.get(length + 1..).unwrap_or(&[]);
                }
            }
            // Mail encodes white space.
            b'=' if matches!(rest, [b'0', b'9' | b'D', ..] | [b'2', b'0', ..]) => {
                if !rest.starts_with(b"0D") && rest != b"20" {
                    kept.push(b' ');
                }
                rest = rest.get(2..).unwrap_or(&[]);
            }
            other => kept.push(*other),
        }
    }
    Cow::Owned(kept)
}

/// The message of a line of JSON (journald's, or that of a container's log), and its time.
pub fn unpacked(line: &[u8]) -> Option<(Vec<u8>, Option<Stamp>)> {
    if !line.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    let text = value.get("MESSAGE").or_else(|| value.get("log"))?.as_str()?.as_bytes().to_vec();
    let micros =
        value.get("__REALTIME_TIMESTAMP").or_else(|| value.get("_SOURCE_REALTIME_TIMESTAMP"));
    let stamp = micros.and_then(|micros| Stamp::of_micros(micros.as_str()?.as_bytes()));
    let stamp = stamp.or_else(|| Stamp::parse(value.get("time")?.as_str()?));
    Some((text, stamp))
}

impl<'a> Line<'a> {
    /// Takes a clean line apart.
    pub fn split(line: &'a [u8]) -> Self {
        let mut before: &[u8] = &[];
        let mut place = 0;
        let mut xen = false;
        for token in line.split(|byte| byte.is_ascii_whitespace()) {
            let start = place;
            place += token.len() + 1;
            if token.is_empty() {
                continue;
            }
            if let Some(name) = token.strip_suffix(b":") {
                let driver = before.ends_with(b"arm-smmu-v3");
                let device = is_device(name);
                if driver || xen || device {
                    if name.eq_ignore_ascii_case(b"SMMUv3") {
                        // Xen: `SMMUv3: /path/of/the/node: ...`.
                        (before, xen) = (token, true);
                        let named = line.get(place..).is_some_and(|rest| {
                            rest.split(|byte| byte.is_ascii_whitespace())
                                .next()
                                .is_some_and(|next| next.len() > 1 && next.ends_with(b":"))
                        });
                        if named {
                            continue;
                        }
                    }
                    let plain = name == b"arm-smmu-v3" || name.eq_ignore_ascii_case(b"SMMUv3");
                    // Without the driver's name before it, a prefix may stick to it.
                    let name = if driver || xen { name } else { tail(name) };
                    return Self {
                        stamp: Stamp::find(line.get(..start).unwrap_or(&[])),
                        instance: (!plain).then(|| String::from_utf8_lossy(name).into_owned()),
                        tagged: true,
                        unbound: before == b"platform",
                        text: line.get(place..).unwrap_or(&[]),
                    };
                }
            }
            before = token;
        }
        let iommu = memmem::find(line, b"IOMMU: ");
        let stamp = Stamp::find(line.get(..line.len().min(80)).unwrap_or(&[]));
        Self { stamp, instance: None, tagged: iommu.is_some(), unbound: false, text: line }
    }

    /// The message without time stamps, levels and quotation marks, where nothing said whose it is.
    pub fn payload(&self) -> &'a [u8] {
        let mut text = self.text.trim_ascii();
        if self.tagged && self.instance.is_some() {
            return text;
        }
        // More than so many prefixes are none.
        for _ in 0..16 {
            let start = text;
            text = text.trim_ascii_start();
            // Quotation marks of mails and of Markdown.
            while let Some((b'>' | b'|' | b'*' | b'`' | b'+', rest)) = text.split_first() {
                text = rest.trim_ascii_start();
            }
            // [ 7.4], [T12], <3>, (XEN)
            for (open, close) in [(b'[', b']'), (b'<', b'>'), (b'(', b')')] {
                if text.first() == Some(&open)
                    && let Some(end) = memchr::memchr(close, text)
                    && end <= 64
                {
                    text = text.get(end + 1..).unwrap_or(&[]);
                }
            }
            // ... kernel:, IOMMU:
            for word in [&b"kernel:"[..], b"IOMMU:", b"kern.err:"] {
                if let Some(found) = memmem::find(text, word)
                    && found <= 80
                {
                    text = text.get(found + word.len()..).unwrap_or(&[]);
                }
            }
            if text.len() == start.len() {
                break;
            }
        }
        text
    }
}

/// A name without brackets before it.
fn tail(name: &[u8]) -> &[u8] {
    name.rsplit(|byte| matches!(byte, b']' | b')' | b'>')).next().unwrap_or(name)
}

/// Whether a name with a colon behind it is that of an SMMU: `arm-smmu-v3.0.auto`, `2b400000.smmuv3`, `smmu0`,
/// `fc900000.iommu`.
fn is_device(name: &[u8]) -> bool {
    let tail = tail(name);
    let plain = tail.iter().all(|byte| byte.is_ascii_graphic()) && !tail.is_empty();
    plain
        && (tail.ends_with(b".iommu")
            || tail.windows(4).any(|four| four.eq_ignore_ascii_case(b"smmu")))
        // QEMU's memory regions are not instances; the host's SMMUv2 driver is another one.
        && !tail.starts_with(b"arm-smmu.")
        // Functions of the driver.
        && !tail.starts_with(b"arm_smmu_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, instance: Option<&str>, text: &str) {
        let cleaned = clean(line.as_bytes());
        let split = Line::split(&cleaned);
        assert_eq!(split.instance.as_deref(), instance, "{line}");
        assert_eq!(String::from_utf8_lossy(split.payload()), text, "{line}");
    }

    #[test]
    fn the_instance_is_found_behind_any_prefix() {
        let auto = Some("arm-smmu-v3.0.auto");
        for prefix in [
            "",
            "[    7.471032] ",
            "[    7.471032][  T123] ",
            "[    7.471032] [pid:134,cpu0,irq/13-arm-smmu]",
            "[Thu Nov 26 02:50:42 2026] ",
            "Nov 26 02:50:42 host kernel: ",
            "Nov 26 02:50:42 host kernel: [    7.471032] ",
            "2026-11-26T02:50:42+0000 host kernel: ",
            "2026-11-26 02:50:42,123 <3>[ 7.4] ",
            "11-26 02:50:42.123     0     0 E ",
            "<3>",
            "> > > ",
            "\x1b[32m[    7.471032] \x1b[0m\x1b[33m",
            "[2026-11-26 02:50:42] [    7.471032] ",
        ] {
            let line = format!("{prefix}arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:\r");
            check(&line, auto, "event 0x10 received:");
        }
        check("platform arm-smmu-v3.0.auto: CMD_SYNC timeout", auto, "CMD_SYNC timeout");
        let xen = "(XEN) SMMUv3: /soc/iommu@5000000: event 0x10 received:";
        check(xen, Some("/soc/iommu@5000000"), "event 0x10 received:");
        check("smmu0: evt[0] 10", Some("smmu0"), "evt[0] 10");
        check(
            "arm-smmu-v3 fc900000.iommu:      0x0000010000000010",
            Some("fc900000.iommu"),
            "0x0000010000000010",
        );
        check("[ 1.5]arm-smmu-v3.0.auto: CMDQ timeout", auto, "CMDQ timeout");
        check("(XEN) SMMUv3: event 0x10 received:", None, "event 0x10 received:");
        check("arm-smmu-v3: CMDQ error", None, "CMDQ error");
    }

    #[test]
    fn without_an_instance_the_prefix_still_goes() {
        check("[    7.4] 0x0000018000000010", None, "0x0000018000000010");
        check("> `0x0000018000000010`", None, "0x0000018000000010`");
        check("Nov 26 02:50:42 host kernel: \t0x0000018000000010", None, "0x0000018000000010");
        check("IOMMU: 0x10", None, "0x10");
        check("> arm-smmu-v3 smmu0: =090x0000790000000010=0D", Some("smmu0"), "0x0000790000000010");
    }
}
