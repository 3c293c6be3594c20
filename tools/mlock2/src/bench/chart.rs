// SPDX-License-Identifier: GPL-2.0

//! Charts of a few series side by side, each as SVG and as PNG.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

/// What the package fonts-dejavu-core brings.
pub const FONT: &str = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";
const FAMILY: &str = "sans-serif";

const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(200, 200, 200);
/// Nothing below that can be drawn on a logarithmic axis.
const LEAST: f64 = 0.1;
/// Those of the series, in their order.
const COLOURS: [RGBColor; 2] = [RGBColor(86, 120, 168), RGBColor(214, 104, 32)];

fn colour(series: usize) -> RGBColor {
    COLOURS.get(series).copied().unwrap_or(FAINT)
}

/// What can be drawn with any backend.
pub trait Picture {
    /// Width and height in pixels
    fn size(&self) -> (u32, u32);

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Result<()>
    where
        DB::ErrorType: 'static;
}

/// Writes `file`.svg and `file`.png.
pub fn save(file: &Path, font: &Path, picture: &impl Picture) -> Result<()> {
    let bytes = fs::read(font).with_context(|| {
        format!(
            "no font {} for the charts: install fonts-dejavu-core, or give another one with --font",
            font.display()
        )
    })?;
    // Plotters wants a font for ever.
    register_font(FAMILY, FontStyle::Normal, bytes.leak())
        .map_err(|_| anyhow!("{} is not a TrueType font", font.display()))?;
    let svg = file.with_extension("svg");
    let area = SVGBackend::new(&svg, picture.size()).into_drawing_area();
    area.fill(&WHITE)?;
    picture.draw(&area)?;
    area.present()?;
    let png = file.with_extension("png");
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
    series: usize,
) -> Result<()>
where
    DB::ErrorType: 'static,
{
    let corners = [
        (from.0.min(to.0), from.1),
        (from.0.max(to.0).max(from.0.min(to.0) + 1), to.1),
    ];
    area.draw(&Rectangle::new(corners, colour(series).filled()))?;
    Ok(())
}

fn legend<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    at: (i32, i32),
    series: &[&str],
) -> Result<()>
where
    DB::ErrorType: 'static,
{
    for (i, name) in series.iter().enumerate() {
        let x = at.0 + 70 * i as i32;
        bar(area, (x, at.1 - 5), (x + 14, at.1 + 5), i)?;
        text(area, name, (x + 20, at.1), 15, HPos::Left)?;
    }
    Ok(())
}

/// A figure with as many digits as say something.
pub fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A bar of each series.
pub struct Group {
    pub name: String,
    /// One for each series
    pub values: [f64; 2],
    /// What stands at the right
    pub right: String,
}

/// Groups of bars, one below the other, each with a scale of its own.
pub struct Bars<'a> {
    pub title: String,
    pub notes: String,
    pub series: [&'a str; 2],
    /// The head of what stands at the right
    pub right: &'a str,
    pub groups: Vec<Group>,
}

impl Bars<'_> {
    const WIDTH: i32 = 1100;
    const ROW: i32 = 38;
    const TOP: i32 = 84;
    const ZERO: i32 = 470;
    /// The longest bar to the right of the zero
    const LONGEST: i32 = 400;
    /// The longest one to its left
    const LONGEST_LEFT: i32 = 90;
}

impl Picture for Bars<'_> {
    fn size(&self) -> (u32, u32) {
        let height = Self::TOP + Self::ROW * self.groups.len() as i32 + 16;
        (Self::WIDTH as u32, height as u32)
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Result<()>
    where
        DB::ErrorType: 'static,
    {
        text(area, &self.title, (16, 24), 22, HPos::Left)?;
        text(area, &self.notes, (16, 54), 14, HPos::Left)?;
        legend(area, (Self::WIDTH - 150, 24), &self.series)?;
        text(area, self.right, (Self::WIDTH - 16, 54), 14, HPos::Right)?;
        let bottom = Self::TOP + Self::ROW * self.groups.len() as i32;
        area.draw(&PathElement::new(
            [(Self::ZERO, Self::TOP - 8), (Self::ZERO, bottom)],
            FAINT,
        ))?;
        for (i, group) in self.groups.iter().enumerate() {
            let y = Self::TOP + Self::ROW * i as i32;
            text(area, &group.name, (16, y + 14), 15, HPos::Left)?;
            text(
                area,
                &group.right,
                (Self::WIDTH - 16, y + 14),
                15,
                HPos::Right,
            )?;
            let positive = group.values.iter().copied().fold(0.0, f64::max);
            let negative = -group.values.iter().copied().fold(0.0, f64::min);
            let scale = (f64::from(Self::LONGEST) / positive.max(f64::MIN_POSITIVE))
                .min(f64::from(Self::LONGEST_LEFT) / negative.max(f64::MIN_POSITIVE));
            for (series, value) in group.values.iter().enumerate() {
                let y = y + 15 * series as i32;
                let end = Self::ZERO + (value * scale).round() as i32;
                bar(area, (Self::ZERO, y), (end, y + 13), series)?;
                let at = (end.max(Self::ZERO) + 6, y + 7);
                text(area, &short(*value), at, 13, HPos::Left)?;
            }
        }
        Ok(())
    }
}

/// A line of each series.
pub struct Panel<'a> {
    pub title: &'a str,
    pub across: String,
    pub up: String,
    /// For each series its points
    pub lines: [Vec<(f64, f64)>; 2],
}

/// Panels of curves; both axes are logarithmic.
pub struct Curves<'a> {
    pub title: String,
    pub series: [&'a str; 2],
    pub panels: Vec<Panel<'a>>,
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
        legend(area, (self.size().0 as i32 - 150, 24), &self.series)?;
        let (_, below) = area.split_vertically(Self::TOP);
        let lines = self.panels.len().div_ceil(Self::COLUMNS);
        let areas = below.split_evenly((lines, Self::COLUMNS));
        for (panel, area) in self.panels.iter().zip(areas) {
            let points = || panel.lines.iter().flatten();
            let low = points().map(|p| p.1).fold(f64::INFINITY, f64::min);
            let low = low.max(LEAST);
            let high = points().map(|p| p.1).fold(low, f64::max);
            let first = points().map(|p| p.0).fold(f64::INFINITY, f64::min);
            let last = points().map(|p| p.0).fold(first, f64::max);
            let mut chart = ChartBuilder::on(&area)
                .margin(10)
                .caption(panel.title, (FAMILY, 17))
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
                .x_desc(&panel.across)
                .y_desc(&panel.up)
                .label_style((FAMILY, 12))
                .x_label_formatter(&|v| format!("{v:.0}"))
                .y_label_formatter(&|v| format!("{v:.0}"))
                .x_labels(6)
                .y_labels(12)
                .draw()?;
            for (series, line) in panel.lines.iter().enumerate() {
                let line = line.iter().map(|&(x, y)| (x, y.max(LEAST)));
                let style = colour(series).stroke_width(2);
                chart.draw_series(LineSeries::new(line.clone(), style))?;
                chart.draw_series(line.map(|at| Circle::new(at, 3, colour(series).filled())))?;
            }
        }
        Ok(())
    }
}
