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
list! { ANY_EVENT = Event { EventRecord } }
list! { REQUESTS = Request { PageRequest } }
list! { DESCRIPTORS = Descriptor {
    Stage1Table, Stage1Block, Stage1Page, Stage2Table, Stage2Block, Stage2Page,
} }

/// How many rows the table has.
const COUNT: usize = REGISTERS.len()
    + BARE.len()
    + Opcode::ALL.len()
    + ENTRIES.len()
    + ANY_EVENT.len()
    + EventId::ALL.len()
    + REQUESTS.len()
    + DESCRIPTORS.len();

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
        .rows(DESCRIPTORS);
    assert!(table.1 == COUNT);
    table.0
};

/// Every structure, command, event and register, in the reference's order: registers (§2), commands (§4),
/// table entries (§5, §6), events (§10), page requests (§13), descriptors (§15).
pub const ALL: &[Structure] = &TABLE;
