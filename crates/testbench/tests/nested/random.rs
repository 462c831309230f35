// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guest and host do what they like, while devices never rest: each access ends where both stages say, or nowhere.

use smmuv3::Config;

use crate::guest::{DATA, Guest, PAGES, SPACES, SPAN};
use crate::host::{Host, STREAMS, Use};

/// Numbers that are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) as usize % limit
    }
}

/// The first thing that goes wrong in so many steps.
fn run(seed: u64, steps: usize, config: Config) -> Result<(), String> {
    let mut host = Host::new(seed, config);
    let mut numbers = Numbers(seed);
    host.restless(seed);
    let mut asid = 3;
    for step in 0..steps {
        let (master, space) = (numbers.below(2), numbers.below(SPACES));
        let (at, page) = (numbers.below(SPAN), DATA + numbers.below(PAGES - DATA));
        let any = numbers.below(PAGES);
        let what = numbers.below(16);
        match what {
            0..=3 => {
                if host.guest.mapped.contains_key(&(space, at)) {
                    let commands = host.guest.unmap(space, at, step % 2 == 0);
                    host.commands(&commands);
                }
                host.guest.map(space, at, page);
            }
            4..=5 => {
                let commands = host.guest.unmap(space, at, step % 2 == 0);
                host.commands(&commands);
            }
            6 => {
                asid = asid % 200 + 1;
                let streams = STREAMS.map(|(_, guest)| u64::from(guest));
                // Numbers of the guest's other space are not its to choose.
                let new = asid * SPACES as u64 + space as u64;
                let commands = host.guest.change_asid(space, new, &streams);
                host.commands(&commands);
            }
            7..=9 => {
                host.nest(master, Guest::entry(space), Use::Space(space));
                host.commands(&Guest::changed_entry(STREAMS[master].1.into()));
            }
            10 => host.nest(master, Guest::bypass(), Use::Bypass),
            11 => host.nest(master, Default::default(), Use::Invalid),
            12 => match numbers.below(2) {
                0 => host.plain(master),
                _ => host.detach(master),
            },
            13 if host.present.contains_key(&any) => host.migrate(any),
            // What the SMMU keeps of a context does not go with its page.
            _ if Guest::is_context(any) => {}
            _ => match host.present.contains_key(&any) {
                true => host.take(any),
                false => host.give(any),
            },
        }
        host.verdict().map_err(|wrong| format!("seed {seed}, step {step} ({what}): {wrong}"))?;
        host.read_events();
        // Not too much is missing at once, and above all no tables for long.
        let missing: Vec<_> = (0..DATA).filter(|page| !host.present.contains_key(page)).collect();
        missing.into_iter().for_each(|page| host.give(page));
    }
    let guest = STREAMS.map(|(_, guest)| u64::from(guest));
    assert!(host.events.iter().all(|event| guest.contains(&event.sid())));
    match host.events.is_empty() {
        true => Err(format!("seed {seed}: the guest was told of nothing")),
        false => Ok(()),
    }
}

#[test]
fn every_access_ends_where_both_stages_say() {
    for seed in 0..20 {
        assert_eq!(run(seed, 300, Config::default()), Ok(()));
    }
}

#[cfg(feature = "mutation")]
#[test]
fn a_driver_with_a_step_left_out_is_caught() {
    use smmuv3::Mutation;
    let with = |mutation| {
        let mut config = Config::default();
        config.mutation = Some(mutation);
        (0..20).filter(|seed| run(*seed, 300, config).is_err()).count()
    };
    // No device keeps anything, and of contexts only what they hold changes; none faults twice (tests/mutation.rs), and nobody
    // asks what came before.
    let others = [Mutation::GuestsStream, Mutation::NoMerging, Mutation::EventsBefore];
    for mutation in Mutation::OF_GUESTS.into_iter().filter(|it| !others.contains(it)) {
        let caught = with(mutation);
        assert!(caught >= 19, "{mutation:?}: {caught} of 20 seeds");
    }
}
