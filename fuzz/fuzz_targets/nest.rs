// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any words of a guest, over any stage 2 of any SMMU: what reaches hardware is legal there, and the host's half is the
//! host's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smmuv3::AtsMode;
use smmuv3::features::{Features, IdRegisters};
use smmuv3::nest::{
    Assignment, Contexts, Forwarder, Guest, Limits, Owner, Parent, Request, Stop, Streams, context,
    event,
};
use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr2, Idr3, Idr5, Iidr};
use smmuv3_formats::{Cd, Command, EventRecord, Ste, StreamId, legality};

/// What is changed of the registers of an SMMU that has everything, and of what is offered; of the stage 2; the guest's
/// entry, context, commands; an event; limits.
type Input = ([u32; 6], [u32; 6], [u64; 8], [u64; 8], [u64; 8], [[u64; 2]; 6], [u64; 4], u8, bool);

const STREAMS: [Assignment; 3] = [
    Assignment { guest: StreamId(0x10), host: StreamId(0x4_0001), ats: true },
    Assignment { guest: StreamId(0x11), host: StreamId(0x3_0000), ats: true },
    Assignment { guest: StreamId(0x80), host: StreamId(0x10), ats: false },
];

fn changed(registers: IdRegisters, by: [u32; 6]) -> IdRegisters {
    let [idr0, idr1, idr2, idr3, idr5, aidr] = by;
    IdRegisters {
        idr0: Idr0(registers.idr0.0 ^ idr0),
        idr1: Idr1(registers.idr1.0 ^ idr1),
        idr2: Idr2(registers.idr2.0 ^ idr2),
        idr3: Idr3(registers.idr3.0 ^ idr3),
        idr5: Idr5(registers.idr5.0 ^ idr5),
        idr6: registers.idr6,
        iidr: Iidr(registers.iidr.0),
        aidr: Aidr(registers.aidr.0 ^ aidr),
    }
}

/// The host's SMMU, the stage 2 and what is shown, where they go together.
fn guest(host: [u32; 6], shown: [u32; 6], stage_2: [u64; 8]) -> Option<Guest> {
    let everything = IdRegisters {
        idr0: Idr0(0x080f_f6bf),
        idr1: Idr1(0x0e73_9d20),
        idr3: Idr3(0x008e_771c),
        idr5: Idr5(0x0008_04f6),
        aidr: Aidr(4),
        ..IdRegisters::default()
    };
    let features = Features::decode(changed(everything, host)).ok()?;
    let words = [0xd, 1 << 44, 0x040c_3558_0000_0007, 0x8004_0000, 0, 0, 0, 0];
    let words = core::array::from_fn(|word| words[word] ^ stage_2[word]);
    let parent = Parent::new(Ste(words), &features).ok()?;
    Guest::new(&features, parent, changed(Guest::offer(&features, &parent), shown)).ok()
}

/// What a guest can choose of a nested entry: Config aside, all of S1*, and whether there is ATS.
const CHOSEN: [u64; 2] = [0xf8ff_ffff_ffff_fff0, 3 << 28 | 1 << 27 | 1 << 24 | 0xff];

fn entry(guest: &Guest, request: Request, limits: Limits) -> Option<Contexts> {
    let ste = request.encode(guest, limits);
    assert_eq!(legality::ste(&ste, &guest.host().implementation()), Ok(()), "{ste:?}");
    let host = guest.parent().entry();
    match request {
        Request::Invalid | Request::Abort => assert_eq!(ste.0, [1, 0, 0, 0, 0, 0, 0, 0]),
        Request::Bypass => assert_eq!(ste, host),
        Request::Stage1(contexts) => {
            let [w0, w1, rest @ ..] = ste.0;
            let [h0, h1, host @ ..] = host.with_config(0b111).0;
            assert_eq!((w0 & !CHOSEN[0], w1 & !CHOSEN[1], rest), (h0, h1 & !CHOSEN[1], host));
            assert!(ste.mev() && [0, limits.ats.eats()].contains(&ste.eats()));
            return Some(contexts);
        }
    }
    None
}

fn of_the_guest(command: &Command, guest: &Guest) {
    assert_eq!(legality::command(command, &guest.host().implementation()), Ok(()), "{command}");
    assert_eq!(command.reserved_bits(), [0; 2], "{command}");
    match (command.field("VMID"), command.field("SID")) {
        (Some(vmid), None) => assert_eq!(vmid, u64::from(guest.parent().vmid()), "{command}"),
        (None, Some(sid)) => {
            assert!(STREAMS.guest(StreamId(sid as u32)).is_some(), "{command}");
        }
        _ => panic!("{command}"),
    }
}

fuzz_target!(|input: Input| {
    let (host, shown, stage_2, ste, cd, commands, record, ats, stalls) = input;
    let Some(guest) = guest(host, shown, stage_2) else { return };
    let ats = [AtsMode::Off, AtsMode::Full, AtsMode::Split][usize::from(ats % 3)];
    let limits = Limits { ats, stalls };
    if let Ok(request) = Request::decode(&Ste(ste), &guest)
        && let Some(contexts) = entry(&guest, request, limits)
        && context::check(&Cd(cd), &contexts, &guest, limits).is_ok()
    {
        let ste = request.encode(&guest, limits);
        assert_eq!(legality::cd(&Cd(cd), &ste, &guest.host().implementation()), Ok(()));
    }

    let commands = commands.map(Command);
    let mut forwarder = Forwarder::new();
    let mut next = 0;
    for _ in 0..64 {
        let mut out = [Command([0; 2]); 2];
        let done = forwarder.forward(&guest, &STREAMS, &commands[next..], &mut out);
        next += done.consumed;
        out.iter().take(done.produced).for_each(|command| of_the_guest(command, &guest));
        match done.stop {
            Stop::Empty => assert_eq!(next, commands.len()),
            Stop::Full => {
                assert!(done.produced == out.len());
                continue;
            }
            Stop::Answer(command) => {
                of_the_guest(&command, &guest);
                continue;
            }
            Stop::Refused { index, .. } => assert_eq!(index, done.consumed),
            _ => continue,
        }
        next = commands.len() + 1;
        break;
    }
    assert!(next > commands.len(), "the commands come to an end");

    let record = EventRecord(record);
    let owned = match event::owner(&record, &guest, &STREAMS) {
        Owner::Guest(record) => Some(record),
        Owner::Host(_) => None,
    };
    for told in [owned, event::blamed(&record, &guest, &STREAMS)].into_iter().flatten() {
        assert!(STREAMS.host(StreamId(told.sid() as u32)).is_some(), "{told}");
        legality::event(&told, Some(&guest.implementation()), &mut |rule| panic!("{told}: {rule}"));
    }
});
