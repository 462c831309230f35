// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whoever has a report finds whose it is; handles say who they are, and which are the same.

use smmuv3::{DomainConfig, MasterConfig, Report, StreamId};
use smmuv3_testbench::oracle::Use;

use crate::setup::{DISK, GPU, NARROW, NIC, Setup, WIDE};

#[test]
fn the_device_of_an_event_is_found_by_its_stream() {
    let mut setup = Setup::new(1);
    setup.attach(GPU, Use::Domain(1)).unwrap();
    assert_eq!(setup.dma(GPU, 0x1000), None);
    let (reports, _) = setup.reports(WIDE, 8);
    let [Report::Event(event)] = &reports[..] else { panic!("{reports:?}") };
    let told = reports[0].to_string();
    assert!(told.starts_with("F_TRANSLATION sid 0x1 ") && told.ends_with(" at 0x1000"), "{told}");
    let find =
        |setup: &Setup, instance, stream: u32| setup.iommu.master_of(instance, StreamId(stream));
    let found = find(&setup, event.instance(), event.sid() as u32);
    assert_eq!(found, Some(setup.masters[GPU].id()));
    let narrow = setup.smmus[NARROW].id();
    assert_eq!(find(&setup, narrow, 1), Some(setup.masters[NIC].id()));
    assert_eq!(find(&setup, narrow, 3), Some(setup.masters[DISK].id()));
    assert_eq!(find(&setup, narrow, 4), None);
    let streams = |master: usize| setup.masters[master].streams();
    assert_eq!(streams(DISK), Ok(vec![StreamId(2), StreamId(3)]));
    assert_eq!(streams(GPU), Ok(vec![StreamId(1)]));

    let other = [StreamId(4)];
    let more = setup.iommu.add_master(&setup.smmus[NARROW], &other, MasterConfig::default());
    setup.masters.push(more.unwrap());
    assert_eq!(find(&setup, narrow, 4), Some(setup.masters[3].id()));
    assert!(setup.masters.pop().unwrap().close().is_ok());
    assert_eq!(find(&setup, narrow, 4), None);
}

#[test]
fn handles_say_who_they_are_and_are_equal_where_they_are_the_same() {
    let setup = Setup::new(1);
    let [narrow, wide] = &setup.smmus[..] else { panic!() };
    assert_eq!(narrow.clone(), setup.iommu.smmu(narrow.id()).unwrap());
    assert_ne!(narrow, wide);
    assert_ne!(setup.masters[NIC], setup.masters[DISK]);
    assert_eq!(setup.masters[NIC], setup.masters[NIC]);
    assert_ne!(setup.domains[0], setup.domains[1]);
    assert_eq!(setup.iommu, setup.iommu.clone());
    let elsewhere = Setup::new(2);
    assert_ne!(setup.iommu, elsewhere.iommu);
    assert_ne!(*narrow, elsewhere.smmus[NARROW]);
    assert_ne!(setup.masters[NIC], elsewhere.masters[NIC]);

    let smmu = r#"Smmu { id: InstanceId(0), name: "smmu" }"#;
    assert_eq!(format!("{narrow:?}"), smmu);
    let all = format!("{:?}", setup.iommu);
    assert!(all.starts_with("Iommu [Smmu {") && all.contains(smmu), "{all}");
    let nic = format!("{:?}", setup.masters[NIC]);
    assert_eq!(nic, format!("Master {{ instance: {:?}, index: {} }}", narrow.id(), 0));
    let domain = setup.iommu.create_domain(DomainConfig::default()).unwrap();
    assert_eq!(format!("{domain:?}"), format!("Domain {{ id: {}, .. }}", domain.id()));
}
