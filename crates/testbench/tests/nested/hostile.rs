// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest that does what it likes: whatever words are in its command queue and in its entries, it reaches no memory but its
//! own, nothing that another guest relies on changes, and no command names what is not its own.

use smmuv3::nest::{Forwarder, Nest, Owner, Stop};
use smmuv3::{
    AttachError, Attributes, Domain, DomainConfig, Event, Interrupt, Iova, NestConfig, PhysAddr,
    Prot, Report, StreamId,
};
use smmuv3_formats::{Command, Opcode, Ste};
use smmuv3_model::{Misuse, Observation};
use smmuv3_testbench::platform::TestPlatform;

use crate::guest::{DATA, Guest, PAGE, VA};
use crate::host::{Host, STREAMS, Use};

/// The device of the guest that behaves, which keeps translations, and that of the other.
const VICTIM: usize = 0;
const HOSTILE: usize = 1;
/// Where the other's memory is, as it knows it, and how many pages.
const MEMORY: u64 = 0x9000_0000;
const PAGES: u64 = 4;

struct Hostile {
    nest: Nest<TestPlatform>,
    domain: Domain<TestPlatform>,
    frames: Vec<u64>,
    rng: fastrand::Rng,
}

impl Hostile {
    fn new(host: &Host, seed: u64) -> Self {
        let shape = DomainConfig::default().with_stage_2().with_guests().with_input_bits(40);
        let domain = host.iommu.create_domain(shape).unwrap();
        let frame = |_| host.world.frames().allocate(PAGE, PAGE).unwrap();
        let frames: Vec<u64> = (0..PAGES).map(frame).collect();
        for (ipa, pa) in (MEMORY..).step_by(PAGE as usize).zip(&frames) {
            let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
            // SAFETY: the frames stay the guest's.
            unsafe { domain.map(Iova(ipa), PhysAddr(*pa), PAGE, attributes) }.unwrap();
        }
        let nest = host.iommu.nest(&host.smmu, &domain, NestConfig::new().with_snooped()).unwrap();
        Self { nest, domain, frames, rng: fastrand::Rng::with_seed(seed) }
    }

    /// Any word: few bits, half of them, most.
    fn word(&mut self) -> u64 {
        match self.rng.u8(0..4) {
            0 => 0,
            1 => 1 << self.rng.u32(0..64),
            2 => self.rng.u64(..) & self.rng.u64(..) & self.rng.u64(..),
            _ => self.rng.u64(..),
        }
    }

    /// A stream that somebody knows: its own, the other's, by either number, or any.
    fn stream(&mut self) -> u64 {
        let known = STREAMS.iter().flat_map(|(host, guest)| [*host, *guest]);
        let mut known: Vec<u32> = known.collect();
        known.push(self.rng.u32(..));
        self.rng.choice(known).unwrap_or(0).into()
    }

    fn command(&mut self) -> Command {
        // Those that name streams, tags and addresses, and any.
        const OPCODES: [u64; 16] = [
            0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10, 0x11, 0x12, 0x13, 0x28, 0x2a, 0x30, 0x40,
            0x44, 0x46,
        ];
        let opcode = match self.rng.u8(0..8) {
            0 => self.rng.u64(0..256),
            _ => self.rng.choice(OPCODES).unwrap_or(0),
        };
        let mut words = match self.rng.bool() {
            // What is legal more often.
            true => [0, self.rng.u64(0..2)],
            false => [self.word(), self.word()],
        };
        let upper = self.stream() << 32;
        words[0] = opcode | if self.rng.bool() { upper } else { words[0] & !0xff };
        Command(words)
    }

    fn entry(&mut self) -> Ste {
        let table = MEMORY + PAGE * self.rng.u64(0..2 * PAGES);
        let mut ste = match self.rng.u8(0..3) {
            0 => Guest::bypass(),
            1 => Guest::entry(0).with_s1_context_ptr(table).with_eats(self.rng.u64(0..3)),
            _ => Ste(std::array::from_fn(|_| self.word())),
        };
        if self.rng.bool() {
            let (at, bit) = (self.rng.usize(0..8), self.rng.u32(0..64));
            ste.0[at] ^= 1 << bit;
        }
        ste
    }

    /// Its contexts and tables are what they are, too.
    fn scribble(&mut self, host: &Host) {
        let frame = self.frames[self.rng.usize(0..self.frames.len())];
        let word = match self.rng.bool() {
            // A leaf or a table, at any address there may be: its own, the other guest's, the host's.
            true => (self.rng.u64(..) & 0xff_ffff_f000) | 0x0060_0000_0000_0f43,
            false => self.word(),
        };
        host.world.machine().ram().write64(frame + 8 * self.rng.u64(0..512), word).unwrap();
    }

    /// What of `commands`, which it is the only one to give, is not its own.
    fn foreign(&self, commands: &[(usize, Command)]) -> Option<Command> {
        let vmids: Vec<u64> =
            self.domain.targets().unwrap().iter().map(|target| target.tag.vmid.into()).collect();
        let own = |command: &Command| match command.opcode() {
            Some(Opcode::Sync) => true,
            Some(Opcode::CfgiSte | Opcode::CfgiCd | Opcode::CfgiCdAll | Opcode::AtcInv) => {
                command.field("SID") == Some(STREAMS[HOSTILE].0.into())
            }
            Some(Opcode::TlbiNhAll | Opcode::TlbiNhAsid | Opcode::TlbiNhVa | Opcode::TlbiNhVaa) => {
                command.field("VMID").is_some_and(|vmid| vmids.contains(&vmid))
            }
            _ => false,
        };
        commands.iter().map(|(_, command)| *command).find(|command| !own(command))
    }

    /// It gives so many commands, of which those that are refused are left out.
    fn flood(&mut self, host: &Host, count: usize) -> (usize, usize) {
        let mut commands: Vec<Command> = (0..count).map(|_| self.command()).collect();
        host.world.take_commands();
        let (mut forwarder, mut refused, mut carried) = (Forwarder::new(), 0, 0);
        while !commands.is_empty() {
            let done = self.nest.forward(&mut forwarder, &commands).unwrap();
            carried += done.produced;
            let mut consumed = done.consumed;
            if let Stop::Refused { index, .. } = done.stop {
                assert_eq!(index, consumed);
                refused += 1;
                consumed += 1;
            }
            commands.drain(..consumed);
        }
        let given = host.world.take_commands();
        assert_eq!(self.foreign(&given), None);
        (refused, carried)
    }
}

/// The guest that behaves finds everything as it is, and the other nothing but its own.
fn verdict(host: &Host, hostile: &Hostile) {
    for page in 0..3 {
        let address = VA + page * PAGE + 0x18;
        assert_eq!(host.reached(VICTIM, address), host.expected(VICTIM, address));
    }
    let addresses = [VA, MEMORY, Guest::ipa(DATA), host.guest.frames[DATA], 0];
    for address in addresses.into_iter().chain((0..4).map(|bit| 1 << (12 + 9 * bit))) {
        let reached = host.reached(HOSTILE, address);
        let own = |pa: u64| hostile.frames.contains(&(pa & !(PAGE - 1)));
        assert!(reached.is_none_or(own), "{address:#x}: {reached:x?}");
    }
}

/// All events that wait: whose are they?
fn events(host: &Host, hostile: &Hostile) -> [usize; 2] {
    let mut events: Vec<Event> = Vec::new();
    let mut sink = |report| match report {
        Report::Event(event) => events.push(event),
        Report::EventsLost(_) => {}
        other => panic!("{other:?}"),
    };
    while host.iommu.handle_interrupt(&host.smmu, Interrupt::Any, 64, &mut sink) {}
    let mut told = [0; 2];
    for event in events {
        for (of, nest) in [&host.nest, &hostile.nest].into_iter().enumerate() {
            if let Owner::Guest(record) = nest.owner(&event) {
                let (real, shown) = STREAMS[of];
                assert_eq!((event.sid(), record.sid()), (real.into(), shown.into()));
                told[of] += 1;
            }
        }
    }
    told
}

#[test]
fn it_harms_nobody_whatever_it_does() {
    let (mut refused, mut carried, mut illegal, mut attached) = (0, 0, 0, 0);
    let mut told = [0; 2];
    for seed in 0..8 {
        let mut host = Host::with_ats(seed);
        let mut hostile = Hostile::new(&host, seed);
        host.guest.map(0, 0, DATA);
        host.guest.map(0, 1, DATA + 1);
        host.nest(VICTIM, Guest::entry(0).with_eats(1), Use::Space(0));
        verdict(&host, &hostile);
        host.restless(seed);
        for _ in 0..60 {
            match hostile.rng.u8(0..4) {
                0 => {
                    let (no, yes) = hostile.flood(&host, 64);
                    (refused, carried) = (refused + no, carried + yes);
                }
                1 => (0..16).for_each(|_| hostile.scribble(&host)),
                _ => {
                    let (ste, as_other) = (hostile.entry(), hostile.rng.bool());
                    // Its own number, or that which the other has for its own.
                    let stream = STREAMS[if as_other { VICTIM } else { HOSTILE }].1;
                    let master = &host.masters[HOSTILE];
                    match hostile.nest.attach(master, &[StreamId(STREAMS[HOSTILE].1)], &ste) {
                        Ok(()) => attached += 1,
                        Err(AttachError::Illegal(_)) => illegal += 1,
                        Err(error) => panic!("{error:?}"),
                    }
                    let nothing = host.nest.attach(master, &[StreamId(stream), StreamId(1)], &ste);
                    assert!(nothing.is_err(), "more streams than the device has");
                }
            }
            verdict(&host, &hostile);
            let more = events(&host, &hostile);
            told = [told[0] + more[0], told[1] + more[1]];
        }
        let mut seen = host.world.observations(0).unwrap();
        // An address that no device of its can issue has no effect (§4.2).
        let harmless = |misuse: &Misuse| matches!(misuse, Misuse::AddressOutOfRange { .. });
        seen.retain(|seen| matches!(seen, Observation::Misuse(misuse) if !harmless(misuse)));
        assert_eq!(seen, []);
        // What it says of a large part of all streams costs no more than its own.
        let all = [Command([0x04, 31]); 200];
        host.world.take_commands();
        let done = hostile.nest.forward(&mut Forwarder::new(), &all).unwrap();
        assert!(matches!(done.stop, Stop::Entries { .. }) && done.consumed == 1, "{done:?}");
        assert_eq!(hostile.foreign(&host.world.take_commands()), None);
    }
    // What a device with ATS is not granted is no event.
    for count in [refused, carried, illegal, attached, told[1]] {
        assert!(count > 20, "{refused} {carried} {illegal} {attached} {told:?}");
    }
}
