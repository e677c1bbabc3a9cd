//! Plots, described apart from how they are drawn: as SVG, as PNG, or in a terminal.

mod axis;
mod draw;
mod font;
mod peaks;
mod png;
mod predicted;
mod residuals;
mod svg;
mod thin;
mod timeline;

use super::model::TaskReport;

pub use axis::Axis;
pub use png::png;
pub use svg::{svg, svg_file};

/// A picture of some of the numbers of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// A word for it, for the name of a file and as an anchor.
    pub name: &'static str,
    /// What stands above it.
    pub title: String,
    /// What it shows, for somebody who cannot see it.
    pub description: String,
    /// What was left out of it, where something was.
    pub thinned: Option<String>,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// What is drawn, from back to front.
    pub layers: Vec<Layer>,
}

/// Something drawn, in the units of the axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// What it is, for the legend; nothing for what belongs to another layer.
    pub name: Option<String>,
    /// Its colour.
    pub ink: Ink,
    /// Its shape.
    pub shape: Shape,
}

/// A place in a plot.
pub type Place = (f64, f64);

/// What a layer looks like.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Between two lines, each from left to right.
    Area {
        /// The upper line.
        upper: Vec<Place>,
        /// The lower line.
        lower: Vec<Place>,
        /// From 0, nothing to see, to 1.
        opacity: f64,
    },
    /// From point to point.
    Line {
        /// The points.
        points: Vec<Place>,
        /// Whether it is broken.
        dashed: bool,
    },
    /// A mark for each point.
    Marks {
        /// The points.
        points: Vec<Place>,
        /// What each looks like.
        mark: Mark,
    },
}

/// What a point looks like: told apart without colour.
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

/// A colour, by what it stands for; each has one for light and one for dark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// The background.
    Paper,
    /// Titles.
    Text,
    /// What should not be looked at first.
    Muted,
    /// Lines of the grid.
    Grid,
    /// Peaks as they were measured.
    Observed,
    /// The rule that the task declares.
    InUse,
    /// The rule that the runs call for.
    Fitted,
    /// Peaks that are not the need.
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
    /// Every one of them.
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

/// Style rules that exchange the colours of plots for their dark ones; to stand in a query for dark schemes.
pub fn dark_style() -> String {
    let rules = Ink::ALL.map(|ink| {
        let (light, dark) = (hex(ink.light()), hex(ink.dark()));
        format!("svg [fill=\"{light}\"]{{fill:{dark}}}svg [stroke=\"{light}\"]{{stroke:{dark}}}")
    });
    rules.concat()
}

/// How large a plot is drawn, in pixels of a usual screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// From left to right.
    pub width: u32,
    /// From top to bottom.
    pub height: u32,
    /// The height of letters.
    pub letters: u32,
}

impl Size {
    /// For a file of its own.
    pub const FILE: Self = Self { width: 760, height: 420, letters: 13 };
    /// For a column of a page on a desk.
    pub const COLUMN: Self = Self { width: 590, height: 360, letters: 13 };
    /// For a telephone.
    pub const NARROW: Self = Self { width: 340, height: 380, letters: 12 };
}

/// The plots that the runs of a task have something to show in.
pub fn plots(report: &TaskReport) -> Vec<Plot> {
    let mut plots = [peaks::plot(report), predicted::plot(report), residuals::plot(report)];
    if let Some(all) = report.all_runs {
        for plot in plots.iter_mut().flatten() {
            let thinned = plot.thinned.take().map(|thinned| format!(" {thinned}")).unwrap_or_default();
            plot.thinned = Some(format!("Of {all} runs the one with the highest peak of each case.{thinned}"));
        }
    }
    plots.into_iter().chain([timeline::plot(report)]).flatten().collect()
}
