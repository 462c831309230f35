use smmuv3_testbench::{run, scenario::Scenario};
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let qemu = std::env::args().nth(2).is_some_and(|m| m == "qemu");
    let seed = std::env::args().nth(3).map(|s| s.parse().unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    let scenario = Scenario::parse(&text, &path).unwrap_or_else(|e| panic!("{e}"));
    let options = run::Options { machine: if qemu { run::Choice::Qemu(None) } else { run::Choice::Model }, seed, ..Default::default() };
    let report = run::run(&scenario, &options, &mut |_| ()).unwrap_or_else(|e| panic!("{e}"));
    for step in &report.steps { println!("{} {} -> {} {:?}", step.number, step.text, step.outcome, step.faults.iter().map(|f| f.event.clone()).collect::<Vec<_>>()); }
    println!("{:?} {:?}\n{:#?}\n{:?}", report.verdict, report.coverage, report.failure, report.commands);
}
