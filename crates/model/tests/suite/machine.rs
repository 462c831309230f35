// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine with one model, RAM, and software that writes tables by hand.

use std::rc::Rc;

use smmuv3_formats::command::{
    CfgiCd, CfgiSte, Sync, TlbiNhAll, TlbiNhAsid, TlbiNhVa, TlbiNhVaa, TlbiNsnhAll,
};
use smmuv3_formats::{Command, EventRecord};
use smmuv3_model::{
    Access, Adversary, Memory, Misuse, Model, Observation, Profile, Ram, Refusal, Translation,
};

pub const RAM: u64 = 0x8000_0000;
pub const RAM_BYTES: usize = 0x80_0000;
pub const STRTAB: u64 = 0x8010_0000;
pub const CMDQ: u64 = 0x8020_0000;
pub const EVENTQ: u64 = 0x8021_0000;
pub const CMDQ_BITS: u64 = 4;
pub const EVENTQ_BITS: u64 = 3;
/// Everything of the reference's worked example: tables from here on.
pub const L0: u64 = 0x8001_0000;
pub const CD: u64 = 0x8002_0000;
pub const VA: u64 = 0x12_3456_7000;
pub const PA: u64 = 0x9000_0000;
/// AttrIndx 0, AP = 01, SH = 3, AF, nG, PXN, UXN.
pub const LEAF: u64 = 0x0060_0000_0000_0f43;
pub const SID: u32 = 5;

pub const CR0: u32 = 0x20;
pub const CR0ACK: u32 = 0x24;
pub const CR1: u32 = 0x28;
pub const CR2: u32 = 0x2c;
pub const GBPA: u32 = 0x44;
pub const IRQ_CTRL: u32 = 0x50;
pub const IRQ_CTRLACK: u32 = 0x54;
pub const GERROR: u32 = 0x60;
pub const GERRORN: u32 = 0x64;
pub const GERROR_IRQ_CFG0: u32 = 0x68;
pub const EVENTQ_IRQ_CFG0: u32 = 0xb0;
pub const STRTAB_BASE: u32 = 0x80;
pub const STRTAB_BASE_CFG: u32 = 0x88;
pub const CMDQ_BASE: u32 = 0x90;
pub const CMDQ_PROD: u32 = 0x98;
pub const CMDQ_CONS: u32 = 0x9c;
pub const EVENTQ_BASE: u32 = 0xa0;
pub const EVENTQ_PROD: u32 = 0x100a8;
pub const EVENTQ_CONS: u32 = 0x100ac;

pub struct Machine {
    pub ram: Rc<Ram>,
    pub smmu: Model<Rc<Ram>>,
}

/// Nothing but what is asked for.
pub fn quiet() -> Profile {
    Profile::default().adversary(Adversary::NONE)
}

impl Machine {
    /// A machine after reset.
    pub fn reset(profile: Profile, seed: u64) -> Self {
        let ram = Rc::new(Ram::new(RAM, RAM_BYTES));
        let smmu = Model::new(profile, Rc::clone(&ram), seed);
        Self { ram, smmu }
    }

    /// A machine that is set up (§17.1), with an empty stream table of 64 entries.
    pub fn new(profile: Profile, seed: u64) -> Self {
        let mut machine = Self::reset(profile, seed);
        let smmu = &mut machine.smmu;
        smmu.write32(CR1, 0xd75);
        smmu.write32(CR2, 0b10);
        smmu.write64(STRTAB_BASE, STRTAB);
        smmu.write32(STRTAB_BASE_CFG, 6);
        smmu.write64(CMDQ_BASE, CMDQ | CMDQ_BITS);
        smmu.write32(CMDQ_PROD, 0);
        smmu.write32(CMDQ_CONS, 0);
        smmu.write64(EVENTQ_BASE, EVENTQ | EVENTQ_BITS);
        smmu.write32(EVENTQ_PROD, 0);
        smmu.write32(EVENTQ_CONS, 0);
        for message in [GERROR_IRQ_CFG0, EVENTQ_IRQ_CFG0] {
            smmu.write64(message, 0);
        }
        smmu.write32(IRQ_CTRL, 0b101);
        for value in [0b1000, 0b1100, 0b1101] {
            machine.switch(value);
        }
        machine
    }

    /// Writes CR0 and waits.
    pub fn switch(&mut self, value: u32) {
        self.smmu.write32(CR0, value);
        for _ in 0..1000 {
            if self.smmu.read32(CR0ACK) == value {
                return;
            }
        }
        panic!("CR0ACK never became {value:#x}");
    }

    pub fn put(&self, pa: u64, value: u64) {
        self.ram.write64(pa, value).unwrap();
    }

    pub fn get(&self, pa: u64) -> u64 {
        self.ram.read64(pa).unwrap()
    }

    /// Queues one command; the model has not looked at it yet.
    pub fn queue(&mut self, command: impl Into<Command>) {
        let command: Command = command.into();
        let prod = self.smmu.read32(CMDQ_PROD);
        let slot = CMDQ + 16 * u64::from(prod & ((1 << CMDQ_BITS) - 1));
        self.put(slot, command.0[0]);
        self.put(slot + 8, command.0[1]);
        self.smmu.write32(CMDQ_PROD, (prod + 1) & ((2 << CMDQ_BITS) - 1));
    }

    /// Queues one command and lets the model consume everything.
    pub fn command(&mut self, command: impl Into<Command>) {
        self.queue(command);
        self.smmu.run(usize::MAX);
    }

    pub fn sync(&mut self) {
        self.command(Sync::new());
    }

    pub fn ste(&self, stream: u32, words: [u64; 8]) {
        // Word 0 last, as software does.
        for index in (0..8).rev() {
            self.put(STRTAB + 64 * u64::from(stream) + 8 * index, words[index as usize]);
        }
    }

    pub fn cd_at(&self, pa: u64, words: [u64; 8]) {
        for index in (0..8).rev() {
            self.put(pa + 8 * index, words[index as usize]);
        }
    }

    /// Appendix A1: CD, STE of `SID`, tables and one page.
    pub fn a1(&self) {
        self.tables_a1(L0, PA);
        self.cd_at(CD, cd_words(5, L0));
        self.ste(SID, ste_words(CD));
    }

    /// A1's four tables from `l0` on, mapping VA to `pa`.
    pub fn tables_a1(&self, l0: u64, pa: u64) {
        self.put(l0, (l0 + 0x1000) | 3);
        self.put(l0 + 0x1240, (l0 + 0x2000) | 3);
        self.put(l0 + 0x2d10, (l0 + 0x3000) | 3);
        self.put(leaf_slot(l0), pa | LEAF);
    }

    pub fn translate(&mut self, access: Access) -> Result<Translation, Refusal> {
        self.smmu.translate(access)
    }

    /// Where a read goes; `None` when it is refused.
    pub fn read(&mut self, address: u64) -> Option<u64> {
        self.translate(Access::read(SID, address)).ok().map(|found| found.pa)
    }

    /// Events in the queue, consumed.
    pub fn events(&mut self) -> Vec<EventRecord> {
        let prod = self.smmu.read32(EVENTQ_PROD);
        let mut cons = self.smmu.read32(EVENTQ_CONS);
        let mask = (2 << EVENTQ_BITS) - 1;
        let mut events = Vec::new();
        while (cons ^ prod) & mask != 0 {
            let slot = EVENTQ + 32 * u64::from(cons & (mask >> 1));
            events.push(EventRecord([0, 8, 16, 24].map(|offset| self.get(slot + offset))));
            cons = (cons & mask).wrapping_add(1) & mask;
        }
        // Acknowledges an overflow, too.
        self.smmu.write32(EVENTQ_CONS, cons | prod & 1 << 31);
        events
    }

    pub fn misuses(&mut self) -> Vec<Misuse> {
        self.smmu
            .observations()
            .into_iter()
            .filter_map(|observation| match observation {
                Observation::Misuse(misuse) => Some(misuse),
                _ => None,
            })
            .collect()
    }
}

/// The leaf of A1's page.
pub fn leaf_slot(l0: u64) -> u64 {
    l0 + 0x3b38
}

/// A1's CD with another ASID or table.
pub fn cd_words(asid: u64, ttb: u64) -> [u64; 8] {
    [0x0000_e204_c000_3510 | asid << 48, ttb, 0, 0x0004_44ff, 0, 0, 0, 0]
}

/// A1's STE with another CD.
pub fn ste_words(cd: u64) -> [u64; 8] {
    [cd | 0xb, 0xd4, 0, 0, 0, 0, 0, 0]
}

pub fn cfgi_ste(stream: u32) -> CfgiSte {
    CfgiSte::new().with_sid(stream.into()).with_leaf(true)
}

pub fn cfgi_cd(stream: u32) -> CfgiCd {
    CfgiCd::new().with_sid(stream.into()).with_leaf(true)
}

pub fn tlbi_asid(asid: u64) -> TlbiNhAsid {
    TlbiNhAsid::new().with_asid(asid)
}

pub fn tlbi_va(asid: u64, va: u64) -> TlbiNhVa {
    TlbiNhVa::new().with_asid(asid).with_addr(va & !0xfff)
}

pub fn tlbi_vaa(va: u64) -> TlbiNhVaa {
    TlbiNhVaa::new().with_addr(va & !0xfff)
}

pub fn tlbi_all() -> TlbiNhAll {
    TlbiNhAll::new()
}

pub fn tlbi_everything() -> TlbiNsnhAll {
    TlbiNsnhAll::new()
}
