// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines that a terminal wrapped: what was copied from it has them in two parts.

use super::line::Line;
use super::message::{self, Message};

/// The narrowest terminal whose copies are put together.
const NARROW: usize = 40;

/// Whether an SMMU's driver says something in a line that is no whole message.
pub fn is_cut(line: &[u8]) -> bool {
    // A logger's JSON is unpacked elsewhere.
    if line.len() < NARROW || line.trim_ascii_start().starts_with(b"{") {
        return false;
    }
    let split = Line::split(line);
    split.tagged
        && !message::read(split.payload(), true).is_some_and(|message| {
            let open = matches!(message, Message::Said(_) | Message::Tail(_));
            !open && is_whole(&message, split.payload())
        })
}

/// The message of two parts, if they are one, and the second is none by itself.
pub fn joined(first: &[u8], second: &[u8]) -> Option<Vec<u8>> {
    let alone = Line::split(second);
    if second.is_empty() || alone.tagged || alone.stamp.is_some() {
        return None;
    }
    let before = message::read(Line::split(first).payload(), true);
    // Copying may drop the space at the end of the first part.
    [&b""[..], b" "].into_iter().map(|between| [first, between, second].concat()).find(|whole| {
        let split = Line::split(whole);
        let message = message::read(split.payload(), true);
        split.tagged
            && message != before
            && message.is_some_and(|message| is_whole(&message, split.payload()))
    })
}

fn is_whole(message: &Message, text: &[u8]) -> bool {
    let count = |byte: u8| text.iter().filter(|other| **other == byte).count();
    let closed = count(b'(') <= count(b')') && count(b'[') <= count(b']');
    match message {
        Message::Broken | Message::SyncTimeout(None) => false,
        Message::Said(said) => said.ssid.is_some() && (said.iova.is_none() || said.ipa.is_some()),
        Message::Gerror(_)
        | Message::CommandError(_)
        | Message::SyncTimeout(_)
        | Message::Features(..) => closed,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_one_only_if_they_make_sense_together() {
        let first = b"[    7.471032] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000";
        assert!(is_cut(first));
        assert!(joined(first, b"018000000010").is_some());
        assert_eq!(joined(first, b"[    7.5] usb 1-1: new device"), None);
        assert_eq!(joined(first, b"something else"), None);
        assert!(!is_cut(b"[    7.471032] arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:"));
        let event = b"[    7.471032] arm-smmu-v3 a-name-that-is-very-long.auto: event";
        assert!(is_cut(event) && joined(event, b"0x10 received:").is_some());
    }
}
