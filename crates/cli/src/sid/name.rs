// SPDX-License-Identifier: MIT OR Apache-2.0
//! How devices and streams are written.

use smmuv3_discovery::Device;

/// What somebody asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A PCI function.
    Function(Function),
    /// A StreamID.
    Stream(u32),
    /// A device by its name in the device tree or the ACPI name space.
    Path(String),
}

/// A PCI function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its segment (domain), if that was said.
    pub segment: Option<u32>,
    /// Its bus.
    pub bus: u8,
    /// Its device, below 32.
    pub device: u8,
    /// Its function, below 8.
    pub function: u8,
}

impl Function {
    /// The function whose requester ID is `id`, in no segment.
    pub const fn of_requester(id: u16) -> Self {
        let [bus, rest] = id.to_be_bytes();
        Self { segment: None, bus, device: rest >> 3, function: rest & 7 }
    }

    /// Its requester ID.
    pub const fn requester(&self) -> u16 {
        u16::from_be_bytes([self.bus, self.device << 3 | self.function & 7])
    }

    /// As discovery names it.
    pub const fn device(&self) -> Device<'static> {
        let segment = match self.segment {
            Some(segment) => segment,
            None => 0,
        };
        Device::Pci { segment, bus: self.bus, device: self.device, function: self.function }
    }
}

impl std::fmt::Display for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.device().fmt(f)
    }
}

const RIGHT: &str = "give a PCI function such as 0000:01:00.0 or 01:00.0, a StreamID such as 0x100 or 256, or \
                     the name of a device that begins with / or \\";

/// Reads a name.
///
/// # Errors
/// Why it is none, and what would be one.
pub fn read(text: &str) -> Result<Name, String> {
    if text.starts_with(['/', '\\']) {
        return Ok(Name::Path(text.to_owned()));
    }
    if text.contains(':') {
        return function(text).map(Name::Function);
    }
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16),
        _ => text.parse(),
    };
    match number {
        Ok(number) => u32::try_from(number)
            .map(Name::Stream)
            .map_err(|_| format!("{text} is no StreamID: those have at most 32 bits")),
        Err(_) if !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit()) => {
            Err(format!("{text}: write 0x{text} if that is a StreamID"))
        }
        Err(_) => Err(format!("{text:?} is no device and no StreamID; {RIGHT}")),
    }
}

/// Reads `0000:01:00.0`, or without its segment.
fn function(text: &str) -> Result<Function, String> {
    let wrong = |what: &str| format!("{text:?} is no PCI function{what}; {RIGHT}");
    let hex = |digits: &str, most: u32| {
        let right =
            (1..=8).contains(&digits.len()) && digits.bytes().all(|c| c.is_ascii_hexdigit());
        let number = right.then(|| u32::from_str_radix(digits, 16).ok()).flatten();
        number.filter(|number| *number <= most)
    };
    let mut parts = text.rsplitn(3, ':');
    let last = parts.next().unwrap_or_default();
    let (Some(bus), Some((device, function))) = (parts.next(), last.split_once('.')) else {
        return Err(wrong(": it has no function"));
    };
    let segment = parts.next();
    let segment = match segment.map(|segment| hex(segment, 0xffff_ffff)) {
        Some(None) => return Err(wrong(": its segment is no hexadecimal number")),
        segment => segment.flatten(),
    };
    let bus = hex(bus, 0xff).ok_or_else(|| wrong(": a bus is 00 to ff"))?;
    let device = hex(device, 0x1f).ok_or_else(|| wrong(": a device is 00 to 1f"))?;
    let function = hex(function, 7).ok_or_else(|| wrong(": a function is 0 to 7"))?;
    // All were checked.
    Ok(Function { segment, bus: bus as u8, device: device as u8, function: function as u8 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        read(text).unwrap_err()
    }

    #[test]
    fn a_requester_id_is_bus_device_and_function() {
        // §7 of the log samples: SID[15:8]:[7:3].[2:0].
        for (id, name) in [
            (0x100, "0000:01:00.0"),
            (0x7d00, "0000:7d:00.0"),
            (0x042, "0000:00:08.2"),
            (0xffff, "0000:ff:1f.7"),
            (0x311, "0000:03:02.1"),
        ] {
            let function = Function::of_requester(id);
            assert_eq!((function.to_string().as_str(), function.requester()), (name, id));
            let Ok(Name::Function(read)) = read(name) else { panic!("{name}") };
            assert_eq!(read.requester(), id);
        }
    }

    #[test]
    fn names_are_functions_streams_and_paths() {
        let function =
            |segment| Name::Function(Function { segment, bus: 0x81, device: 0x1f, function: 7 });
        assert_eq!(read("81:1f.7"), Ok(function(None)));
        assert_eq!(read("0000:81:1f.7"), Ok(function(Some(0))));
        assert_eq!(read("10000:81:1F.7"), Ok(function(Some(0x1_0000))));
        assert_eq!(read("256"), Ok(Name::Stream(256)));
        assert_eq!(read("0xffffffff"), Ok(Name::Stream(u32::MAX)));
        assert_eq!(read(r"\_SB.DMA0"), Ok(Name::Path(r"\_SB.DMA0".to_owned())));
    }

    #[test]
    fn what_is_no_name_is_told_what_is_one() {
        assert_eq!(told("7d00f"), "7d00f: write 0x7d00f if that is a StreamID");
        assert!(told("0x100000000").contains("at most 32 bits"));
        assert!(told("01:20.0").contains("a device is 00 to 1f"));
        assert!(told("01:00.8").contains("a function is 0 to 7"));
        assert!(told("100:00.0").contains("a bus is 00 to ff"));
        assert!(told("01:00").contains("has no function"));
        assert!(told("x:01:00.0").contains("its segment is no"));
        for text in ["", "eth0", "0x", "-1", "0x+1", "01:+0.0", "1:0:0:0.0"] {
            assert!(told(text).contains("such as 0000:01:00.0"), "{text}");
        }
    }
}
