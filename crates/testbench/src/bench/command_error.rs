// SPDX-License-Identifier: MIT OR Apache-2.0
//! Command queues that stop: at a command that does not exist, or that memory refuses once (§3.2). Whoever gave it is
//! told, if it is not tried again; nobody else is, and the queue goes on.

use crate::inside::Inside as _;
use smmuv3::{Failure, Interrupt};
use smmuv3_formats::Command;

use super::{Bench, Done, Handle};
use crate::oracle::Power;
use crate::scenario::CommandError;

/// A code that is reserved.
const ILLEGAL: Command = Command([0x7f, 0]);

impl Bench {
    /// Makes a queue of an instance stop.
    pub(super) fn command_error(&self, instance: usize, error: CommandError) -> Done {
        let nothing = Done { outcome: "nothing to do".to_owned(), ..Done::default() };
        let Some(smmu) = self.smmus.get(instance).and_then(Handle::get) else { return nothing };
        if self.oracle(|oracle| oracle.power(instance)) != Power::On {
            return nothing;
        }
        if error == CommandError::Abort {
            let Some(mut model) = self.world.machine().model(instance) else { return nothing };
            model.fail_next_command(error.code());
        }
        self.look(|watch| watch.expect_error(instance, error));
        let (platform, of) = (self.iommu.platform(), smmu.inside());
        let operands = || self.named(instance);
        let result = match error {
            CommandError::Illegal => self.traced("call", "submit_unjudged", operands, || {
                let commands = &mut [ILLEGAL].into_iter();
                let ticket = of.commands().submit_unjudged(platform, of.mmio(), commands)?;
                of.wait(platform, ticket)
            }),
            CommandError::Abort => {
                self.traced("call", "carry_out", operands, || of.carry_out(platform, []))
            }
        };
        let expected = match error {
            CommandError::Illegal => Err(Failure::Refused { command: ILLEGAL, code: error.code() }),
            CommandError::Abort => Ok(()),
        };
        // The handler that is told of it.
        let mut reports = Vec::new();
        let mut sink = |report| reports.push(report);
        while self.iommu.handle_interrupt(&smmu, Interrupt::Error, 64, &mut sink) {}
        self.look(|watch| watch.collect(&self.world));
        for report in reports {
            if let Some((fault, false)) = self.take_report(instance, report) {
                self.stalls().others.push(fault);
            }
        }
        self.look(|watch| {
            if watch.errors_expected(instance) != 0 {
                watch.refuse(format_args!(
                    "a command error of instance {instance} was not reported"
                ));
            }
            if result != expected {
                let text = format!("a command error came to {result:?}, not {expected:?}");
                watch.refuse(text);
            }
        });
        let outcome = match result {
            Ok(()) => "done at the second attempt".to_owned(),
            Err(failure) => failure.to_string(),
        };
        Done { outcome, acted: true, ..Done::default() }
    }
}
