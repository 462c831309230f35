// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers that a walk needs: from options, from a list, or from a dump of the register page.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use smmuv3_formats::register::{Aidr, Cr0, Cr2, Idr0, Idr1, Idr3, Idr5, StrtabBase, StrtabBaseCfg};
use smmuv3_walk::Smmu;

use super::WalkError;
use crate::args::Walk;

/// Bytes of the register page.
const PAGE: usize = 0x1_0000;

/// Registers that were found; `None` where nothing was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    idr0: Option<u32>,
    idr1: Option<u32>,
    idr3: Option<u32>,
    idr5: Option<u32>,
    aidr: Option<u32>,
    cr0: Option<u32>,
    cr2: Option<u32>,
    base: Option<u64>,
    cfg: Option<u32>,
}

impl Found {
    /// Takes a register by its name; whether it is one that counts.
    fn take(&mut self, name: &str, value: u64) -> bool {
        let low = value as u32;
        match name.to_ascii_lowercase().trim_start_matches("smmu_").trim_start_matches("arm_smmu_")
        {
            "idr0" => self.idr0 = Some(low),
            "idr1" => self.idr1 = Some(low),
            "idr3" => self.idr3 = Some(low),
            "idr5" => self.idr5 = Some(low),
            "aidr" => self.aidr = Some(low),
            "cr0" => self.cr0 = Some(low),
            "cr2" => self.cr2 = Some(low),
            "strtab_base" => self.base = Some(value),
            "strtab_base_cfg" => self.cfg = Some(low),
            _ => return false,
        }
        true
    }

    /// From words of the register page as a debugger shows them, each line behind its address; `None` where it
    /// is something else.
    fn shown(text: &str) -> Option<Self> {
        let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
        let mut page = vec![0; PAGE];
        let mut first = None;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (address, words) = line.split_once(':')?;
            // The page that the first address is in.
            let address = hex(address.trim())?;
            let base = *first.get_or_insert(address & !(PAGE as u64 - 1));
            let mut at = usize::try_from(address.checked_sub(base)?).ok()?;
            for word in words.split_whitespace() {
                let word = u32::try_from(hex(word)?).ok()?;
                page.get_mut(at..at + 4)?.copy_from_slice(&word.to_le_bytes());
                at += 4;
            }
        }
        first.map(|_| Self::dumped(&page))
    }

    /// From a list of names and values.
    fn listed(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut words = line
                .split(|c: char| c.is_whitespace() || matches!(c, '=' | ':' | ',' | '|'))
                .filter(|word| !word.is_empty());
            let (Some(name), Some(value)) = (words.next(), words.next()) else { continue };
            // Values without prefix are hexadecimal too, as devmem and most debuggers print them.
            let hex = value.trim_start_matches("0x").trim_start_matches("0X").replace('_', "");
            if let Ok(value) = u64::from_str_radix(&hex, 16) {
                found.take(name, value);
            }
        }
        found
    }

    /// From the registers as they lie in page 0, up to STRTAB_BASE_CFG at least.
    fn dumped(bytes: &[u8]) -> Self {
        let word = |offset: usize| {
            let bytes = bytes.get(offset..offset + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let base = word(0x80).zip(word(0x84));
        Self {
            idr0: word(0x00),
            idr1: word(0x04),
            idr3: word(0x0c),
            idr5: word(0x14),
            aidr: word(0x1c),
            cr0: word(0x20),
            cr2: word(0x2c),
            base: base.map(|(low, high)| u64::from(high) << 32 | u64::from(low)),
            cfg: word(0x88),
        }
    }
}

/// The SMMU that the options describe, and whether its registers say that it is off.
///
/// # Errors
/// [`WalkError`].
pub fn smmu(arguments: &Walk) -> Result<(Smmu, bool), WalkError> {
    let mut found = match &arguments.registers {
        None => Found::default(),
        Some(path) => read(path)?,
    };
    if let Some(idr) = &arguments.idr {
        for (name, value) in &idr.0 {
            found.take(name, u64::from(*value));
        }
    }
    if let Some(strtab) = arguments.strtab {
        found.base = Some(strtab.base);
        found.cfg = strtab.cfg.or(found.cfg);
    }
    if let Some(log2size) = arguments.log2size {
        let split = arguments.split.unwrap_or(0);
        found.cfg = Some(log2size | split << 6 | u32::from(arguments.split.is_some()) << 16);
    }
    let base = found.base.ok_or_else(|| {
        WalkError::Setup("STRTAB_BASE is missing: give --strtab BASE,CFG".to_owned())
    })?;
    let cfg = found.cfg.ok_or_else(|| {
        WalkError::Setup(
            "the size of the stream table is missing: give --strtab BASE,CFG with the register \
             STRTAB_BASE_CFG, or --log2size N, and --split N where the table has two levels"
                .to_owned(),
        )
    })?;
    let mut smmu = Smmu::with_everything(StrtabBase(base), StrtabBaseCfg(cfg));
    let all = &mut smmu.implementation;
    // What was not said stays as if everything were there.
    all.idr0 = found.idr0.map_or(all.idr0, Idr0);
    all.idr1 = found.idr1.map_or(all.idr1, Idr1);
    all.idr3 = found.idr3.map_or(all.idr3, Idr3);
    all.idr5 = found.idr5.map_or(all.idr5, Idr5);
    all.aidr = found.aidr.map_or(all.aidr, Aidr);
    if let Some(cr2) = found.cr2.map(Cr2) {
        all.e2h = cr2.e2h() && all.idr0.hyp();
        smmu.recinvsid = cr2.recinvsid();
    }
    let off = found.cr0.is_some_and(|cr0| !Cr0(cr0).smmuen());
    Ok((smmu, off))
}

fn read(path: &Path) -> Result<Found, WalkError> {
    /// More than the register page, and far more than any list.
    const MOST: u64 = 1 << 20;
    let failed = |reason| WalkError::Registers { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(MOST).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        fs::File::open(path)
            .and_then(|file| file.take(MOST).read_to_end(&mut bytes))
            .map_err(failed)?;
    }
    // Registers have zero bytes, text has none.
    let found = match str::from_utf8(&bytes) {
        Ok(text) if !text.contains('\0') => {
            Found::shown(text).unwrap_or_else(|| Found::listed(text))
        }
        _ if bytes.len() >= 0x8c => Found::dumped(&bytes),
        _ => Found::default(),
    };
    if found.idr0 == Some(0) {
        return Err(WalkError::Setup(format!(
            "{} has an IDR0 of 0, which no SMMU has: what was read were no registers",
            path.display()
        )));
    }
    if found == Found::default() {
        return Err(WalkError::Setup(format!(
            "{} names no register that counts: it has lines such as STRTAB_BASE 0x80000000 and IDR0 \
             0x0d44101b, or the register page as it is",
            path.display()
        )));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_in_the_ways_people_write_them() {
        let text = "# smmu0\nIDR0: 0d44101b\nSMMU_IDR1=0x0273_0010\n  strtab_base | 0x8000000080000000\n\
                    STRTAB_BASE_CFG\t0x10210\nGERROR 0\n";
        let found = Found::listed(text);
        assert_eq!(found.idr0, Some(0x0d44_101b));
        assert_eq!(found.idr1, Some(0x0273_0010));
        assert_eq!(found.base, Some(0x8000_0000_8000_0000));
        assert_eq!(found.cfg, Some(0x1_0210));
        assert_eq!(found.idr5, None);
        assert_eq!(Found::listed("nothing here"), Found::default());
    }

    #[test]
    fn words_of_a_debugger_are_read_by_their_addresses() {
        let text = "0000000009050000: 0x0d44101b 0x02730010 0x00000000 0x00001414\n\
                    0000000009050010: 0x00000000 0x00000074\n\
                    0000000009050080: 0x44000000 0x40000000 0x00010210 0x00000000\n";
        let found = Found::shown(text).unwrap();
        assert_eq!((found.idr0, found.idr5), (Some(0x0d44_101b), Some(0x74)));
        assert_eq!((found.base, found.cfg), (Some(0x4000_0000_4400_0000), Some(0x1_0210)));
        assert_eq!(Found::shown("IDR0: 0d44101b\n"), None);
        assert_eq!(Found::shown("9050000: 1\n0: 2\n"), None);
    }

    #[test]
    fn dumps_are_read_by_offset() {
        let mut page = vec![0; 0x100];
        page[0x80..0x84].copy_from_slice(&0x8000_0000u32.to_le_bytes());
        page[0x84] = 1;
        page[0x88] = 8;
        let found = Found::dumped(&page);
        assert_eq!((found.base, found.cfg), (Some(0x1_8000_0000), Some(8)));
        assert_eq!(Found::dumped(&page[..0x20]).base, None);
    }
}
