// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lists of all types with a layout, and the table made from them.

use super::*;
use crate::EventRecord;

/// The mark of a type that is in [`ALL`]; [`Layout`] asks for it. Outside this crate it can be neither named
/// nor given.
pub trait Listed {}

/// Lists types: gives each the mark, and makes their rows of the table.
macro_rules! list {
    ($name:ident = $class:ident { $($t:ty),* $(,)? }) => {
        $(impl Listed for $t {})*
        const $name: &[Structure] = &[$(Structure::of::<$t>(Class::$class)),*];
    };
}

/// Gives the mark to a type that a command's or event's list has.
macro_rules! listed {
    ($t:ty) => {
        impl $crate::structure::Listed for $t {}
    };
}
pub(crate) use listed;

list! { REGISTERS = Register {
    Idr0, Idr1, Idr2, Idr3, Idr4, Idr5, Iidr, Aidr,
    Cr0, Cr0Ack, Cr1, Cr2, Statusr, Gbpa, Agbpa, IrqCtrl, IrqCtrlAck, Gerror, Gerrorn,
    GerrorIrqCfg0, GerrorIrqCfg1, GerrorIrqCfg2,
    StrtabBase, StrtabBaseCfg,
    CmdqBase, CmdqProd, CmdqCons,
    EventqBase, EventqProd, EventqCons, EventqIrqCfg0, EventqIrqCfg1, EventqIrqCfg2,
    PriqBase, PriqProd, PriqCons, PriqIrqCfg0, PriqIrqCfg1, PriqIrqCfg2,
    GatosCtrl, GatosSid, GatosAddr, GatosPar, GatosParFault,
    VatosSel, Idr6,
    VatosCtrl, VatosSid, VatosAddr, VatosPar, VatosParFault,
    CmdqControlPageBase, CmdqControlPageCfg, CmdqControlPageStatus,
    EcmdqBase, EcmdqProd, EcmdqCons,
} }

/// Registers that are offsets alone (§2.2).
const BARE: &[Structure] = {
    const fn bare(name: &'static str, bits: u32, offset: u32) -> Structure {
        Structure::bare(name, "2.2", bits, offset)
    }
    const PIDR: [u32; 4] = offset::PIDR;
    const CIDR: [u32; 4] = offset::CIDR;
    &[
        bare("S2PII", 64, offset::S2PII),
        bare("MPAMIDR", 32, offset::MPAMIDR),
        bare("GMPAM", 32, offset::GMPAM),
        bare("GBPMPAM", 32, offset::GBPMPAM),
        bare("DPT_BASE", 64, offset::DPT_BASE),
        bare("DPT_BASE_CFG", 32, offset::DPT_BASE_CFG),
        bare("DPT_CFG_FAR", 64, offset::DPT_CFG_FAR),
        bare("PIDR4", 32, offset::PIDR4),
        bare("PIDR0", 32, PIDR[0]),
        bare("PIDR1", 32, PIDR[1]),
        bare("PIDR2", 32, PIDR[2]),
        bare("PIDR3", 32, PIDR[3]),
        bare("CIDR0", 32, CIDR[0]),
        bare("CIDR1", 32, CIDR[1]),
        bare("CIDR2", 32, CIDR[2]),
        bare("CIDR3", 32, CIDR[3]),
    ]
};

list! { ENTRIES = Entry { L1Std, Ste, L1Cd, Cd } }
list! { MONITORS = Register {
    PmcgEvtyper, PmcgSmr, PmcgCfgr, PmcgCr, PmcgIrqCtrl, PmcgIrqCtrlAck, PmcgIrqCfg0,
} }
list! { ANY_EVENT = Event { EventRecord } }
list! { REQUESTS = Request { PageRequest } }
list! { TABLES = Descriptor {
    Stage1Table, Stage1TableLpa2, Stage1Table64k,
    Stage2Table, Stage2TableLpa2, Stage2Table64k,
} }
list! { LEAVES = Descriptor {
    Stage1Block, Stage1BlockIndirect, Stage1BlockLpa2, Stage1BlockLpa2Indirect,
    Stage1Block64k, Stage1Block64kIndirect,
    Stage1Page, Stage1PageIndirect, Stage1PageLpa2, Stage1PageLpa2Indirect,
    Stage1Page64k, Stage1Page64kIndirect,
    Stage2Block, Stage2BlockIndirect, Stage2BlockLpa2, Stage2BlockLpa2Indirect,
    Stage2Block64k, Stage2Block64kIndirect,
    Stage2Page, Stage2PageIndirect, Stage2PageLpa2, Stage2PageLpa2Indirect,
    Stage2Page64k, Stage2Page64kIndirect,
} }

/// Rows of descriptors. Bits 58:51 and 11:2 of a table and bit 63 of a stage-1 leaf are software's, and of
/// a stage-2 table bit 63 is not told.
static DESCRIPTORS: [Structure; TABLES.len() + LEAVES.len()] = {
    let mut rows = [TABLES[0]; TABLES.len() + LEAVES.len()];
    let mut i = 0;
    while i < rows.len() {
        rows[i] = if i < TABLES.len() {
            TABLES[i].with_uncertain(&[0x87f8_0000_0000_0ffc])
        } else if i < TABLES.len() + LEAVES.len() / 2 {
            LEAVES[i - TABLES.len()].with_uncertain(&[1 << 63])
        } else {
            LEAVES[i - TABLES.len()]
        };
        i += 1;
    }
    rows
};

/// The row of a descriptor. `page` tells pages from blocks, and is `None` for tables; `width` is 0 for addresses
/// of 48 bits, 1 for LPA2, 2 for 52 bits with 64 KiB. `None` for another width.
pub(crate) fn descriptor_row(
    stage_2: bool,
    page: Option<bool>,
    width: usize,
    indirect: bool,
) -> Option<&'static Structure> {
    let stage = usize::from(stage_2);
    let index = match page {
        _ if width > 2 => return None,
        None => 3 * stage + width,
        Some(page) => {
            let kind = 2 * stage + usize::from(page);
            TABLES.len() + 2 * (3 * kind + width) + usize::from(indirect)
        }
    };
    DESCRIPTORS.get(index)
}

/// How many rows the table has.
const COUNT: usize = REGISTERS.len()
    + BARE.len()
    + Opcode::ALL.len()
    + ENTRIES.len()
    + ANY_EVENT.len()
    + EventId::ALL.len()
    + REQUESTS.len()
    + TABLES.len()
    + LEAVES.len()
    + MONITORS.len();

/// The table under construction: its rows, and how many of them are there.
struct Table([Structure; COUNT], usize);

impl Table {
    const fn row(mut self, row: Structure) -> Self {
        self.0[self.1] = row;
        self.1 += 1;
        self
    }

    const fn rows(mut self, rows: &[Structure]) -> Self {
        let mut i = 0;
        while i < rows.len() {
            self = self.row(rows[i]);
            i += 1;
        }
        self
    }

    const fn commands(mut self) -> Self {
        let mut i = 0;
        while i < Opcode::ALL.len() {
            self = self.row(*Opcode::ALL[i].structure());
            i += 1;
        }
        self
    }

    const fn events(mut self) -> Self {
        let mut i = 0;
        while i < EventId::ALL.len() {
            self = self.row(*EventId::ALL[i].structure());
            i += 1;
        }
        self
    }
}

// Made at compile time, where an index out of bounds or a row too few is an error.
const TABLE: [Structure; COUNT] = {
    let table = Table([ENTRIES[0]; COUNT], 0)
        .rows(REGISTERS)
        .rows(BARE)
        .commands()
        .rows(ENTRIES)
        // Events of which only the code is known may have anything anywhere.
        .row(ANY_EVENT[0].with_uncertain(&[u64::MAX; 4]))
        .events()
        .rows(REQUESTS)
        .rows(&DESCRIPTORS)
        .rows(MONITORS);
    assert!(table.1 == COUNT);
    table.0
};

/// Every structure, command, event and register, in the reference's order: registers (§2), commands (§4),
/// table entries (§5, §6), events (§10), page requests (§13), descriptors (§15), performance monitors (§18).
pub const ALL: &[Structure] = &TABLE;
