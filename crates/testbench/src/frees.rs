// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notes memory that is freed while an SMMU can still read it (rule R3).

use std::sync::{Arc, Mutex, PoisonError};

use crate::platform::{Observer, Point, World};

/// Watches every free.
pub struct Frees {
    world: Arc<World>,
    instances: usize,
    wrong: Mutex<Vec<String>>,
}

impl Frees {
    /// Watches the frees of `world`, which has so many SMMUs, from now on.
    pub fn watch(world: &Arc<World>, instances: usize) -> Arc<Self> {
        let frees = Arc::new(Self { world: world.clone(), instances, wrong: Mutex::default() });
        world.set_observer(Some(frees.clone()));
        frees
    }

    /// What was freed too early so far.
    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops watching, and fails if anything was freed too early.
    ///
    /// # Panics
    /// Something was.
    #[track_caller]
    pub fn finish(&self) {
        self.world.set_observer(None);
        assert_eq!(self.wrong(), [""; 0], "R3");
    }
}

impl Observer for Frees {
    fn at(&self, point: Point, _interruptible: bool) {
        let Point::Freeing { pa, bytes } = point else { return };
        for instance in 0..self.instances {
            let model = self.world.machine().model(instance);
            if let Some(reference) = model.and_then(|model| model.references(pa, bytes)) {
                let text = format!("{pa:#x}, instance {instance}: {reference}");
                self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            }
        }
    }
}
