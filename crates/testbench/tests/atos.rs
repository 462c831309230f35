// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asking an SMMU what an address translates to (§2.5): it answers what a device would get, stale or not.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use smmuv3::atos::{AtosError, Question, Reason, Stages};
use smmuv3::formats::EventId;
use smmuv3::formats::register::{Cr0, GatosCtrl, GatosPar, GatosSid};
use smmuv3::{
    Attributes, Config, DomainConfig, InstanceConfig, Interrupt, Iommu, Iova, MasterConfig,
    PhysAddr, Prot, StreamId,
};
use smmuv3_model::Model;
use smmuv3_testbench::caches::SmmuMemory;
use smmuv3_testbench::lock::Guard;
use smmuv3_testbench::machine::{Dma, Machine, MachineError, Part, Translations};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::{TestPlatform, World};
use smmuv3_testbench::ram::Ram;
use smmuv3_testbench::run::run_on_machine;

const SCENARIO: &str = r#"
name = "atos"
[[instance]]
name = "smmu"
atos = ATOS
[[master]]
name = "nic"
instance = "smmu"
streams = [1]
"#;
const IOVA: u64 = 0x1000_0000;
const NIC: StreamId = StreamId(1);

#[test]
fn the_answer_is_what_a_device_would_get() {
    let scenario = common::parse(&SCENARIO.replace("ATOS", "true"));
    let machine = Arc::new(ModelMachine::new(&scenario, 1).unwrap());
    let world = World::new(machine.clone(), 1);
    let memory = world.frames().allocate(0x20_0000, 0x20_0000).unwrap();
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let smmu = common::enable(&iommu, &world, 0, InstanceConfig::named("smmu"));
    let nic = iommu.add_master(&smmu, &[NIC], MasterConfig::default()).unwrap();
    let question = Question::read(NIC, Iova(IOVA + 0x1234));
    // A blocked stream has no stage.
    assert_eq!(smmu.ask(&question), Err(AtosError::InvalidStage));

    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    iommu.attach(&nic, &domain).unwrap();
    let refused = |event| Err(AtosError::Refused { event, reason: Reason::First, address: 0 });
    assert_eq!(smmu.ask(&question), refused(EventId::FTranslation));
    let attributes = Attributes::normal(Prot::READ);
    // SAFETY: the memory is the test's.
    unsafe { domain.map(Iova(IOVA), PhysAddr(memory), 0x20_0000, attributes) }.unwrap();
    let answer = smmu.ask(&question).unwrap();
    assert_eq!((answer.pa.0, answer.size), (memory + 0x1234, 0x20_0000));
    let write = Question { write: true, ..question };
    assert_eq!(smmu.ask(&write), refused(EventId::FPermission));
    let second = Question { stages: Stages::Second, ..question };
    assert!(matches!(smmu.ask(&second), Err(AtosError::InvalidStage | AtosError::InvalidRequest)));
    // SAFETY: as above.
    unsafe { domain.unmap(Iova(IOVA), 0x20_0000) }.unwrap();
    assert_eq!(smmu.ask(&question), refused(EventId::FTranslation));
    // Nothing was recorded: whoever asks has the answer.
    let mut reports = 0;
    let _ = iommu.handle_interrupt(&smmu, smmuv3::Interrupt::Any, 16, &mut |_| reports += 1);
    assert_eq!(reports, 0);
    iommu.detach(&nic).unwrap();
}

#[test]
fn an_smmu_without_them_says_so() {
    let scenario = common::parse(&SCENARIO.replace("ATOS", "false"));
    let machine = Arc::new(ModelMachine::new(&scenario, 1).unwrap());
    let world = World::new(machine.clone(), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let smmu = common::enable(&iommu, &world, 0, InstanceConfig::named("smmu"));
    let asked = smmu.ask(&Question::read(NIC, Iova(IOVA)));
    assert_eq!(asked, Err(AtosError::NotImplemented));
}

/// The model, but for what it answers.
struct Lying {
    model: ModelMachine,
    answer: fn(u32) -> u32,
}

impl Machine for Lying {
    fn name(&self) -> String {
        self.model.name()
    }
    fn ram(&self) -> &Ram {
        self.model.ram()
    }
    fn read32(&self, instance: usize, offset: u32) -> u32 {
        let value = self.model.read32(instance, offset);
        if offset == GatosPar::OFFSET { (self.answer)(value) } else { value }
    }
    fn write32(&self, instance: usize, offset: u32, value: u32) {
        self.model.write32(instance, offset, value);
    }
    fn write64(&self, instance: usize, offset: u32, value: u64) {
        self.model.write64(instance, offset, value);
    }
    fn act(&self) {
        self.model.act();
    }
    fn wait(&self) {
        self.model.wait();
    }
    fn dma(
        &self,
        master: usize,
        substream: Option<u32>,
        iova: u64,
        transfer: Dma<'_>,
    ) -> Result<Vec<Part>, MachineError> {
        self.model.dma(master, substream, iova, transfer)
    }
    fn model(&self, instance: usize) -> Option<Guard<'_, Model<SmmuMemory>>> {
        self.model.model(instance)
    }
    fn translations(&self) -> Option<Translations> {
        self.model.translations()
    }
    fn health(&self) -> Result<(), MachineError> {
        self.model.health()
    }
}

/// The model, which has not answered as long as somebody turns the SMMU off: until that has returned, or waits.
struct Late {
    model: ModelMachine,
    asked: AtomicBool,
    /// How often whoever turns it off has waited.
    waits: AtomicU64,
    off: AtomicBool,
    /// A register was accessed when it was off.
    late: AtomicBool,
    /// What somebody else does just before the next question is written.
    before: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Late {
    /// More often than the way there takes: the model answers at once.
    const WAITS: u64 = 10_000;

    fn new(model: ModelMachine) -> Self {
        let [asked, off, late] = [false; 3].map(AtomicBool::new);
        Self { model, asked, waits: AtomicU64::new(0), off, late, before: Mutex::default() }
    }

    fn is_accessed(&self) {
        self.late.fetch_or(self.off.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

impl Machine for Late {
    fn name(&self) -> String {
        self.model.name()
    }
    fn ram(&self) -> &Ram {
        self.model.ram()
    }
    fn read32(&self, instance: usize, offset: u32) -> u32 {
        self.is_accessed();
        if offset == GatosCtrl::OFFSET && self.asked.load(Ordering::SeqCst) {
            while !self.off.load(Ordering::SeqCst)
                && self.waits.load(Ordering::SeqCst) < Self::WAITS
            {
                thread::yield_now();
            }
        }
        self.model.read32(instance, offset)
    }
    fn write32(&self, instance: usize, offset: u32, value: u32) {
        self.is_accessed();
        self.model.write32(instance, offset, value);
        if offset == GatosCtrl::OFFSET {
            self.asked.store(true, Ordering::SeqCst);
        }
    }
    fn write64(&self, instance: usize, offset: u32, value: u64) {
        self.is_accessed();
        if offset == GatosSid::OFFSET {
            let before = self.before.lock().unwrap().take();
            before.into_iter().for_each(|before| before());
        }
        self.model.write64(instance, offset, value);
    }
    fn act(&self) {
        self.model.act();
    }
    fn wait(&self) {
        self.waits.fetch_add(1, Ordering::SeqCst);
        self.model.wait();
    }
    fn dma(
        &self,
        master: usize,
        substream: Option<u32>,
        iova: u64,
        transfer: Dma<'_>,
    ) -> Result<Vec<Part>, MachineError> {
        self.model.dma(master, substream, iova, transfer)
    }
    fn model(&self, instance: usize) -> Option<Guard<'_, Model<SmmuMemory>>> {
        self.model.model(instance)
    }
    fn translations(&self) -> Option<Translations> {
        self.model.translations()
    }
    fn health(&self) -> Result<(), MachineError> {
        self.model.health()
    }
}

/// Whoever turns an SMMU off waits until nobody is asking, and nobody asks afterwards: its power may go.
#[test]
fn no_register_is_accessed_once_it_is_off() {
    let scenario = common::parse(&SCENARIO.replace("ATOS", "true"));
    for removes in [false, true] {
        let machine = Arc::new(Late::new(ModelMachine::new(&scenario, 1).unwrap()));
        let world = World::new(machine.clone(), 1);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let smmu = common::enable(&iommu, &world, 0, InstanceConfig::named("smmu"));
        machine.waits.store(0, Ordering::SeqCst);
        let clone = smmu.clone();
        let question = Question::read(NIC, Iova(IOVA));
        thread::scope(|scope| {
            // It is answered, or not in time, or not by an SMMU that is off.
            let asking = scope.spawn(|| clone.ask(&question).map_or((), |_| ()));
            while !machine.asked.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            match removes {
                false => iommu.suspend(&smmu, &mut |_| ()).unwrap(),
                true => iommu.remove(smmu).unwrap(),
            }
            machine.off.store(true, Ordering::SeqCst);
            asking.join().unwrap();
        });
        assert_eq!(clone.ask(&question), Err(AtosError::Off), "removes: {removes}");
        assert!(!iommu.handle_interrupt(&clone, Interrupt::Any, 16, &mut |_| ()));
        assert!(!machine.late.load(Ordering::SeqCst), "removes: {removes}");
    }
}

/// The registers hold the answer to an earlier question. While a reset has turned the SMMU off, it ignores another one.
#[test]
fn nobody_is_given_the_answer_to_another_question() {
    let scenario = common::parse(&SCENARIO.replace("ATOS", "true"));
    let machine = Arc::new(Late::new(ModelMachine::new(&scenario, 1).unwrap()));
    let world = World::new(machine.clone(), 1);
    let memory = world.frames().allocate(0x2000, 0x1000).unwrap();
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let smmu = common::enable(&iommu, &world, 0, InstanceConfig::named("smmu"));
    let nic = iommu.add_master(&smmu, &[NIC], MasterConfig::default()).unwrap();
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    iommu.attach(&nic, &domain).unwrap();
    let attributes = Attributes::normal(Prot::READ);
    // SAFETY: the memory is the test's.
    unsafe { domain.map(Iova(IOVA), PhysAddr(memory), 0x2000, attributes) }.unwrap();
    let ask = |page: u64| smmu.ask(&Question::read(NIC, Iova(IOVA + 0x1000 * page)));
    machine.off.store(true, Ordering::SeqCst);
    let answer = |page: u64| ask(page).map(|answer| answer.pa.0);
    assert_eq!([answer(0), answer(1)], [Ok(memory), Ok(memory + 0x1000)]);
    // At the beginning of a suspend, halfway through a reset, and after one.
    for (resets, off) in [(false, true), (true, true), (true, false)] {
        let (at, again, of) = (machine.clone(), iommu.clone(), smmu.clone());
        *machine.before.lock().unwrap() = Some(Box::new(move || {
            if resets {
                again.reset(&of).unwrap();
            }
            if off {
                at.model.write32(0, Cr0::OFFSET, 0);
            }
        }));
        assert_eq!(answer(0), Err(AtosError::Off));
        iommu.reset(&smmu).unwrap();
        assert_eq!(answer(0), Ok(memory));
        assert_eq!(answer(1), Ok(memory + 0x1000));
    }
}

#[test]
fn answers_are_judged_as_accesses_would_be() {
    let steps = r#"
        [[domain]]
        name = "d"
        [[memory]]
        name = "m"
        size = "4K"
        [[step]]
        attach = { master = "nic", domain = "d" }
        [[step]]
        map = { domain = "d", iova = 0x10000, memory = "m" }
        [[step]]
        translate = { master = "nic", iova = 0x10008 }
        [[step]]
        translate = { master = "nic", iova = 0x20000, EXPECTED }
    "#;
    let right = "refused = \"F_TRANSLATION\"";
    let verdict = |expected: &str, answer: fn(u32) -> u32| {
        let text = SCENARIO.replace("ATOS", "true") + &steps.replace("EXPECTED", expected);
        let scenario = common::parse(&text);
        let model = ModelMachine::new(&scenario, 1).unwrap();
        run_on_machine(&scenario, Arc::new(Lying { model, answer }), 1).unwrap().verdict
    };
    assert_eq!(verdict(right, |par| par), "ok");
    assert_eq!(verdict("refused = \"F_PERMISSION\"", |par| par), "expectation");
    // Another page of memory; a refusal; what nobody can make sense of (INTERNAL_ERR).
    assert_eq!(verdict(right, |par| par ^ 0x1000), "R1");
    assert_eq!(verdict(right, |_| 0x101), "R0");
    assert_eq!(verdict(right, |_| 0xfd1), "driver");
}
