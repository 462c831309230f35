// SPDX-License-Identifier: MIT OR Apache-2.0
//! What threads do at once, as tables in Markdown; with `--out FOLDER` as pictures, too. `--cpus FILE` has what the bare-metal
//! image has measured, by `cargo xtask boot --scaling`.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

use plotters::prelude::*;
use smmuv3_perf::scaling::{
    Arrangement, LATENCIES, Queue, Rate, THREADS, arranged, enhanced, of_a_command, overlapped,
};

/// SMMUs of one domain.
const SMMUS: [usize; 5] = [1, 2, 4, 8, 16];

const SIZE: (u32, u32) = (720, 420);
const TEXT: RGBColor = RGBColor(0x33, 0x33, 0x33);
const FAINT: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
/// Colours that people who see colours differently can tell from each other.
const COLOURS: [RGBColor; 5] = [
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x22, 0x22, 0x22),
];

/// A line of a picture: what it is, and its points.
type Line<'a> = (&'a str, Vec<(f64, f64)>);

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds `--bench`; `--count` is for the other.
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let (folder, cpus) = match words.as_slice() {
        [] => (None, None),
        [out, folder] if out == "--out" => (Some(Path::new(folder)), None),
        [out, folder, cpus, file] if out == "--out" && cpus == "--cpus" => {
            (Some(Path::new(folder)), Some(fs::read_to_string(file)?))
        }
        _ => return Ok(()),
    };
    if let Some(folder) = folder {
        fs::create_dir_all(folder)?;
    }
    let draw = |name: &str, title: &str, axes: [&str; 2], lines: &[Line]| {
        let Some(folder) = folder else { return Ok(()) };
        let svg = picture(title, axes, lines).map_err(|error| error.to_string())?;
        fs::write(folder.join(name), svg).map_err(|error| error.to_string())
    };
    queues(&draw)?;
    enhanced_queues(&draw)?;
    arrangements(&draw)?;
    if let Some(rows) = cpus {
        emulated(&rows, &draw)?;
    }
    overlaps(&draw)?;
    if let Some(folder) = folder {
        // Beside the pictures' folder, where counted figures are.
        let page = fs::read_to_string(folder.join("../performance.md"))?;
        counted(&page, folder)?;
    }
    Ok(())
}

type Draw<'a> = &'a dyn Fn(&str, &str, [&str; 2], &[Line]) -> Result<(), String>;

fn head(first: &str) {
    println!(
        "\n| {first} | threads | thousands a second | fewest / most of a thread | longest, us |"
    );
    println!("|---|---|---|---|---|");
}

fn row(name: &str, threads: usize, Rate { rate, fairness, worst }: Rate) {
    let (rate, worst) = (rate / 1e3, worst / 1e3);
    println!("| {name} | {threads} | {rate:.0} | {fairness:.2} | {worst:.0} |");
}

fn queues(draw: Draw<'_>) -> Result<(), String> {
    println!("\n## One command queue");
    for latency in LATENCIES {
        let us = latency / 1000;
        println!("\nThe SMMU takes {us} us.");
        let title = format!("One command queue, an SMMU that takes {us} us");
        queue(draw, &format!("queue-{us}us.svg"), &title, |threads| {
            Queue::measure(threads, latency)
        })?;
    }
    println!("\n## One command queue, carried out by the model");
    println!("\nThe model takes {:.0} ns for a command, on one thread at 0 us.", of_a_command());
    for latency in LATENCIES {
        let us = latency / 1000;
        println!("\nA CMD_SYNC takes {us} us.");
        let title = format!("One command queue, the model, a CMD_SYNC takes {us} us");
        queue(draw, &format!("model-{us}us.svg"), &title, |threads| {
            Queue::measure_on_model(threads, latency)
        })?;
    }
    Ok(())
}

/// A table, and a picture, of the queues with more and more threads.
fn queue(
    draw: Draw<'_>,
    name: &str,
    title: &str,
    measure: impl Fn(usize) -> [Rate; 3],
) -> Result<(), String> {
    head("queue");
    let mut lines = Queue::ALL.map(|queue| (queue.name(), Vec::new())).to_vec();
    for threads in THREADS {
        for ((name, points), measured) in lines.iter_mut().zip(measure(threads)) {
            row(name, threads, measured);
            points.push((threads as f64, measured.rate / 1e3));
        }
    }
    draw(name, title, ["threads", "TLBI + SYNC, thousands a second"], &lines)
}

/// A queue for each CPU, where the SMMU has enhanced ones.
fn enhanced_queues(draw: Draw<'_>) -> Result<(), String> {
    println!("\n## A command queue for each CPU");
    println!("\nOne queue for all threads, and an enhanced one (ECMDQ) for each.");
    println!(
        "\n| the SMMU takes, us | threads | one queue, thousands a second | one each | ratio | \
         longest of one queue, us | of one each |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut lines = Vec::new();
    for (latency, name) in LATENCIES.into_iter().zip(["at once", "1 us", "10 us"]) {
        let mut points = Vec::new();
        for threads in THREADS {
            let [one, each] = enhanced(threads, latency);
            let ratio = each.rate / one.rate;
            println!(
                "| {} | {threads} | {:.0} | {:.0} | {ratio:.2} | {:.0} | {:.0} |",
                latency / 1000,
                one.rate / 1e3,
                each.rate / 1e3,
                one.worst / 1e3,
                each.worst / 1e3,
            );
            points.push((threads as f64, ratio));
        }
        lines.push((name, points));
    }
    let axes = ["threads", "a queue each / one queue, TLBI + SYNC a second"];
    draw("ecmdq.svg", "The gain of enhanced command queues, by the SMMU's time", axes, &lines)
}

fn arrangements(draw: Draw<'_>) -> Result<(), String> {
    println!("\n## Mapping and unmapping a page");
    println!("\nThe SMMU takes 1 us.");
    head("threads share");
    let mut lines = Arrangement::ALL.map(|it| (it.name(), Vec::new())).to_vec();
    for threads in THREADS {
        for ((name, points), measured) in lines.iter_mut().zip(arranged(threads)) {
            row(name, threads, measured);
            points.push((threads as f64, measured.rate / 1e3));
        }
    }
    // Page tables alone are far above the others.
    lines.retain(|(name, _)| *name != Arrangement::Tables.name());
    let axes = ["threads", "map + unmap, thousands a second"];
    draw("unmap.svg", "Mapping and unmapping a page, an SMMU that takes 1 us", axes, &lines)
}

/// What CPUs of QEMU do at once: lines of a name, `1 CPU` or `2 CPUs`, thousands a second, and that unit.
fn emulated(rows: &str, draw: Draw<'_>) -> Result<(), String> {
    println!("\n## CPUs of an image");
    println!("\nCPUs of QEMU that map and unmap a page each.");
    println!("\n| CPUs share | CPUs | thousands a second |\n|---|---|---|");
    let mut lines: Vec<(&str, Vec<(f64, f64)>)> = Vec::new();
    for row in rows.lines() {
        let wrong = || format!("not a rate: `{row}`");
        let (name, rate) =
            row.trim().trim_end_matches("thousand/s").trim().rsplit_once("  ").ok_or_else(wrong)?;
        let (shared, cpus) = name.trim().rsplit_once(", ").ok_or_else(wrong)?;
        let cpus: f64 = cpus.split(' ').next().and_then(|it| it.parse().ok()).ok_or_else(wrong)?;
        let rate: f64 = rate.trim().parse().map_err(|_| wrong())?;
        match lines.iter_mut().find(|(name, _)| *name == shared) {
            Some((_, points)) => points.push((cpus, rate)),
            None => lines.push((shared, vec![(cpus, rate)])),
        }
    }
    for (shared, points) in &lines {
        for (cpus, rate) in points {
            println!("| {shared} | {cpus} | {rate:.0} |");
        }
    }
    let axes = ["CPUs", "map + unmap, thousands a second"];
    draw("cpus.svg", "Mapping and unmapping a page on CPUs of QEMU", axes, &lines)
}

fn overlaps(draw: Draw<'_>) -> Result<(), String> {
    println!("\n## One domain on several SMMUs");
    println!("\nAn unmap of a page on one thread; each SMMU takes 10 us.");
    println!("\n| SMMUs | all are told first, us | one by one, us | ratio |\n|---|---|---|---|");
    let (mut together, mut one_by_one) = (Vec::new(), Vec::new());
    for smmus in SMMUS {
        let measured = overlapped(smmus, 10_000);
        let [ours, theirs] = [measured.together, measured.one_by_one].map(|time| time / 1e3);
        println!("| {smmus} | {ours:.1} | {theirs:.1} | {:.1} |", theirs / ours);
        together.push((smmus as f64, ours));
        one_by_one.push((smmus as f64, theirs));
    }
    let lines = [("all are told first (this driver)", together), ("one by one", one_by_one)];
    draw("instances.svg", "An unmap on several SMMUs of 10 us", ["SMMUs", "us"], &lines)
}

/// Draws what performance.md has counted, whatever the machine.
fn counted(page: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    let cells = |row: &str| -> Vec<String> {
        row.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let rows: Vec<Vec<String>> = page.lines().map(cells).collect();
    let number = |row: &[String], at: usize| row.get(at)?.parse::<f64>().ok();

    const QUEUES: [&str; 3] = ["tickets", "spin lock", "compare-and-exchange loop"];
    let of_queue = |queue: &str, at| {
        let row = rows
            .iter()
            .find(|row| row[0] == queue && row.get(1).is_some_and(|it| it == "1 + CMD_SYNC"));
        row.and_then(|row| number(row, at)).ok_or_else(|| format!("no count of `{queue}`"))
    };
    let mut groups = Vec::new();
    for (name, at) in [
        ("read-modify-writes", 3),
        ("refused exchanges", 4),
        ("reads of CONS", 7),
        ("turns, masked", 8),
        ("other turns", 9),
    ] {
        let values: Result<Vec<f64>, String> =
            QUEUES.iter().map(|queue| of_queue(queue, at)).collect();
        groups.push((name, values?));
    }
    let title = "Sixteen CPUs on one command queue, counted for each command";
    let series = ["tickets (this driver)", "spin lock", "compare-and-exchange loop"];
    fs::write(folder.join("contention.svg"), bars(title, &series, &groups)?)?;

    let mut groups = Vec::new();
    for (name, row) in [
        ("map a page", "map 1 page, tables exist"),
        ("unmap a page", "unmap 1 page"),
        ("look up", "look up a random address"),
        ("map a block", "map one 2 MiB block"),
        ("TLBI + SYNC", "command queue: 1 TLBI + SYNC"),
    ] {
        let found =
            rows.iter().find(|cells| cells[0] == row).ok_or_else(|| format!("no `{row}`"))?;
        let [ours, linux] =
            [1, 2].map(|at| number(found, at).ok_or_else(|| format!("`{row}`: no number")));
        // Nobody wrote the least for all of them.
        groups.push((name, vec![ours?, linux?, number(found, 3).unwrap_or(0.0)]));
    }
    let series = ["this driver", "Linux 7.3's own functions", "a loop by hand"];
    fs::write(folder.join("instructions.svg"), bars("Instructions, x86-64", &series, &groups)?)?;
    Ok(())
}

/// Bars, in groups with a name: in each a bar for each of `series`.
fn bars(
    title: &str,
    series: &[&str],
    groups: &[(&str, Vec<f64>)],
) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let top = groups.iter().flat_map(|(_, values)| values).copied().fold(0.0, f64::max);
        let font = |size: u32| ("system-ui, sans-serif", size).into_font().color(&TEXT);
        let mut chart = ChartBuilder::on(&area)
            .margin(16)
            .caption(title, font(18))
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..groups.len() as f64, 0.0..top * 1.35)?;
        let name = |at: &f64| {
            let group = groups.get(*at as usize).filter(|_| (at.fract() - 0.5).abs() < 0.01);
            group.map_or_else(String::new, |(name, _)| (*name).to_owned())
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .axis_style(TEXT)
            .x_labels(2 * groups.len() + 1)
            .x_label_formatter(&name)
            .label_style(font(13))
            .draw()?;
        let width = 0.8 / series.len() as f64;
        for (index, (name, colour)) in series.iter().zip(COLOURS).enumerate() {
            let bar = |(group, (_, values)): (usize, &(&str, Vec<f64>))| {
                let left = group as f64 + 0.1 + index as f64 * width;
                let value = values.get(index).copied().unwrap_or(0.0);
                Rectangle::new([(left, 0.0), (left + 0.9 * width, value)], colour.filled())
            };
            let all = chart.draw_series(groups.iter().enumerate().map(bar))?;
            all.label(*name).legend(move |(x, y)| {
                Rectangle::new([(x + 8, y - 6), (x + 22, y + 6)], colour.filled())
            });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .margin(12)
            .legend_area_size(36)
            .background_style(WHITE)
            .border_style(FAINT)
            .label_font(font(13))
            .draw()?;
        area.present()?;
    }
    Ok(svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{title}\" "), 1))
}

fn picture(title: &str, axes: [&str; 2], lines: &[Line]) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let points = || lines.iter().flat_map(|(_, points)| points);
        let right = points().map(|point| point.0).fold(1.0, f64::max);
        let top = points().map(|point| point.1).fold(0.0, f64::max);
        let font = |size: u32| ("system-ui, sans-serif", size).into_font().color(&TEXT);
        let mut chart = ChartBuilder::on(&area)
            .margin(16)
            .caption(title, font(18))
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d((0.9..right * 1.1).log_scale().base(2.0), 0.0..top * 1.35)?;
        let figure = |value: &f64| format!("{value:.0}");
        let decimals = usize::from(top < 10.0);
        let upright = |value: &f64| format!("{value:.decimals$}");
        chart
            .configure_mesh()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .axis_style(TEXT)
            .x_desc(axes[0])
            .y_desc(axes[1])
            .axis_desc_style(font(14))
            .label_style(font(13))
            .x_label_formatter(&figure)
            .y_label_formatter(&upright)
            .draw()?;
        for ((name, points), colour) in lines.iter().zip(COLOURS) {
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(3));
            chart.draw_series(line)?.label(*name).legend(move |(x, y)| {
                PathElement::new([(x, y), (x + 28, y)], colour.stroke_width(3))
            });
            let dots = points.iter().map(|point| Circle::new(*point, 4, colour.filled()));
            chart.draw_series(dots)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .margin(12)
            .legend_area_size(36)
            .background_style(WHITE)
            .border_style(FAINT)
            .label_font(font(13))
            .draw()?;
        area.present()?;
    }
    // What it is, for those who do not see it.
    Ok(svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{title}\" "), 1))
}
