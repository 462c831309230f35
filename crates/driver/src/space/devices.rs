// SPDX-License-Identifier: MIT OR Apache-2.0
//! An invalidation, as far as devices have to forget what they keep (ATS).

use core::iter;

use crate::atc::{Batch, Kept, Spans};
use crate::command_queue::Ticket;
use crate::devices::{Device, entry_changed, is_of_device};
use crate::error::{Failure, InstanceId};
use crate::instance::Instance;
use crate::invalidate::{Commands, Scope, Tag};
use crate::mutation::Mutation;
use crate::platform::Platform;
use crate::statistics::Counted;

use super::{Progress, Space, Targets};

impl Targets {
    /// The devices behind `instance`.
    #[inline]
    fn behind(&self, instance: InstanceId) -> &[Device] {
        if self.devices.is_empty() {
            return &[];
        }
        let first = self.devices.partition_point(|device| device.instance < instance);
        let end = self.devices.partition_point(|device| device.instance <= instance);
        self.devices.get(first..end).unwrap_or(&[])
    }
}

impl<P: Platform> Space<P> {
    /// Tells an instance by `commands` and the devices behind it, in one batch, if there are any and there is room for
    /// that. If not, they are noted, and the instance has still to be told.
    #[inline]
    pub(super) fn tell_devices(
        &self,
        targets: &Targets,
        (id, instance): (InstanceId, &Instance<P>),
        commands: &Commands<impl Iterator<Item = Tag> + Clone>,
        scope: Scope,
        progress: &mut Progress,
    ) -> bool {
        let core = &*self.core;
        let platform = &core.platform;
        // Devices of guests keep translations of both stages, by addresses of stage 1: in the second round they are
        // told to forget everything.
        let later = self.is_under_guests(scope) && instance.features().may_hold_guests();
        let devices = if later { &[] } else { targets.behind(id) };
        let devices = if core.leaves_out(Mutation::NoAtcInv) { &[] } else { devices };
        if devices.is_empty() {
            return false;
        }
        let spans = Spans::of(scope, instance.features().unit_shift());
        let answers = |device: &&Device| !instance.is_quarantined(platform, device.kept.stream);
        let told = devices.iter().filter(answers).map(|device| device.kept);
        let mut all = Batch::new(commands.clone(), told, spans);
        if core.leaves_out(Mutation::AtcBeforeSync) {
            all.out_of_order();
        }
        let (count, syncs) = (all.len(), all.syncs());
        if count <= instance.commands().largest_batch() {
            if count != 0 {
                let asked = instance.commands().devices_are_asked();
                let placed = instance.commands().try_submit(platform, instance.mmio(), &mut all);
                if let Ok(Some(ticket)) = &placed {
                    // None where the SMMU sleeps.
                    if ticket.commands() != 0 {
                        instance.commands().count_within(platform, syncs);
                    }
                    // One that was readmitted meanwhile has taken the place of another.
                    if all.leaves_any_out() {
                        progress.kept |= id.bit();
                    }
                }
                progress.placed(id, [count, syncs], placed);
                if progress.asked & id.bit() == 0 {
                    progress.asked |= id.bit();
                    asked.keep();
                }
            }
            // Looked at after the batch was placed: a device that was left out of it is in quarantine by now, or reaches nothing
            // of this before `catch_up`.
            if !devices.iter().all(|device| answers(&device)) {
                progress.silent |= id.bit();
            }
            return true;
        }
        progress.kept |= id.bit();
        false
    }

    /// Counts a batch for one device, if it was placed.
    fn count_told(&self, placed: Option<&Ticket>) {
        let commands = placed.map_or(0, Ticket::commands);
        if commands != 0 {
            self.count_commands(commands, 1);
        }
    }

    /// Makes the devices behind an instance forget what `scope` says, one after the other; those that do not answer are in
    /// quarantine then. Translations of the instance are gone already. Unless `all` are to be told, only those in
    /// quarantine are looked after.
    ///
    /// A device that is not among the targets any more is another call's matter: that has made it forget, or put it in
    /// quarantine, before it took it off.
    #[cold]
    #[inline(never)]
    pub(super) fn forget_kept(
        &self,
        id: InstanceId,
        scope: Scope,
        all: bool,
    ) -> Result<(), Failure> {
        enum Step {
            /// Commands were placed for a device; so many of its spans are left, `None` if it is in quarantine.
            Told(Kept, Ticket, Option<usize>),
            Full(usize),
            Done,
        }
        let core = &*self.core;
        let platform = &core.platform;
        let Some(instance) = core.instances.get(id) else { return Ok(()) };
        let spans = Spans::of(scope, instance.features().unit_shift());
        let _asked = instance.commands().devices_are_asked();
        // The last device that is done, one that was told so many spans of more, and one that did not answer.
        let (mut last, mut begun, mut silent) = (None, None, None);
        // `found`: a stream that this call has just put in quarantine. `once`: where invalidations are repeated, the
        // device whose CFGI was given once so far.
        let (mut found, mut once) = (None, None);
        loop {
            // Submitted inside a reader's section: whoever takes the device off the targets waits until it has ended.
            let step = core.readers.read(platform.cpu(), &self.targets, |targets| {
                let quarantined = |kept: Kept| instance.is_quarantined(platform, kept.stream);
                let next = targets.behind(id).iter().map(|device| device.kept).find(|kept| {
                    last.is_none_or(|last| *kept > last) && (all || quarantined(*kept))
                });
                let Some(kept) = next else { return Ok(Step::Done) };
                let (commands, mmio) = (instance.commands(), instance.mmio());
                if silent == Some(kept)
                    && !quarantined(kept)
                    && instance.quarantine(platform, kept.stream)
                {
                    found = Some(kept.stream);
                }
                if quarantined(kept) {
                    let command = &mut iter::once(entry_changed(kept.stream));
                    let ticket = commands.try_submit(platform, mmio, command)?;
                    self.count_told(ticket.as_ref());
                    return Ok(
                        ticket.map_or(Step::Full(1), |ticket| Step::Told(kept, ticket, None))
                    );
                }
                // The one that was begun with may have left the targets since.
                let said = begun.filter(|(of, _)| *of == kept).map_or(0, |(_, said)| said);
                let told = &mut spans.iter().skip(said).map(|span| kept.command(span));
                let ticket = commands.try_submit(platform, mmio, &mut *told)?;
                let left = Some(told.len());
                self.count_told(ticket.as_ref());
                Ok(ticket.map_or(Step::Full(told.len()), |ticket| Step::Told(kept, ticket, left)))
            });
            if let Some(stream) = found.take() {
                instance.tell_of(platform, stream);
            }
            match step? {
                Step::Done => return Ok(()),
                Step::Full(wanted) => {
                    self.count(Counted::Waits, 1);
                    // Waits for as much room as the next batch takes.
                    instance.commands().wait_for_room(platform, instance.mmio(), wanted)?;
                    platform.relax();
                }
                Step::Told(kept, ticket, left) => match (self.wait_on(instance, &ticket), left) {
                    (Err(what), _) if !is_of_device(&what) => return Err(what),
                    // The same device is next again, and goes into quarantine.
                    (Err(_), Some(_)) => (silent, begun) = (Some(kept), None),
                    (Ok(()), Some(left)) if left != 0 => {
                        begun = Some((kept, spans.count() - left));
                    }
                    (_, None) if instance.commands().repeats() && once != Some(kept) => {
                        once = Some(kept);
                    }
                    // The device is done. If it is in quarantine, an error is some other device's.
                    _ => (last, begun) = (Some(kept), None),
                },
            }
        }
    }
}
