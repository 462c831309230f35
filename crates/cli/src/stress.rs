// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `smmuv3 stress`: the driver on real threads, policy by policy, and how far it is.

use smmuv3_testbench::stress::{AsidPolicy, Counts, Stress, Until};

use crate::output::show;
use crate::progress::Bar;
use crate::report::{self, Stressed};
use crate::{BROKEN, Failure, HELD, args, columns, say};

/// Does it, until something is wrong; the exit status.
pub fn execute(asked: &args::Stress) -> Result<u8, Failure> {
    let policies = match asked.policy {
        Some(policy) => vec![policy],
        None => AsidPolicy::ALL.to_vec(),
    };
    // A handful of policies.
    let each = asked.seconds / policies.len() as u32;
    #[allow(clippy::needless_update, reason = "with the feature mutation there is more")]
    let stress = Stress {
        threads: usize::from(asked.threads),
        instances: usize::from(asked.instances),
        seed: asked.seed,
        until: Until::Time(each),
        ..Stress::default()
    };
    let mut stressed = Stressed::new(&stress);
    let mut bar = Bar::new();
    for policy in policies {
        let tell = &mut |counts: &Counts| bar.say(report::stress_progress(policy.name(), counts));
        let run = stress.run(policy, tell);
        let failed = run.failure.is_some();
        stressed.add(run);
        if failed {
            break;
        }
    }
    drop(bar);
    let wanted = show(asked.json, &stressed, || report::render_stress(&stressed, columns()))?;
    if stressed.is_ok() {
        return Ok(HELD);
    }
    // Whoever pipes the report elsewhere is still told what went wrong.
    if asked.json || !wanted {
        say(&format!("smmuv3: {}", stressed.verdict()));
    }
    Ok(BROKEN)
}
