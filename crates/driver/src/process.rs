// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes whose address spaces devices share (SVA): devices use the CPU's own page tables, by a PASID.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};

use smmuv3_formats::{Cd, Iova, PhysAddr, SubstreamId, legality};

use crate::attach::{self, AttachError, DetachError, Goal};
use crate::compatibility::{Mismatch, Shape, Stage};
use crate::configuration::Configuration;
use crate::context_table::ContextFormat;
use crate::entry::{Stream, WithoutSubstream};
use crate::error::{StillAttached, Unconfirmed};
use crate::features::Features;
use crate::invalidate::{Range, Scope};
use crate::iommu::{Core, Iommu};
use crate::master::Master;
use crate::platform::Platform;
use crate::refused::Refused;
use crate::release;
use crate::shared::{NoMemory, Shared, try_box};
use crate::space::{Space, Tables, Target, Targets, Which};
use crate::stall;
use crate::targets::Snapshot;

/// The page tables of a process, as a CPU's registers describe them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessConfig {
    /// Root of the tables of the lower half (TTBR0_EL1, without ASID and CnP).
    pub ttb: PhysAddr,
    /// TCR_EL1. What counts for the lower half is used, but TBI0, since addresses of devices have no tags, EPD0 and E0PD0.
    pub tcr: u64,
    /// MAIR_EL1.
    pub mair: u64,
    /// The tables are big-endian (SCTLR_EL1.EE).
    pub big_endian: bool,
    /// The `IDR3.BBML` that the kernel's changes of the tables need: 2 if it changes the size of mappings in place
    /// (FEAT_BBML2), 0 if it does not.
    pub bbml: u32,
}

impl ProcessConfig {
    /// Little-endian tables that are changed by break-before-make.
    pub const fn new(ttb: PhysAddr, tcr: u64, mair: u64) -> Self {
        Self { ttb, tcr, mair, big_endian: false, bbml: 0 }
    }
}

/// Why a process was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddProcessError {
    /// All PASIDs are in use.
    NoPasid {
        /// Bits of a PASID ([`Config::pasid_bits`](crate::Config::pasid_bits)).
        bits: u32,
    },
    /// `tcr` has a granule (TG0) or a size (IPS) that does not exist, or T0SZ leaves more than 52 bits; or `ttb` is not
    /// the address of a table.
    Registers {
        /// Root of the tables.
        ttb: PhysAddr,
        /// The register.
        tcr: u64,
    },
    /// No heap memory.
    NoMemory,
}

impl From<NoMemory> for AddProcessError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for AddProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPasid { bits } => write!(f, "all PASIDs of {bits} bits are in use"),
            Self::Registers { ttb, tcr } => {
                write!(f, "TCR {tcr:#x} describes no tables at {ttb}")
            }
            Self::NoMemory => f.write_str("no memory"),
        }
    }
}

impl core::error::Error for AddProcessError {}

/// How a space holds a process's registers.
pub(crate) type Held = Box<Registers>;

/// What is known of a process's tables.
pub(crate) struct Registers {
    /// The context without a tag.
    context: Cd,
    shape: Shape,
    pub(crate) pasid: SubstreamId,
    /// What the platform knows the process by.
    pub(crate) cookie: u64,
    life: AtomicU8,
}

/// That a seat is bound ([`Goal::Bind`](crate::attach::Goal::Bind)).
pub(crate) type Binding = ();

/// Number of a seat that was bound.
#[derive(Clone, Copy)]
pub(crate) struct SeatNumber(u64);

impl SeatNumber {
    pub(crate) const fn get(self) -> u64 {
        self.0
    }
}

/// How far the end of a process is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Devices may use it.
    Live,
    /// It is gone, but not all instances have confirmed that they use it no more.
    Leaving,
    /// It is gone.
    Gone,
}

impl Registers {
    /// The space ends.
    pub(crate) fn end<P: Platform>(&self, core: &Core<P>) {
        core.give_back_pasid(self.pasid);
    }

    fn new(config: ProcessConfig, pasid: SubstreamId, cookie: u64) -> Option<Self> {
        let ProcessConfig { ttb, tcr, mair, big_endian, bbml } = config;
        // Its fields for the lower half are coded as those of a context (§6).
        let field = |high: u32, low: u32| tcr >> low & ((1 << (high - low + 1)) - 1);
        let flag = |bit: u32| tcr >> bit & 1 == 1;
        if ttb.0 & !0x000f_ffff_ffff_fff0 != 0 {
            return None;
        }
        let context = Cd::default()
            .with_t0sz(field(5, 0))
            .with_tg0(field(15, 14))
            .with_ir0(field(9, 8))
            .with_or0(field(11, 10))
            .with_sh0(field(13, 12))
            .with_endi(big_endian)
            .with_epd1(true)
            .with_v(true)
            .with_ips(field(34, 32))
            .with_aa64(true)
            .with_ha(flag(39))
            .with_hd(flag(39) && flag(40))
            .with_r(true)
            .with_a(true)
            .with_had0(flag(41))
            .with_ttb0(ttb.0)
            .with_ds(flag(59))
            .with_mair(mair);
        let granule_shift = match context.tg0() {
            0 => 12,
            1 => 16,
            2 => 14,
            _ => return None,
        };
        // T0SZ has six bits, so this is at least 1.
        let input_bits = 64 - context.t0sz() as u32;
        let output_bits = smmuv3_formats::register::address_bits(context.ips())?;
        if input_bits > 52 {
            return None;
        }
        let shape = Shape {
            stage: Stage::One,
            granule_shift,
            input_bits,
            output_bits,
            // DS is judged in `fits`: address sizes alone do not decide it.
            wide: false,
            forced_types: false,
            execute_by_privilege: false,
            // The kernel's stores to its tables are not published, so walks have to be coherent.
            coherent: true,
            big_endian,
            access_flag: context.ha(),
            dirty_state: context.hd(),
            bbml,
        };
        Some(Self { context, shape, pasid, cookie, life: AtomicU8::new(Life::Live as u8) })
    }

    /// The context without a tag.
    pub(crate) fn context(&self) -> Cd {
        self.context
    }

    /// The context of a process that is gone: nothing is walked and nothing is reported; what was translated before
    /// has to be invalidated. It differs from the live one in a single word, for those who look while it is written.
    /// Where stalls are `forced`, what is refused still stalls.
    pub(crate) fn quiet(live: Cd, forced: bool) -> Cd {
        let ignored = live.with_t0sz(0).with_tg0(0).with_ir0(0).with_or0(0).with_sh0(0);
        ignored.with_ttb0(0).with_epd0(true).with_r(false).with_s(forced)
    }

    /// Asked with the configuration mutex held: whoever binds must not be overtaken by a release.
    pub(crate) fn life<P: Platform>(&self, _held: &Configuration<P>) -> Life {
        match self.life.load(Ordering::Relaxed) {
            0 => Life::Live,
            1 => Life::Leaving,
            _ => Life::Gone,
        }
    }

    pub(crate) fn set_life<P: Platform>(&self, _held: &mut Configuration<P>, life: Life) {
        self.life.store(life as u8, Ordering::Relaxed);
    }

    /// Whether an SMMU with `features` can walk the tables, and takes the context for legal (§7.2).
    pub(crate) fn fits(&self, features: &Features) -> Result<(), Mismatch> {
        self.shape.fits(features)?;
        // On an SMMU without LPA2, DS is ignored, and bits that are an address in these descriptors would be read as
        // attributes (§15.3).
        let shift = self.shape.granule_shift;
        if self.context.ds() && shift != 16 && !features.has_wide_addresses(shift) {
            let instance = features.narrow_output_bits();
            return Err(Mismatch::Output { domain: 52, instance });
        }
        // A stand-in for the entry that will lead to the context: what legality depends on is the same in all of them.
        let stream = Stream::Stage1 {
            contexts: PhysAddr(0),
            format: ContextFormat::Linear,
            bits: 1,
            without: WithoutSubstream::Terminate,
            vmid: 0,
        };
        let context = stall::context(self.context, features.stalls_if(false));
        legality::cd(&context, &stream.encode(features), &features.implementation())
            .map_err(Mismatch::Illegal)
    }
}

/// A process whose address space masters can be bound to.
///
/// Dropping it leaves masters bound; its PASID is free again when the last of them has gone. The kernel calls
/// [`Process::release`] before it frees the process's page tables.
pub struct Process<P: Platform> {
    pub(crate) space: Shared<Space<P>>,
}

/// That a master is bound to a process. It lasts until [`Bond::unbind`]; dropping it does not end it.
///
/// Unbinding twice does not compile:
/// ```compile_fail,E0382
/// fn twice<P: smmuv3::Platform>(bond: smmuv3::Bond<P>) {
///     let _ = bond.unbind();
///     let _ = bond.unbind();
/// }
/// ```
#[must_use]
pub struct Bond<P: Platform> {
    space: Shared<Space<P>>,
    master: usize,
    /// Number of the seat.
    seat: u64,
}

impl<P: Platform> Bond<P> {
    /// Number of the process.
    pub fn process(&self) -> usize {
        self.space.id
    }
}

impl<P: Platform> Iommu<P> {
    /// A process whose address space masters can be bound to; `cookie` is what [`Platform::pin_asid`] is to know it by.
    ///
    /// # Errors
    /// See [`AddProcessError`].
    ///
    /// # Safety
    /// Until [`Process::release`] has returned `Ok`, `config` describes the process's tables, and they are those of a
    /// process: devices may reach whatever unprivileged code of it may. After each change of them but additions,
    /// [`Process::invalidate`] is called before what they led to is used for anything else.
    pub unsafe fn add_process(
        &self,
        config: ProcessConfig,
        cookie: u64,
    ) -> Result<Process<P>, AddProcessError> {
        self.core.quarantine.reserve(&self.core.platform)?;
        let id = self.core.configuration.with(|configuration| {
            configuration.domains += 1;
            configuration.domains - 1
        });
        Process::new(self.core.clone(), id, config, cookie)
    }
}

impl<P: Platform> Process<P> {
    pub(crate) fn new(
        core: Shared<Core<P>>,
        id: usize,
        config: ProcessConfig,
        cookie: u64,
    ) -> Result<Self, AddProcessError> {
        // Judged before the PASID is taken, so that an error has nothing to give back.
        let registers = Registers::new(config, SubstreamId(0), cookie)
            .ok_or(AddProcessError::Registers { ttb: config.ttb, tcr: config.tcr })?;
        let mut registers = try_box(registers)?;
        let targets = try_box(Targets::new())?;
        let pasid = core.take_pasid();
        registers.pasid = pasid.ok_or(AddProcessError::NoPasid { bits: core.pasid_bits() })?;
        let tables = Tables::Process(registers);
        // If there is no memory, dropping the space gives the PASID back.
        let space = Space::new(core, id, tables, Snapshot::new(targets));
        Ok(Self { space: Shared::new(space)? })
    }

    /// A number that no other process and no domain of the `Iommu` has had.
    pub fn id(&self) -> usize {
        self.space.id
    }

    /// The PASID by which devices name it, behind every instance.
    pub fn pasid(&self) -> SubstreamId {
        self.registers().pasid
    }

    /// The tags by which instances know it. Takes the operating system's lock.
    ///
    /// # Errors
    /// [`NoMemory`] for a list of them.
    pub fn targets(&self) -> Result<Vec<Target>, NoMemory> {
        self.space.targets()
    }

    fn registers(&self) -> &Registers {
        match self.space.process() {
            Some(registers) => registers,
            // `new` makes the space with a process's registers, which never change.
            None => unreachable!("a process has registers"),
        }
    }

    /// Lets `master` use the process's address space, by the process's PASID. It may be bound again, and then has to be
    /// unbound as often.
    ///
    /// Where the instance takes part in what CPUs broadcast ([`InstanceConfig::broadcast`]), its ASIDs are as
    /// wide as theirs, and the platform can pin the process's ASID, that ASID is used, and CPUs maintain the TLB. A domain
    /// that has this number there gets another. Elsewhere the process has an ASID of the instance.
    ///
    /// If it is found only now that a device does not answer, the process is bound all the same, so that it can be unbound:
    /// [`Master::is_quarantined`] says it, and [`Report::Quarantined`](crate::Report::Quarantined).
    ///
    /// # Errors
    /// See [`AttachError`].
    ///
    /// [`InstanceConfig::broadcast`]: crate::InstanceConfig::broadcast
    pub fn bind(&self, master: &Master<P>) -> Result<Bond<P>, AttachError> {
        if !master.core.is(&self.space.core) {
            return Err(AttachError::Foreign);
        }
        let goal = Goal::Bind(&self.space, ());
        let seat = attach::change(&master.core, master.index, self.pasid().0, &goal)?;
        // A bind that succeeds always returns a seat, whose numbers begin with 1.
        Ok(Bond { space: self.space.clone(), master: master.index, seat: seat.unwrap_or(0) })
    }

    /// To be called after the process's tables were changed, before what they led to, or they themselves, are used
    /// for anything else: makes devices forget `len` bytes of addresses from `start` on. Not after a mere addition.
    ///
    /// May be called in interrupt context, and never waits for a bind. Tags that are the CPU's are left out: instances
    /// were told of them by the CPU's own invalidation, which comes first.
    ///
    /// # Errors
    /// [`Unconfirmed`] when an instance did not answer: devices may still reach the range until it is reset.
    pub fn invalidate(&self, start: Iova, len: u64) -> Result<(), Unconfirmed> {
        let granule_shift = self.registers().shape.granule_shift;
        let granule = 1u64 << granule_shift;
        let first = start.0 & !(granule - 1);
        // Nothing is mapped at or above `limit`, which is at most 2^52.
        let limit = 1u64 << self.registers().shape.input_bits;
        let end = start.0.saturating_add(len).min(limit).next_multiple_of(granule);
        let bytes = end.saturating_sub(first);
        if bytes == 0 {
            return Ok(());
        }
        // The caller does not say whether tables were unlinked, nor how large the mappings were, so neither is assumed.
        let range =
            Range { start: first, bytes, granule_shift, leaf_shift: None, leaf_only: false };
        // A range of at least half the limit is invalidated by ASID: that is one command, and little else is lost.
        let whole = bytes >= limit / 2;
        let scope = if whole { Scope::All } else { Scope::Range(range) };
        self.space.invalidate(scope, Which::Private).inspect_err(|unconfirmed| {
            let core = &self.space.core;
            core.quarantine.keep(
                &core.platform,
                unconfirmed.waiting.0,
                self.space.id,
                first..first + bytes,
                &[],
            );
        })
    }

    /// The process is gone: when it has returned, no device reaches its memory, nor reads its tables. Devices may
    /// go on with its PASID; what they do is refused without an event, until they are unbound. Nobody can be bound any
    /// more. Transactions that had stalled are aborted. Where an SMMU stalls always, those that come later do so, too.
    ///
    /// # Errors
    /// [`DetachError::Unconfirmed`]: an instance did not confirm it, and may still reach them until it is reset, or until
    /// a further call has returned `Ok`.
    /// [`DetachError::NoMemory`]: nothing was changed.
    pub fn release(&self) -> Result<(), DetachError> {
        release::release(&self.space)
    }

    /// Ends a process that nobody is bound to, after [`Process::release`] if devices have used it. Its PASID is free
    /// again when nothing waits for a reset that has to do with it, and no [`Bond`] is left, not even of a reset.
    ///
    /// # Errors
    /// The process, while masters are bound to it.
    pub fn close(self) -> Result<(), Refused<Self, StillAttached>> {
        let configuration = &self.space.core.configuration;
        let masters = configuration.with(|configuration| self.space.users(configuration));
        match masters {
            0 => Ok(()),
            masters => Err(Refused { value: self, error: StillAttached { masters, nests: 0 } }),
        }
    }
}

impl<P: Platform> Bond<P> {
    /// Ends the bond. With the last bond of a master and a process, the master cannot use the process's PASID any more.
    ///
    /// # Errors
    /// The bond, to try again after a reset, and [`DetachError::Unconfirmed`] or [`DetachError::NoMemory`].
    pub fn unbind(self) -> Result<(), Refused<Self, DetachError>> {
        let Some(pasid) = self.space.process().map(|registers| registers.pasid) else {
            return Ok(());
        };
        let ended = attach::end(
            &self.space.core,
            self.master,
            pasid.0,
            &Goal::Unbind(SeatNumber(self.seat)),
        );
        ended.map_err(|error| Refused { value: self, error })
    }
}
