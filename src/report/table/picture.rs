//! A plot as text.

use crate::model::layout::wrapped;
use crate::report::plot::{Ink, Mark, Plot, Shape};

/// The number of lines of the plot.
const HEIGHT: usize = 14;

/// Draws lines and marks with letters, with a legend below.
pub(super) fn picture(plot: &Plot, width: usize) -> String {
    let labels: Vec<String> = (0..HEIGHT).map(|line| label(plot, line)).collect();
    let margin = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let columns = width.saturating_sub(margin + 2).clamp(20, 100);
    let mut cells = vec![vec![' '; columns]; HEIGHT];
    let mut legend = Vec::new();
    for layer in &plot.layers {
        let (letter, points) = match &layer.shape {
            Shape::Area { .. } => continue,
            Shape::Line { points, .. } => (line_letter(layer.ink), sampled(points, plot, columns)),
            Shape::Marks { points, mark } => (mark_letter(*mark), points.clone()),
        };
        legend.extend(layer.name.as_ref().map(|name| format!("{letter} {name}")));
        for (x, y) in points {
            let column = (plot.x.along(x).clamp(0.0, 1.0) * (columns - 1) as f64).round() as usize;
            let line = ((1.0 - plot.y.along(y).clamp(0.0, 1.0)) * (HEIGHT - 1) as f64).round() as usize;
            if let Some(cell) = cells.get_mut(line).and_then(|line| line.get_mut(column)) {
                *cell = letter;
            }
        }
    }
    let mut text = format!("{}\n", plot.y.title);
    for (label, line) in labels.iter().zip(cells) {
        let line: String = line.into_iter().collect();
        text.push_str(format!("{label:>margin$} │{line}").trim_end());
        text.push('\n');
    }
    let (from, to) = (ends(plot).0, ends(plot).1);
    let between = columns.saturating_sub(from.chars().count() + to.chars().count());
    text.push_str(&format!("{:>margin$} └{}\n", "", "─".repeat(columns)));
    text.push_str(&format!("{:>margin$}  {from}{}{to}\n", "", " ".repeat(between)));
    text.push_str(&format!("{:>margin$}  {}\n", "", plot.x.title));
    // Each entry stays whole.
    let legend: Vec<String> = legend.iter().map(|entry| entry.replace(' ', "\u{a0}")).collect();
    let indent = " ".repeat(margin + 2);
    text.push_str(&wrapped(&legend.join("   "), &indent, &indent, width).replace('\u{a0}', " "));
    text
}

fn ends(plot: &Plot) -> (String, String) {
    let tick = |tick: Option<&(f64, String)>| tick.map(|(_, label)| label.clone()).unwrap_or_default();
    (tick(plot.x.ticks.first()), tick(plot.x.ticks.last()))
}

/// The label of a line, if it has one.
fn label(plot: &Plot, line: usize) -> String {
    let at = |value: f64| ((1.0 - plot.y.along(value)) * (HEIGHT - 1) as f64).round() as usize;
    plot.y.ticks.iter().find(|(value, _)| at(*value) == line).map(|(_, label)| label.clone()).unwrap_or_default()
}

/// A line as one point per column.
fn sampled(points: &[(f64, f64)], plot: &Plot, columns: usize) -> Vec<(f64, f64)> {
    let mut sampled = Vec::new();
    for pair in points.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let length = (plot.x.along(to.0) - plot.x.along(from.0)).abs() * columns as f64;
        let steps = length.ceil().clamp(1.0, 500.0) as u32;
        sampled.extend((0..=steps).map(|step| {
            let along = f64::from(step) / f64::from(steps);
            (from.0 + (to.0 - from.0) * along, from.1 + (to.1 - from.1) * along)
        }));
    }
    sampled
}

const fn mark_letter(mark: Mark) -> char {
    match mark {
        Mark::Circle => 'o',
        Mark::Ring => '°',
        Mark::Triangle => '^',
        Mark::Diamond => '<',
        Mark::Cross => 'x',
    }
}

const fn line_letter(ink: Ink) -> char {
    match ink {
        Ink::InUse => '-',
        Ink::Fitted => '·',
        Ink::Paper
        | Ink::Text
        | Ink::Muted
        | Ink::Grid
        | Ink::Observed
        | Ink::Censored
        | Ink::Limit
        | Ink::Anon
        | Ink::Shmem
        | Ink::Kernel
        | Ink::File => '.',
    }
}
