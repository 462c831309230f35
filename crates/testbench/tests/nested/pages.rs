// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that ask for pages (PRI), and are given to a guest: it is shown no page requests, and its host could not tell by its
//! addresses which memory is asked for. They do not ask meanwhile.

use smmuv3_testbench::keeping::trusted;
use std::sync::Arc;

use smmuv3::page_request::Answer;
use smmuv3::{Config, Denied, Interrupt, Report, StreamId};
use smmuv3_formats::PageRequest;
use smmuv3_model::{Observation, Page};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::TestPlatform;
use smmuv3_testbench::scenario::Scenario;

use crate::guest::{DATA, Guest, VA};
use crate::host::{Host, MACHINE, STREAMS, Use};

const ASKS: usize = 0;
const STREAM: u32 = STREAMS[ASKS].0;

/// A device with ATS and PRI.
fn host() -> Host {
    let text = MACHINE.replace("stages = [1, 2]", "stages = [1, 2]\nats = true\npri = true");
    let text = text.replace("[0x900]", "[0x900]\nats = true\npri = true");
    let scenario = Scenario::parse(&text, "nested").unwrap();
    let machine = Arc::new(ModelMachine::new(&scenario, 1).unwrap());
    let mut host = Host::on(machine, Config::default());
    host.masters.remove(ASKS).close().unwrap();
    let config = trusted().with_page_requests(4, false);
    let master = host.iommu.add_master(&host.smmu, &[StreamId(STREAM)], config).unwrap();
    host.masters.insert(ASKS, master);
    host.guest.map(0, 0, DATA);
    host
}

/// What the device has on: ATS and PRI.
fn switches(host: &Host) -> (bool, bool) {
    let model = host.world.machine().model(0).unwrap();
    let endpoint = model.endpoint(STREAM).unwrap();
    (endpoint.ats, endpoint.pri)
}

/// It asks for a page, if it may.
fn ask(host: &Host) -> Option<u16> {
    let page = Page { address: Guest::ipa(DATA), read: true, write: false };
    host.world.machine().model(0).unwrap().ask_for_pages(STREAM, None, &[page], true)
}

fn reports(host: &Host) -> Vec<Report<TestPlatform>> {
    let mut reports = Vec::new();
    let mut sink = |report| reports.push(report);
    while host.iommu.handle_interrupt(&host.smmu, Interrupt::Any, 64, &mut sink) {}
    reports
}

/// How often it was answered since the last call.
fn answers(host: &Host) -> usize {
    let seen = host.world.observations(0).unwrap();
    seen.iter().filter(|seen| matches!(seen, Observation::PageResponse { .. })).count()
}

#[test]
fn it_asks_while_it_is_the_hosts_and_not_while_it_is_a_guests() {
    let mut host = host();
    for step in 0..12 {
        let expected = match step % 6 {
            0 => {
                host.plain(ASKS);
                (true, true)
            }
            1 => {
                host.nest(ASKS, Guest::entry(0).with_eats(1), Use::Space(0));
                (true, false)
            }
            2 => {
                host.nest(ASKS, Guest::entry(1).with_eats(1), Use::Space(1));
                (true, false)
            }
            3 if step == 3 => {
                host.plain(ASKS);
                (true, true)
            }
            3 => {
                host.iommu.reset(&host.smmu).unwrap();
                (true, false)
            }
            4 => {
                host.nest(ASKS, Guest::entry(0), Use::Space(0));
                (false, false)
            }
            _ => {
                host.detach(ASKS);
                (false, false)
            }
        };
        assert_eq!(switches(&host), expected, "step {step}");
        assert_eq!(host.verdict(), Ok(()), "step {step}");
        let asked = ask(&host);
        assert_eq!(asked.is_some(), expected.1, "step {step}");
        let told = reports(&host);
        let told = told.iter().filter(|it| matches!(it, Report::Pages(_))).count();
        assert_eq!(told, usize::from(expected.1), "step {step}");
    }
}

#[test]
fn what_it_asked_of_the_host_is_over_when_a_guest_gets_it() {
    let mut host = host();
    host.plain(ASKS);
    ask(&host).unwrap();
    let mut handed = reports(&host);
    let Some(Report::Pages(group)) = handed.pop() else { panic!("{handed:?}") };
    // Nobody has read this one.
    ask(&host).unwrap();
    answers(&host);
    host.nest(ASKS, Guest::entry(0).with_eats(1), Use::Space(0));
    assert_eq!(answers(&host), 2, "each once");
    assert_eq!(group.respond(Answer::Success), Ok(false), "too late");
    let told = reports(&host);
    assert!(!told.iter().any(|it| matches!(it, Report::Pages(_))), "{told:?}");
    assert_eq!(answers(&host), 0);
    assert_eq!(host.verdict(), Ok(()));
}

/// A device that does what it likes.
#[test]
fn what_it_asks_all_the_same_is_denied() {
    let mut host = host();
    host.nest(ASKS, Guest::entry(0).with_eats(1), Use::Space(0));
    let request = PageRequest::default().with_sid(STREAM.into()).with_addr(VA).with_read(true);
    host.world.machine().model(0).unwrap().page_request(request.with_prg_index(3).with_last(true));
    answers(&host);
    let told = reports(&host);
    let [Report::PageDenied { why: Denied::Unknown, .. }] = told[..] else { panic!("{told:?}") };
    // Whoever waits for something waits for that answer, too.
    host.detach(ASKS);
    assert_eq!(answers(&host), 1);
}
