// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine of models, with registers that lie and faults that come at a chosen moment.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use smmuv3_model::Model;
use smmuv3_testbench::caches::SmmuMemory;
use smmuv3_testbench::lock::Guard;
use smmuv3_testbench::machine::{Dma, Machine, MachineError, Part, Translations};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::ram::Ram;

/// Called with the instance, the offset and the value of a register write, before it takes effect.
type OnWrite = Box<dyn FnMut(&ModelMachine, usize, u32, u32) + Send>;
/// Called with the instance and the offset of a register read, after the value was taken.
type OnRead = Box<dyn FnMut(&ModelMachine, usize, u32) + Send>;
/// Called whenever the driver waits.
type OnWait = Box<dyn FnMut(&ModelMachine) + Send>;

/// See the module.
pub struct FaultyMachine {
    pub inner: ModelMachine,
    /// What reads of a register give instead of the truth.
    lies: Mutex<BTreeMap<(usize, u32), u32>>,
    writes: AtomicU64,
    on_write: Mutex<Option<OnWrite>>,
    on_read: Mutex<Option<OnRead>>,
    on_wait: Mutex<Option<OnWait>>,
}

impl FaultyMachine {
    pub fn new(inner: ModelMachine) -> Self {
        Self {
            inner,
            lies: Mutex::default(),
            writes: AtomicU64::new(0),
            on_write: Mutex::default(),
            on_read: Mutex::default(),
            on_wait: Mutex::default(),
        }
    }

    /// Makes the register at `offset` of `instance` read as `value`, or as what it holds.
    pub fn lie(&self, instance: usize, offset: u32, value: Option<u32>) {
        let mut lies = self.lies.lock().unwrap();
        match value {
            Some(value) => lies.insert((instance, offset), value),
            None => lies.remove(&(instance, offset)),
        };
    }

    /// Register writes so far.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    pub fn on_write(&self, hook: impl FnMut(&ModelMachine, usize, u32, u32) + Send + 'static) {
        *self.on_write.lock().unwrap() = Some(Box::new(hook));
    }

    pub fn on_read(&self, hook: impl FnMut(&ModelMachine, usize, u32) + Send + 'static) {
        *self.on_read.lock().unwrap() = Some(Box::new(hook));
    }

    pub fn on_wait(&self, hook: impl FnMut(&ModelMachine) + Send + 'static) {
        *self.on_wait.lock().unwrap() = Some(Box::new(hook));
    }

    /// Takes the hooks away.
    pub fn behave(&self) {
        *self.on_write.lock().unwrap() = None;
        *self.on_read.lock().unwrap() = None;
        *self.on_wait.lock().unwrap() = None;
    }

    fn before_write(&self, instance: usize, offset: u32, value: u32) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        if let Some(hook) = &mut *self.on_write.lock().unwrap() {
            hook(&self.inner, instance, offset, value);
        }
    }
}

impl Machine for FaultyMachine {
    fn name(&self) -> String {
        "faulty".to_owned()
    }

    fn ram(&self) -> &Ram {
        self.inner.ram()
    }

    fn read32(&self, instance: usize, offset: u32) -> u32 {
        let lie = self.lies.lock().unwrap().get(&(instance, offset)).copied();
        let value = lie.unwrap_or_else(|| self.inner.read32(instance, offset));
        if let Some(hook) = &mut *self.on_read.lock().unwrap() {
            hook(&self.inner, instance, offset);
        }
        value
    }

    fn write32(&self, instance: usize, offset: u32, value: u32) {
        self.before_write(instance, offset, value);
        self.inner.write32(instance, offset, value);
    }

    fn write64(&self, instance: usize, offset: u32, value: u64) {
        self.before_write(instance, offset, value as u32);
        self.inner.write64(instance, offset, value);
    }

    fn act(&self) {
        self.inner.act();
    }

    fn wait(&self) {
        if let Some(hook) = &mut *self.on_wait.lock().unwrap() {
            hook(&self.inner);
        }
        self.inner.wait();
    }

    fn dma(
        &self,
        master: usize,
        substream: Option<u32>,
        iova: u64,
        transfer: Dma<'_>,
    ) -> Result<Vec<Part>, MachineError> {
        self.inner.dma(master, substream, iova, transfer)
    }

    fn model(&self, instance: usize) -> Option<Guard<'_, Model<SmmuMemory>>> {
        self.inner.model(instance)
    }

    fn translations(&self) -> Option<Translations> {
        self.inner.translations()
    }

    fn health(&self) -> Result<(), MachineError> {
        self.inner.health()
    }
}
