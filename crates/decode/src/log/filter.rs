// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which records somebody wants to see.

use smmuv3_formats::EventId;

use super::record::Record;
use super::stamp::{Key, Stamp};

/// Conditions; of several of a kind one must hold, and of each kind that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// StreamIDs.
    pub sids: Vec<u64>,
    /// Names of events.
    pub events: Vec<String>,
    /// Parts of the names of instances.
    pub instances: Vec<String>,
    /// The earliest time. What has no time that can be compared is reported.
    pub since: Option<Stamp>,
}

/// A condition that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Not `KEY=VALUE`, or another key.
    #[error(
        "{0:?} is no condition; use sid=0x100, event=F_TRANSLATION, event=0x10 or instance=NAME"
    )]
    Key(String),
    /// Not a StreamID.
    #[error(
        "{0:?} is no StreamID; use a number such as 0x100 or 256, or a PCI function such as 01:00.0"
    )]
    Sid(String),
    /// Not an event.
    #[error("there is no event {0:?}; use a name such as F_TRANSLATION or a code such as 0x10")]
    Event(String),
    /// Not a time.
    #[error("{0:?} is no time; use seconds since boot such as 12.5, or 2026-11-26T02:50:42")]
    Time(String),
}

impl Filter {
    /// Adds a condition such as `sid=0x100`.
    ///
    /// # Errors
    /// It is not understood.
    pub fn add(&mut self, condition: &str) -> Result<(), FilterError> {
        let key = || FilterError::Key(condition.to_owned());
        let (name, value) = condition.split_once('=').ok_or_else(key)?;
        let value = value.trim();
        match name.trim() {
            "sid" => {
                self.sids.push(sid(value).ok_or_else(|| FilterError::Sid(value.to_owned()))?);
            }
            "event" => {
                self.events.push(event(value).ok_or_else(|| FilterError::Event(value.to_owned()))?);
            }
            "instance" if !value.is_empty() => self.instances.push(value.to_owned()),
            _ => return Err(key()),
        }
        Ok(())
    }

    /// Sets the earliest time.
    ///
    /// # Errors
    /// It is not understood.
    pub fn since(&mut self, time: &str) -> Result<(), FilterError> {
        let stamp = Stamp::parse(time).ok_or_else(|| FilterError::Time(time.to_owned()))?;
        self.since = Some(stamp);
        Ok(())
    }

    /// Whether a record is wanted.
    pub fn wants(&self, record: &Record, key: Option<Key>) -> bool {
        let sid = self.sids.is_empty() || record.sid().is_some_and(|sid| self.sids.contains(&sid));
        let event = self.events.is_empty() || self.events.contains(&record.name);
        let named = |name: &String| {
            record.instance.as_ref().is_some_and(|instance| instance.contains(name.as_str()))
        };
        let instance = self.instances.is_empty() || self.instances.iter().any(named);
        let early = match (&self.since, key) {
            (Some(since), Some(key)) => key.before(since.key) == Some(true),
            _ => false,
        };
        sid && event && instance && !early
    }
}

/// `0x100`, `256`, `01:00.0`, `0000:01:00.0`.
fn sid(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok();
    }
    let Some((bus, rest)) = text.rsplit_once(':') else { return text.parse().ok() };
    let bus = bus.rsplit(':').next()?;
    let (device, function) = rest.split_once('.')?;
    let number =
        |text: &str, most: u64| u64::from_str_radix(text, 16).ok().filter(|value| *value <= most);
    Some(number(bus, 0xff)? << 8 | number(device, 0x1f)? << 3 | number(function, 7)?)
}

fn event(text: &str) -> Option<String> {
    let code = text.strip_prefix("0x").and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let id = EventId::ALL
        .iter()
        .find(|id| Some(**id as u8) == code || id.name().eq_ignore_ascii_case(text))?;
    Some(id.name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_understood_or_refused_with_what_to_write() {
        let mut filter = Filter::default();
        for condition in
            ["sid=0x100", "sid=256", "sid=0000:01:00.0", "event=0x10", "event=c_bad_ste"]
        {
            filter.add(condition).unwrap();
        }
        assert_eq!(filter.sids, [256, 256, 256]);
        assert_eq!(filter.events, ["F_TRANSLATION", "C_BAD_STE"]);
        filter.since("12.5").unwrap();
        for (wrong, words) in [
            ("sid", "no condition"),
            ("page=1", "no condition"),
            ("sid=x", "no StreamID"),
            ("event=F_TL_PF", "no event"),
        ] {
            let error = filter.add(wrong).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(filter.since("soon").is_err());
    }
}
