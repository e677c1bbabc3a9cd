//! Plots, described independently of their rendering as SVG, PNG or text.

mod axis;
#[cfg(feature = "plots")]
mod draw;
#[cfg(feature = "plots")]
mod font;
mod peaks;
#[cfg(feature = "plots")]
mod png;
mod predicted;
mod residuals;
#[cfg(feature = "plots")]
mod svg;
mod thin;
mod timeline;

use super::model::TaskReport;

pub use axis::Axis;
#[cfg(feature = "plots")]
pub use png::png;
#[cfg(feature = "plots")]
pub use svg::{svg, svg_file};

/// A plot of some numbers of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// A short name, for file names and anchors.
    pub name: &'static str,
    /// The title.
    pub title: String,
    /// A description for readers who cannot see it.
    pub description: String,
    /// A note on thinned data, if any.
    pub thinned: Option<String>,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The layers, from back to front.
    pub layers: Vec<Layer>,
}

/// A layer of a plot, in the units of the axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// The name in the legend; `None` if the layer belongs to another.
    pub name: Option<String>,
    /// Its colour.
    pub ink: Ink,
    /// Its shape.
    pub shape: Shape,
}

/// A point in a plot.
pub type Place = (f64, f64);

/// The shape of a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// The area between two lines, each from left to right.
    Area {
        /// The upper line.
        upper: Vec<Place>,
        /// The lower line.
        lower: Vec<Place>,
        /// The opacity, from 0 to 1.
        opacity: f64,
    },
    /// A line through points.
    Line {
        /// The points.
        points: Vec<Place>,
        /// Whether the line is dashed.
        dashed: bool,
    },
    /// A mark for each point.
    Marks {
        /// The points.
        points: Vec<Place>,
        /// The shape of each mark.
        mark: Mark,
    },
}

/// The shape of a mark, distinguishable without colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A filled circle.
    Circle,
    /// An open circle.
    Ring,
    /// A filled triangle that points up.
    Triangle,
    /// An open diamond.
    Diamond,
    /// An oblique cross.
    Cross,
}

/// A colour by meaning, with a light and a dark variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// The background.
    Paper,
    /// Titles.
    Text,
    /// Secondary text and marks.
    Muted,
    /// Lines of the grid.
    Grid,
    /// Peaks as they were measured.
    Observed,
    /// The rule that the task declares.
    InUse,
    /// The rule fitted to the runs.
    Fitted,
    /// Peaks that do not show the need.
    Censored,
    /// Limits.
    Limit,
    /// Anonymous memory.
    Anon,
    /// Shared memory.
    Shmem,
    /// Kernel memory.
    Kernel,
    /// Page cache.
    File,
}

impl Ink {
    /// All inks.
    pub const ALL: [Self; 13] = [
        Self::Paper,
        Self::Text,
        Self::Muted,
        Self::Grid,
        Self::Observed,
        Self::InUse,
        Self::Fitted,
        Self::Censored,
        Self::Limit,
        Self::Anon,
        Self::Shmem,
        Self::Kernel,
        Self::File,
    ];

    /// Red, green and blue on a light background; no two inks have the same.
    pub const fn light(self) -> [u8; 3] {
        match self {
            Self::Paper => [0xFF, 0xFF, 0xFF],
            Self::Text => [0x1F, 0x29, 0x33],
            Self::Muted => [0x5B, 0x66, 0x73],
            Self::Grid => [0xE3, 0xE7, 0xEC],
            Self::Observed => [0x0B, 0x62, 0xA4],
            Self::InUse => [0xC2, 0x50, 0x0A],
            Self::Fitted => [0x00, 0x7A, 0x5A],
            Self::Censored => [0x8A, 0x2D, 0x8A],
            Self::Limit => [0xB4, 0x23, 0x18],
            Self::Anon => [0x2F, 0x6F, 0xB3],
            Self::Shmem => [0xE3, 0xA0, 0x08],
            Self::Kernel => [0x6B, 0x72, 0x80],
            Self::File => [0xA9, 0xCB, 0xE8],
        }
    }

    /// Red, green and blue on a dark background.
    pub const fn dark(self) -> [u8; 3] {
        match self {
            Self::Paper => [0x14, 0x17, 0x1C],
            Self::Text => [0xE6, 0xE9, 0xEE],
            Self::Muted => [0xA3, 0xAD, 0xB9],
            Self::Grid => [0x2E, 0x35, 0x3E],
            Self::Observed => [0x6C, 0xB6, 0xF5],
            Self::InUse => [0xF5, 0x9A, 0x57],
            Self::Fitted => [0x45, 0xCF, 0xA2],
            Self::Censored => [0xE0, 0x8B, 0xE0],
            Self::Limit => [0xFF, 0x8A, 0x7A],
            Self::Anon => [0x4F, 0x93, 0xDB],
            Self::Shmem => [0xD9, 0x9A, 0x0B],
            Self::Kernel => [0x8A, 0x93, 0xA0],
            Self::File => [0x2F, 0x55, 0x76],
        }
    }
}

/// `#1F2933`.
fn hex(colour: [u8; 3]) -> String {
    let [red, green, blue] = colour;
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// Style rules that replace the light colours of plots by dark ones, for a media query.
pub fn dark_style() -> String {
    let rules = Ink::ALL.map(|ink| {
        let (light, dark) = (hex(ink.light()), hex(ink.dark()));
        format!("svg [fill=\"{light}\"]{{fill:{dark}}}svg [stroke=\"{light}\"]{{stroke:{dark}}}")
    });
    rules.concat()
}

/// The size of a plot, in CSS pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// The width.
    pub width: u32,
    /// The height.
    pub height: u32,
    /// The font size.
    pub letters: u32,
}

impl Size {
    /// For a file.
    pub const FILE: Self = Self { width: 760, height: 420, letters: 13 };
    /// For a page on a desktop.
    pub const COLUMN: Self = Self { width: 590, height: 360, letters: 13 };
    /// For a phone, and for paper.
    pub const NARROW: Self = Self { width: 340, height: 330, letters: 12 };
}

/// The plots for which a task has data.
pub fn plots(report: &TaskReport) -> Vec<Plot> {
    let mut plots = [peaks::plot(report), predicted::plot(report), residuals::plot(report)];
    if let Some(all) = report.all_runs {
        for plot in plots.iter_mut().flatten() {
            let thinned = plot.thinned.take().map(|thinned| format!(" {thinned}")).unwrap_or_default();
            plot.thinned = Some(format!("Of {all} runs, only the one with the highest peak of each case.{thinned}"));
        }
    }
    plots.into_iter().chain([timeline::plot(report)]).flatten().collect()
}
