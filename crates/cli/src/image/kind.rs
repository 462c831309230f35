// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a file is, by its first bytes.

/// A kind of image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ELF file.
    Elf,
    /// Something that is known and not read: what it is, and what to do.
    Other(&'static str),
    /// Nothing that is known: memory as it is.
    Raw,
}

const OTHERS: &[(&[u8], &str)] = &[
    (
        b"KDUMP   ",
        "is a kdump-compressed dump, which is not read: write the dump as ELF (makedumpfile -E, or \
         QEMU's dump-guest-memory without -z, -l, -s), or read the words in crash (rd -p -64 ADDRESS \
         COUNT) and give them to smmuv3 decode",
    ),
    (
        b"DISKDUMP",
        "is a diskdump, which is not read: write the dump as ELF (makedumpfile -E), or read the words \
         in crash (rd -p -64 ADDRESS COUNT) and give them to smmuv3 decode",
    ),
    (
        b"makedumpfile\0",
        "is a flattened dump: put it in order first, with makedumpfile -R OUT < FILE; write it as ELF \
         (makedumpfile -E -F), since compressed dumps are not read",
    ),
    (
        b"QEVM",
        "is a saved state of QEMU (migrate, savevm), which is not read: use the monitor's \
         dump-guest-memory FILE, without -z, -l, -s",
    ),
    (b"QFI\xfb", "is a qcow2 disk, and no memory: use the monitor's dump-guest-memory FILE"),
    (
        b"EMiL",
        "is a LiME dump with a header, which is not read: dump with format=raw or format=padded",
    ),
    (b"\x1f\x8b", "is compressed: unpack it first, with gunzip"),
    (b"\x28\xb5\x2f\xfd", "is compressed: unpack it first, with unzstd"),
    (b"\xfd7zXZ\0", "is compressed: unpack it first, with unxz"),
];

/// What the file that begins with `head` is.
pub fn of(head: &[u8]) -> Kind {
    if head.starts_with(b"\x7fELF") {
        return Kind::Elf;
    }
    let known = OTHERS.iter().find(|(magic, _)| head.starts_with(magic));
    known.map_or(Kind::Raw, |(_, what)| Kind::Other(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_are_not_read_are_known_and_answered() {
        let Kind::Other(what) = of(b"KDUMP   \x06\0\0\0") else { panic!() };
        assert!(what.contains("makedumpfile -E") && what.contains("without -z"));
        let Kind::Other(what) = of(b"makedumpfile\0\0\0\0\0\0\0\0\0\0\0\x01") else { panic!() };
        assert!(what.contains("makedumpfile -R"));
        assert_eq!(of(b"\x7fELF\x02\x01"), Kind::Elf);
        assert_eq!(of(b"KDUM"), Kind::Raw);
        assert_eq!(of(b""), Kind::Raw);
    }
}
