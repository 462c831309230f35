// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

/// QEMU 10 and 11: `-M virt,iommu=smmuv3`.
fn qemu() -> IdRegisters {
    IdRegisters {
        idr0: Idr0(0x0d44_101b),
        idr1: Idr1(0x0273_0010),
        idr3: Idr3(0x0000_1414),
        idr5: Idr5(0x0000_0074),
        aidr: Aidr(1),
        ..IdRegisters::default()
    }
}

#[test]
fn qemu_has_both_stages_wide_asids_and_range_invalidation() {
    let features = Features::decode(qemu()).unwrap();
    assert!(features.stage_1 && features.stage_2 && features.coherent);
    assert!(features.range_invalidation);
    assert_eq!((features.asid_bits, features.vmid_bits), (16, 16));
    assert_eq!((features.sid_bits, features.ssid_bits), (16, 0));
    assert!(features.two_level_streams);
    assert_eq!((features.output_bits, features.input_bits), (44, 48));
    assert_eq!((features.command_queue_log2, features.event_queue_log2), (19, 19));
    assert!([12, 14, 16].into_iter().all(|shift| features.has_granule(shift)));
    assert!(!features.has_granule(13));
    assert_eq!(features.stalls, Stalls::Never);
}

/// `-device arm-smmuv3,stage=1` of QEMU 11.1 says VMID16 without stage 2.
#[test]
fn wide_vmids_mean_nothing_without_stage_2() {
    let registers = IdRegisters { idr0: Idr0(0x0d44_101a), ..qemu() };
    let features = Features::decode(registers).unwrap();
    assert!(features.stage_1 && !features.stage_2 && registers.idr0.vmid16());
    assert_eq!((features.asid_bits, features.vmid_bits), (16, 8));
}

#[test]
fn the_arm_base_platform_has_narrow_asids() {
    let mut registers = qemu();
    registers.idr0 = Idr0(0x080f_e6bf);
    registers.idr1 = Idr1(0x0e73_9d20);
    let features = Features::decode(registers).unwrap();
    assert_eq!((features.asid_bits, features.vmid_bits), (8, 16));
    assert_eq!((features.sid_bits, features.ssid_bits), (32, 20));
}

#[test]
fn events_are_taken_for_sent_but_by_the_first_mmu_600() {
    let events = |idr0: Idr0, iidr: Iidr| {
        Features::decode(IdRegisters { idr0, iidr, ..qemu() }).unwrap().events
    };
    let sev = qemu().idr0.with_sev(true);
    let arm = Iidr::default().with_implementer(0x43b).with_product_id(0x483);
    assert!(!events(qemu().idr0, arm.with_variant(1)));
    for (variant, revision, good) in [(0, 0, false), (0, 2, false), (0, 3, true), (1, 0, true)] {
        let iidr = arm.with_variant(variant).with_revision(revision);
        assert_eq!(events(sev, iidr), good, "r{variant}p{revision}");
    }
    assert!(events(sev, arm.with_product_id(0x487)) && events(sev, Iidr::default()));
}

#[test]
fn nesting_needs_both_stages_and_no_early_implementation() {
    let nesting =
        |iidr: Iidr, idr0| Features::decode(IdRegisters { idr0, iidr, ..qemu() }).unwrap().nesting;
    assert!(nesting(Iidr::default(), qemu().idr0));
    assert!(!nesting(Iidr::default(), qemu().idr0.with_s2p(false)));
    let arm = Iidr::default().with_implementer(0x43b);
    for (product, variant, revision, good) in [
        (0x483, 1, 9, false),
        (0x483, 2, 0, true),
        (0x487, 0, 1, false),
        (0x487, 1, 0, false),
        (0x487, 1, 1, true),
    ] {
        let iidr = arm.with_product_id(product).with_variant(variant).with_revision(revision);
        assert_eq!(nesting(iidr, qemu().idr0), good, "{product:#x} r{variant}p{revision}");
    }
}

#[test]
fn an_instance_is_used_as_it_is_told_and_never_beyond_what_it_has() {
    let mut registers = qemu();
    registers.idr0 = registers.idr0.with_btm(true).with_hyp(true).with_stall_model(0);
    registers.idr5 = registers.idr5.with_stall_max(40);
    let has = Features::decode(registers).unwrap();
    let limited = |change: fn(&mut InstanceConfig)| {
        let mut config = InstanceConfig::named("smmu");
        (config.sid_bits, config.stalls) = (32, 1000);
        (config.command_queue_log2, config.event_queue_log2) = (30, 30);
        change(&mut config);
        has.limited(&config)
    };
    // What is left out of the driver no instance has.
    let stall = !cfg!(all(feature = "alloc", not(feature = "stalls")));
    let compiled = Features {
        nesting: has.nesting && cfg!(feature = "nested"),
        ats: has.ats && cfg!(feature = "ats"),
        pri: has.pri && cfg!(feature = "ats"),
        stalls: if stall { has.stalls } else { Stalls::Never },
        most_stalls: if stall { has.most_stalls } else { 0 },
        ..has
    };
    // Nobody who asks for more gets it; what is chosen is off unless it is asked for.
    assert_eq!(limited(|_| {}), Features { broadcast: false, ..compiled });
    let all = limited(|it| (it.broadcast, it.el2_host) = (true, true));
    assert!(all.broadcast && all.el2_host && !all.in_el1() && !all.has_vmids());
    let less = limited(|it| {
        (it.asid_bits, it.sid_bits, it.stalls) = (8, 5, 3);
        (it.command_queue_log2, it.event_queue_log2) = (0, 0);
        it.coherent = Coherence::No;
    });
    let most = if stall { 3 } else { 0 };
    assert_eq!((less.asid_bits, less.sid_bits, less.most_stalls), (8, 5, most));
    assert_eq!((less.command_queue_log2, less.event_queue_log2), (1, 0));
    assert!(has.coherent && !less.coherent);
    // Errata are those of the implementation, whatever it is told.
    let iidr = Iidr::default().with_implementer(0x43b).with_product_id(0x487);
    let deaf = Features::decode(IdRegisters { iidr, ..registers }).unwrap();
    let mut config = InstanceConfig::named("smmu");
    config.broadcast = true;
    assert!(!deaf.limited(&config).broadcast);
}

#[test]
fn without_answers_nothing_stalls_and_what_always_does_is_refused() {
    let left_out = cfg!(all(feature = "alloc", not(feature = "stalls")));
    for (model, can) in [(0, !left_out), (1, false), (2, true)] {
        let idr0 = qemu().idr0.with_stall_model(model);
        let features = Features::decode(IdRegisters { idr0, ..qemu() }).unwrap();
        let features = features.limited(&InstanceConfig::named("smmu"));
        assert_eq!(features.can_stall(), can, "STALL_MODEL {model}");
        let refused = if left_out && model == 2 { Err(Unsupported::Stalls) } else { Ok(()) };
        assert_eq!(features.can_do_without_stalls(), refused, "STALL_MODEL {model}");
    }
}

#[test]
fn which_ats_is_asked_for_and_what_comes_of_it() {
    let of = |idr0: Idr0| Features::decode(IdRegisters { idr0, ..qemu() }).unwrap();
    let bare = of(qemu().idr0);
    let with_ats = of(qemu().idr0.with_ats(true));
    let full = [AtsMode::Off, AtsMode::Full];
    assert_eq!(full.map(|asked| with_ats.ats_if(asked)), full.map(Ok));
    assert_eq!(bare.ats_if(AtsMode::Full), Ok(AtsMode::Off));
    // Split-stage ATS: both stages, and NS1ATS = 0 (§2.3).
    let split = |features: Features| features.ats_if(AtsMode::Split);
    let both = qemu().idr0.with_ats(true).with_s1p(true).with_s2p(true);
    assert_eq!(split(of(both)), Ok(AtsMode::Split));
    assert_eq!(split(of(both.with_ns1ats(true))), Err(NoSplitAts::Ns1ats));
    for alone in [both.with_s2p(false), both.with_s1p(false)] {
        assert_eq!(split(of(alone)), Err(NoSplitAts::NoNesting));
    }
    assert_eq!(split(of(both.with_ats(false))), Err(NoSplitAts::NoAts));
    // Always on: entries that skip stage 1 take substreams (§5.3).
    let skips = |idr0: Idr0| Features { ssid_bits: 1, ..of(idr0) };
    assert_eq!(skips(both).ats_if(AtsMode::Always), Ok(AtsMode::Always));
    assert_eq!(skips(both).ats_always_on(), Ok(()));
    assert_eq!(of(both).ats_always_on(), Err(NoAtsAlwaysOn::NoSubstreams));
    assert_eq!(skips(both.with_s1p(false)).ats_always_on(), Err(NoAtsAlwaysOn::NoStage1));
    assert_eq!(skips(both.with_ats(false)).ats_always_on(), Err(NoAtsAlwaysOn::NoAts));
    // MMU-600: 1209401.
    let iidr = Iidr::default().with_implementer(0x43b).with_product_id(0x483);
    let old = Features::decode(IdRegisters { idr0: both, iidr, ..qemu() }).unwrap();
    assert_eq!(split(old), Err(NoSplitAts::NoNesting));
}

#[test]
fn what_is_asked_for_and_what_comes_of_it() {
    let of = |idr0: Idr0| Features::decode(IdRegisters { idr0, ..qemu() }).unwrap();
    for (model, can, unasked, asked) in
        [(0, true, false, true), (1, false, false, false), (2, true, true, true)]
    {
        let features = of(qemu().idr0.with_stall_model(model));
        let found = [features.can_stall(), features.stalls_if(false), features.stalls_if(true)];
        assert_eq!(found, [can, unasked, asked], "STALL_MODEL {model}");
        assert_eq!(features.always_stalls(), unasked);
    }
    let bare = of(qemu().idr0);
    let with = |ecmdq| {
        let idr1 = qemu().idr1.with_ecmdq(ecmdq);
        let idr6 = Idr6::default().with_log2_num_p(3).with_log2_num_q(8);
        Features::decode(IdRegisters { idr1, idr6, ..qemu() }).unwrap().enhanced_queues_log2()
    };
    assert_eq!([with(false), with(true)], [None, Some((3, 8))]);
    let able = of(qemu().idr0.with_msi(true).with_sev(true));
    let incoherent = Features { coherent: false, ..able };
    for asked in [Completion::Poll, Completion::Interrupt] {
        assert_eq!(bare.completion(asked), asked);
    }
    for (asked, is_there) in
        [(Completion::Event, true), (Completion::Message, cfg!(feature = "sync-messages"))]
    {
        assert_eq!(bare.completion(asked), Completion::Poll);
        assert_eq!(able.completion(asked), if is_there { asked } else { Completion::Poll });
    }
    assert_eq!(incoherent.completion(Completion::Message), Completion::Poll);
    let lpa2 = Features { lpa2: true, ..bare };
    assert_eq!([12, 14, 16].map(|shift| lpa2.has_wide_addresses(shift)), [true, true, false]);
    let lpa = Features { output_bits: 52, ..bare };
    assert_eq!([12, 14, 16].map(|shift| lpa.has_wide_addresses(shift)), [false, false, true]);
}

#[test]
fn what_cannot_be_driven_is_refused_with_its_value() {
    let refused = |change: fn(&mut IdRegisters)| {
        let mut registers = qemu();
        change(&mut registers);
        Features::decode(registers).unwrap_err()
    };
    use Unsupported as U;
    assert!(matches!(
        refused(|r| r.idr0 = r.idr0.with_s1p(false).with_s2p(false)),
        U::NoStage { .. }
    ));
    assert_eq!(refused(|r| r.idr0 = r.idr0.with_ttf(1)), U::TableFormat { ttf: 1 });
    assert_eq!(refused(|r| r.idr0 = r.idr0.with_ttendian(3)), U::Endianness { ttendian: 3 });
    assert!(matches!(refused(|r| r.idr1 = r.idr1.with_tables_preset(true)), U::Preset { .. }));
    assert!(matches!(refused(|r| r.idr1 = r.idr1.with_queues_preset(true)), U::Preset { .. }));
    assert!(matches!(refused(|r| r.idr5 = Idr5(4)), U::NoGranule { idr5: 4 }));
    assert_eq!(refused(|r| r.idr5 = r.idr5.with_oas(7)), U::OutputSize { oas: 7 });
    assert_eq!(
        refused(|r| r.idr1 = r.idr1.with_sidsize(33)),
        U::Size { field: "IDR1.SIDSIZE", value: 33, largest: 32 }
    );
    assert_eq!(refused(|r| r.idr1 = r.idr1.with_cmdqs(0)), U::CommandQueue { cmdqs: 0 });
    assert!(matches!(refused(|r| r.aidr = Aidr(0x13)), U::Version { aidr: 0x13 }));
    assert!(matches!(
        refused(|r| {
            r.aidr = Aidr(2);
            r.idr3 = r.idr3.with_ril(false);
        }),
        U::Contradiction { .. }
    ));
}

#[test]
fn what_was_adopted_is_limited_by_cr2_until_it_is_decoded_anew() {
    let mut registers = qemu();
    registers.idr0 = registers.idr0.with_btm(true).with_hyp(true);
    let config = InstanceConfig::named("smmu").with_broadcast().with_el2_host();
    let has = Features::decode(registers).unwrap().limited(&config);
    assert!(has.broadcast && has.el2_host && has.e2h);
    let private = has.adopted(Cr2::default().with_ptm(true));
    assert!(!private.broadcast && !private.el2_host && !private.e2h);
    let e2h = Features { el2_host: false, ..has }.adopted(Cr2::default().with_e2h(true));
    assert!(e2h.broadcast && e2h.e2h && !e2h.el2_host, "nobody asked for it");
    assert_eq!(private.anew(&config), has);
}

#[test]
fn stall_models_and_narrow_addresses_are_read_as_they_are() {
    for model in 0..3 {
        let mut registers = qemu();
        registers.idr0 = registers.idr0.with_stall_model(model);
        assert_eq!(Features::decode(registers).unwrap().stall_model(), model);
    }
    let sizes = |oas, vax| {
        let mut registers = qemu();
        registers.idr5 = registers.idr5.with_oas(oas).with_vax(vax);
        let features = Features::decode(registers).unwrap();
        (features.narrow_output_bits(), features.narrow_input_bits())
    };
    assert_eq!((sizes(4, 0), sizes(5, 1), sizes(6, 1)), ((44, 48), (48, 48), (48, 48)));
}
