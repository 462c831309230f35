// SPDX-License-Identifier: MIT OR Apache-2.0
//! A comparison of ASID policies as a picture: domains attached against domains asked for, as SVG.
//!
//! Lines that coincide are told apart by their widths, which lie within each other, and by marks that take turns.

use plotters::coord::Shift;
use plotters::prelude::*;
use smmuv3_testbench::lab::{AsidPolicy, LabReport, PolicyReport};

use crate::report::{instances, number};

const SIZE: (u32, u32) = (860, 560);
/// Pixels of the lines: those of later policies lie within those of earlier ones.
const WIDTHS: [u32; 6] = [14, 10, 10, 6, 3, 2];
/// Points between the marks of a line.
const MARKS: usize = 6;

const TEXT: RGBColor = RGBColor(0x33, 0x33, 0x33);
const FAINT: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);

/// Colours that people who see colours differently can tell from each other, lighter ones first: they are below.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xf0, 0xc7, 0x5e),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x22, 0x22, 0x22),
];

/// How a policy is drawn.
#[derive(Clone, Copy)]
struct Look {
    colour: RGBColor,
    width: u32,
    /// Which of the marks.
    mark: usize,
}

impl Look {
    /// That of a policy is the same whichever others are drawn.
    fn of(policy: &PolicyReport) -> Self {
        let names = AsidPolicy::ALL.map(AsidPolicy::name);
        let mark = names.iter().position(|name| *name == policy.policy).unwrap_or(0);
        // Six of each; a further policy would be like the last.
        let (colour, width) = (COLOURS[mark.min(5)], WIDTHS[mark.min(5)]);
        Self { colour, width, mark }
    }

    fn line(self) -> ShapeStyle {
        self.colour.stroke_width(self.width)
    }
}

/// Draws `report`.
///
/// # Errors
/// What the drawing library says.
pub fn draw(report: &LabReport) -> Result<String, String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        chart(report, &area).map_err(|error| error.to_string())?;
        area.present().map_err(|error| error.to_string())?;
    }
    // What it is, for those who do not see it.
    let label = format!("<svg role=\"img\" aria-label=\"{}\" ", title(report));
    Ok(svg.replacen("<svg ", &label, 1))
}

fn title(report: &LabReport) -> String {
    let bits: Vec<u32> = report.instances.iter().map(|instance| instance.asid_bits).collect();
    format!("Domains attached on {}", instances(&bits))
}

type Error = DrawingAreaErrorKind<std::io::Error>;

fn chart(report: &LabReport, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Error> {
    // Its own background, as other pictures have it: it is read on dark pages, too.
    area.fill(&WHITE)?;
    let first = report.policies.first().and_then(|policy| policy.steps.first());
    let first = first.map_or(1, |[asked, _]| *asked) as f64;
    let last = report.domains as f64;
    let lowest = report.policies.iter().flat_map(|policy| &policy.steps);
    let lowest = lowest.map(|[_, attached]| (*attached).max(1)).min().unwrap_or(1) as f64;
    // A range must not be empty, and the marks at its ends have some room.
    let (across, up) = (first..(1.15 * last).max(first + 1.0), lowest..(1.3 * last).max(2.0));
    let font = |size: u32| ("system-ui, sans-serif", size).into_font().color(&TEXT);
    let mut chart = ChartBuilder::on(area)
        .margin(18)
        .caption(title(report), ("system-ui, sans-serif", 19).into_font().color(&TEXT))
        .x_label_area_size(48)
        .y_label_area_size(74)
        .build_cartesian_2d(across.log_scale(), up.log_scale())?;
    let figure = |value: &f64| number(value.round() as u64);
    chart
        .configure_mesh()
        .bold_line_style(FAINT)
        // Lines between those would be many: there are none.
        .light_line_style(TRANSPARENT)
        .axis_style(TEXT)
        .x_desc("domains asked for (logarithmic)")
        .y_desc("domains attached wherever they are to be used (logarithmic)")
        .axis_desc_style(font(14))
        .label_style(font(13))
        .x_label_formatter(&figure)
        .y_label_formatter(&figure)
        .draw()?;
    for policy in &report.policies {
        let look = Look::of(policy);
        let points: Vec<(f64, f64)> = policy
            .steps
            .iter()
            // Nothing has no place on this axis.
            .filter(|[_, attached]| *attached != 0)
            .map(|[asked, attached]| (*asked as f64, *attached as f64))
            .collect();
        // Above each other where lines coincide.
        let marked =
            points.iter().copied().skip(look.mark).step_by(MARKS).chain(points.last().copied());
        let marks: Vec<(f64, f64)> = marked.collect();
        chart.draw_series(LineSeries::new(points, look.line()))?.label(policy.policy).legend(
            move |(x, y)| {
                let line = PathElement::new([(x, y), (x + 34, y)], look.line());
                EmptyElement::at((0, 0)) + line + mark(look, (x + 17, y))
            },
        );
        chart.draw_series(
            marks.into_iter().map(|point| EmptyElement::at(point) + mark(look, (0, 0))),
        )?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .margin(14)
        .legend_area_size(42)
        .background_style(WHITE)
        .border_style(FAINT)
        .label_font(font(14))
        .draw()
}

/// A mark of its own shape: another for each policy.
fn mark(look: Look, (x, y): (i32, i32)) -> Polygon<(i32, i32)> {
    const SHAPES: [&[(i32, i32)]; 6] = [
        &[(-7, -7), (7, -7), (7, 7), (-7, 7)],
        &[(0, -9), (9, 0), (0, 9), (-9, 0)],
        &[(0, -9), (8, 6), (-8, 6)],
        &[(0, 9), (8, -6), (-8, -6)],
        &[(-6, -3), (-3, -6), (3, -6), (6, -3), (6, 3), (3, 6), (-3, 6), (-6, 3)],
        &[(-4, -4), (4, -4), (4, 4), (-4, 4)],
    ];
    let shape = SHAPES[look.mark.min(5)];
    let points: Vec<(i32, i32)> = shape.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
    Polygon::new(points, look.colour.filled())
}
