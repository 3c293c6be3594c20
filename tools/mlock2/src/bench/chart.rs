// SPDX-License-Identifier: GPL-2.0

//! The charts, each as SVG and as PNG: C against Rust.

use std::fs;

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use super::growth::Point;
use super::paper::Figure;
use super::rows::Row;
use super::{Pair, Side};

/// What the package fonts-dejavu-core brings.
pub const FONT: &str = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";
const FAMILY: &str = "sans-serif";

const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(200, 200, 200);
const C: RGBColor = RGBColor(86, 120, 168);
const RUST: RGBColor = RGBColor(214, 104, 32);

fn colour(side: Side) -> RGBColor {
    match side {
        Side::C => C,
        Side::Rust => RUST,
        Side::Fair => FAINT,
    }
}

/// What can be drawn with any backend.
trait Picture {
    /// Width and height in pixels
    fn size(&self) -> (u32, u32);

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Result<()>
    where
        DB::ErrorType: 'static;
}

fn save(pair: &Pair, name: &str, picture: &impl Picture) -> Result<()> {
    let font = fs::read(&pair.font).with_context(|| {
        format!(
            "no font {} for the charts: install fonts-dejavu-core, or give another one with --font",
            pair.font.display()
        )
    })?;
    // Plotters wants a font for ever.
    register_font(FAMILY, FontStyle::Normal, font.leak())
        .map_err(|_| anyhow!("{} is not a TrueType font", pair.font.display()))?;
    let svg = pair.out.join(format!("{name}.svg"));
    let area = SVGBackend::new(&svg, picture.size()).into_drawing_area();
    area.fill(&WHITE)?;
    picture.draw(&area)?;
    area.present()?;
    let png = pair.out.join(format!("{name}.png"));
    let area = BitMapBackend::new(&png, picture.size()).into_drawing_area();
    area.fill(&WHITE)?;
    picture.draw(&area)?;
    area.present()?;
    Ok(())
}

/// Writes text at a place; `across` says which part of the text is there.
fn text<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    what: &str,
    at: (i32, i32),
    size: i32,
    across: HPos,
) -> Result<()>
where
    DB::ErrorType: 'static,
{
    let style = (FAMILY, size)
        .into_text_style(area)
        .color(&INK)
        .pos(Pos::new(across, VPos::Center));
    area.draw_text(what, &style, at)?;
    Ok(())
}

fn bar<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    from: (i32, i32),
    to: (i32, i32),
    side: Side,
) -> Result<()>
where
    DB::ErrorType: 'static,
{
    let corners = [
        (from.0.min(to.0), from.1),
        (from.0.max(to.0).max(from.0.min(to.0) + 1), to.1),
    ];
    area.draw(&Rectangle::new(corners, colour(side).filled()))?;
    Ok(())
}

fn legend<DB: DrawingBackend>(area: &DrawingArea<DB, Shift>, at: (i32, i32)) -> Result<()>
where
    DB::ErrorType: 'static,
{
    for (i, side) in Side::BOTH.into_iter().enumerate() {
        let x = at.0 + 70 * i as i32;
        bar(area, (x, at.1 - 5), (x + 14, at.1 + 5), side)?;
        text(area, side.name(), (x + 20, at.1), 15, HPos::Left)?;
    }
    Ok(())
}

/// A figure with as many digits as say something.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Pairs of bars, one below the other, each pair with a scale of its own.
struct Bars {
    title: String,
    notes: String,
    /// Name, C, Rust, and what stands at the right
    rows: Vec<(String, f64, f64, String)>,
}

impl Bars {
    const WIDTH: i32 = 1100;
    const ROW: i32 = 38;
    const TOP: i32 = 84;
    const ZERO: i32 = 470;
    /// The longest bar to the right of the zero
    const LONGEST: i32 = 400;
    /// The longest one to its left
    const LONGEST_LEFT: i32 = 90;
}

impl Picture for Bars {
    fn size(&self) -> (u32, u32) {
        let height = Self::TOP + Self::ROW * self.rows.len() as i32 + 16;
        (Self::WIDTH as u32, height as u32)
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Result<()>
    where
        DB::ErrorType: 'static,
    {
        text(area, &self.title, (16, 24), 22, HPos::Left)?;
        text(area, &self.notes, (16, 54), 14, HPos::Left)?;
        legend(area, (Self::WIDTH - 150, 24))?;
        text(area, "Rust / C", (Self::WIDTH - 16, 54), 14, HPos::Right)?;
        let bottom = Self::TOP + Self::ROW * self.rows.len() as i32;
        area.draw(&PathElement::new(
            [(Self::ZERO, Self::TOP - 8), (Self::ZERO, bottom)],
            FAINT,
        ))?;
        for (i, (name, c, rust, right)) in self.rows.iter().enumerate() {
            let y = Self::TOP + Self::ROW * i as i32;
            text(area, name, (16, y + 14), 15, HPos::Left)?;
            text(area, right, (Self::WIDTH - 16, y + 14), 15, HPos::Right)?;
            let positive = c.max(*rust).max(0.0);
            let negative = -c.min(*rust).min(0.0);
            let scale = (f64::from(Self::LONGEST) / positive.max(f64::MIN_POSITIVE))
                .min(f64::from(Self::LONGEST_LEFT) / negative.max(f64::MIN_POSITIVE));
            for (side, value, y) in [(Side::C, c, y), (Side::Rust, rust, y + 15)] {
                let end = Self::ZERO + (value * scale).round() as i32;
                bar(area, (Self::ZERO, y), (end, y + 13), side)?;
                let at = (end.max(Self::ZERO) + 6, y + 7);
                text(area, &short(*value), at, 13, HPos::Left)?;
            }
        }
        Ok(())
    }
}

/// What each operation costs: results.svg and results.png.
pub fn rows(pair: &Pair, rows: &[Row]) -> Result<()> {
    let picture = Bars {
        title: format!("{} of the mlock family, C against Rust", capital(pair.ticks())),
        notes: "Shorter is better. Each pair of bars has a scale of its own; an overhead below zero is a gain."
            .to_string(),
        rows: rows
            .iter()
            .map(|row| {
                let name = format!("{} (each {})", row.name, row.unit);
                (name, row.c, row.rust, row.ratio())
            })
            .collect(),
    };
    save(pair, "results", &picture)
}

/// The letter's experiment: paper.svg and paper.png.
pub fn paper(pair: &Pair, figures: &[Figure], scale: f64) -> Result<()> {
    let rows = figures
        .iter()
        .map(|figure| {
            let letter = figure
                .letter
                .map_or(String::new(), |v| format!(" (2015: {})", short(v)));
            let name = format!("{} {}{letter}", figure.experiment, figure.measure);
            let ratio = match figure.c > 0.0 {
                true => format!("{:.3}", figure.rust / figure.c),
                false => "-".to_string(),
            };
            (name, figure.c, figure.rust, ratio)
        })
        .collect();
    let picture = Bars {
        title: "The experiment of 2015, C against Rust".to_string(),
        notes: format!(
            "At {scale} of the size. Milliseconds of 10^6 {}; stream is in MB/s, where longer is better. Each pair has its own scale.",
            pair.ticks()
        ),
        rows,
    };
    save(pair, "paper", &picture)
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}

/// Curves of cost by size, one panel for each operation.
struct Curves<'a> {
    title: String,
    panels: Vec<(&'a str, Vec<&'a Point>)>,
}

impl Curves<'_> {
    const COLUMNS: usize = 3;
    const PANEL: (u32, u32) = (420, 330);
    const TOP: u32 = 50;
}

impl Picture for Curves<'_> {
    fn size(&self) -> (u32, u32) {
        let lines = self.panels.len().div_ceil(Self::COLUMNS) as u32;
        let width = Self::PANEL.0 * Self::COLUMNS as u32;
        (width, Self::TOP + Self::PANEL.1 * lines)
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Result<()>
    where
        DB::ErrorType: 'static,
    {
        text(area, &self.title, (16, 24), 20, HPos::Left)?;
        legend(area, (self.size().0 as i32 - 150, 24))?;
        let (_, below) = area.split_vertically(Self::TOP);
        let lines = self.panels.len().div_ceil(Self::COLUMNS);
        let areas = below.split_evenly((lines, Self::COLUMNS));
        for ((operation, points), area) in self.panels.iter().zip(areas) {
            let each = |p: &Point| [p.c / p.count, p.rust / p.count];
            let costs: Vec<f64> = points.iter().flat_map(|p| each(p)).collect();
            let low = costs.iter().copied().fold(f64::INFINITY, f64::min).max(0.1);
            let high = costs.iter().copied().fold(low, f64::max);
            let first = points.iter().map(|p| p.count).fold(f64::INFINITY, f64::min);
            let last = points.iter().map(|p| p.count).fold(first, f64::max);
            let unit = points.first().map_or("", |p| p.unit.as_str());
            let mut chart = ChartBuilder::on(&area)
                .margin(10)
                .caption(*operation, (FAMILY, 17))
                .x_label_area_size(40)
                .y_label_area_size(66)
                .build_cartesian_2d(
                    (first * 0.7..last * 1.4).log_scale(),
                    (low * 0.7..high * 1.4).log_scale(),
                )?;
            chart
                .configure_mesh()
                .light_line_style(WHITE)
                .bold_line_style(FAINT)
                .x_desc(format!("{unit}s"))
                .y_desc(format!("for each {unit}"))
                .label_style((FAMILY, 12))
                .x_label_formatter(&|v| format!("{v:.0}"))
                .y_label_formatter(&|v| format!("{v:.0}"))
                .x_labels(6)
                .y_labels(12)
                .draw()?;
            for side in Side::BOTH {
                let line: Vec<(f64, f64)> = points
                    .iter()
                    .map(|p| (p.count, each(p)[side as usize].max(0.1)))
                    .collect();
                let style = colour(side).stroke_width(2);
                chart.draw_series(LineSeries::new(line.clone(), style))?;
                let dots = line
                    .into_iter()
                    .map(|at| Circle::new(at, 3, colour(side).filled()));
                chart.draw_series(dots)?;
            }
        }
        Ok(())
    }
}

/// How cost grows: growth.svg and growth.png. `points` are sorted by operation.
pub fn growth(pair: &Pair, points: &[Point]) -> Result<()> {
    let panels = points
        .chunk_by(|a, b| a.operation == b.operation)
        .filter_map(|chunk| Some((chunk.first()?.operation.as_str(), chunk.iter().collect())))
        .collect();
    let picture = Curves {
        title: format!(
            "{} by size, C against Rust (both axes logarithmic; a level curve is a cost that grows with the size)",
            capital(pair.ticks())
        ),
        panels,
    };
    save(pair, "growth", &picture)
}
