//! Draws plots with plotters, on any backend.

use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, RGBAColor, RGBColor, ShapeStyle, TextStyle};
use plotters_backend::{BackendCoord, DrawingBackend, DrawingErrorKind};

use crate::model::escape::{printable, without_commands};

use super::{Axis, Ink, Layer, Mark, Place, Plot, Shape, Size, font};

/// The result of drawing.
pub(super) type Drawn<DB> = Result<(), DrawingErrorKind<<DB as DrawingBackend>::ErrorType>>;

/// The outer margin.
const MARGIN: f64 = 6.0;
/// The radius of a mark.
const RADIUS: f64 = 3.6;
/// The thickness of lines.
const THICK: f64 = 2.0;
/// The length of a dash and of the gap after it.
const DASH: f64 = 6.0;
/// The space between entries of the legend.
const GAP: f64 = 16.0;
/// The width of the swatch before a name in the legend.
const SWATCH: f64 = 22.0;

/// The properties of a backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surface {
    /// Its units per CSS pixel.
    pub(super) scale: f64,
    /// By how much it draws vertically centred text too high, in font sizes.
    pub(super) too_high: f64,
    /// How much wider than measured its text may be: the viewer of an SVG may lack the font.
    pub(super) widening: f64,
    /// Whether the title is drawn above the plot.
    pub(super) titled: bool,
}

/// Draws a plot.
pub(super) fn draw<DB: DrawingBackend>(plot: &Plot, size: Size, surface: Surface, on: &mut DB) -> Drawn<DB> {
    let letters = f64::from(size.letters);
    let Surface { scale, too_high, widening, titled } = surface;
    let mut canvas = Canvas { on, scale, letters, lower: too_high * letters, widening };
    let (width, height) = (f64::from(size.width), f64::from(size.height));
    let (corner, paper) = (canvas.to_unit((width, height)), canvas.style(Ink::Paper, 1.0, 1.0));
    canvas.on.draw_rect((0, 0), corner, &paper, true)?;
    let line = canvas.line_height();
    let mut top = MARGIN;
    if titled {
        let title = fitted(&mut canvas, &plot.title, width - 2.0 * MARGIN)?;
        canvas.text(&title, (MARGIN, top + line / 2.0), Ink::Text, HPos::Left)?;
        top += 1.3 * line;
    }
    top = legend(&mut canvas, plot, width, top)?;
    canvas.text(&plot.y.title, (MARGIN, top + line / 2.0), Ink::Muted, HPos::Left)?;
    top += 1.7 * line;
    let frame = Frame {
        left: MARGIN + widest(&mut canvas, &plot.y)? + 8.0,
        right: width - MARGIN - widest(&mut canvas, &plot.x)? / 2.0,
        top,
        bottom: height - MARGIN - 2.6 * line,
    };
    axes(&mut canvas, plot, &frame)?;
    for layer in &plot.layers {
        canvas.layer(layer, |(x, y)| frame.place(plot, x, y))?;
    }
    canvas.on.present()
}

/// The area for the data.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Frame {
    fn place(&self, plot: &Plot, x: f64, y: f64) -> Place {
        let along = |axis: &Axis, value| axis.along(value).clamp(0.0, 1.0);
        let x = self.left + along(&plot.x, x) * (self.right - self.left);
        let y = self.bottom - along(&plot.y, y) * (self.bottom - self.top);
        (x, y)
    }
}

/// The maximum length of a text, in characters.
const MOST_LETTERS: usize = 400;

/// The part of a text that fits.
fn fitted<DB: DrawingBackend>(
    canvas: &mut Canvas<'_, DB>,
    text: &str,
    width: f64,
) -> Result<String, DrawingErrorKind<DB::ErrorType>> {
    // No plot has room for more, and each step measures the whole text.
    let mut text: String = text.chars().take(MOST_LETTERS).collect();
    while canvas.width(&text)? > width && text.chars().count() > 2 {
        text.pop();
        text.pop();
        text.push('…');
    }
    Ok(text)
}

fn widest<DB: DrawingBackend>(
    canvas: &mut Canvas<'_, DB>,
    axis: &Axis,
) -> Result<f64, DrawingErrorKind<DB::ErrorType>> {
    let mut widest = 0.0_f64;
    for (_, label) in &axis.ticks {
        widest = widest.max(canvas.width(label)?);
    }
    Ok(widest)
}

/// Draws the legend, on as many lines as it needs. Returns where it ends.
fn legend<DB: DrawingBackend>(
    canvas: &mut Canvas<'_, DB>,
    plot: &Plot,
    width: f64,
    top: f64,
) -> Result<f64, DrawingErrorKind<DB::ErrorType>> {
    let line = 1.25 * canvas.line_height();
    let (mut x, mut y) = (MARGIN, top + line / 2.0);
    for layer in &plot.layers {
        let Some(name) = &layer.name else { continue };
        let name = fitted(canvas, name, width - 2.0 * MARGIN - SWATCH)?;
        let wide = SWATCH + canvas.width(&name)?;
        if x > MARGIN && x + wide > width - MARGIN {
            (x, y) = (MARGIN, y + line);
        }
        canvas.swatch(layer, (x, y))?;
        canvas.text(&name, (x + SWATCH, y), Ink::Text, HPos::Left)?;
        x += wide + GAP;
    }
    Ok(y + 0.75 * line)
}

fn axes<DB: DrawingBackend>(canvas: &mut Canvas<'_, DB>, plot: &Plot, frame: &Frame) -> Drawn<DB> {
    let line = canvas.line_height();
    for (value, label) in &plot.y.ticks {
        let (_, y) = frame.place(plot, plot.x.from, *value);
        canvas.line(&[(frame.left, y), (frame.right, y)], Ink::Grid, 1.0)?;
        canvas.text(label, (frame.left - 8.0, y), Ink::Muted, HPos::Right)?;
    }
    canvas.line(&[(frame.left, frame.bottom), (frame.right, frame.bottom)], Ink::Muted, 1.0)?;
    let mut free_from = f64::NEG_INFINITY;
    for (value, label) in &plot.x.ticks {
        let (x, _) = frame.place(plot, *value, plot.y.from);
        canvas.line(&[(x, frame.bottom), (x, frame.bottom + 4.0)], Ink::Muted, 1.0)?;
        // Skip a label that would touch the previous one.
        let half = canvas.width(label)? / 2.0;
        if x - half >= free_from {
            canvas.text(label, (x, frame.bottom + 0.9 * line), Ink::Muted, HPos::Center)?;
            free_from = x + half + 8.0;
        }
    }
    let title = fitted(canvas, &plot.x.title, frame.right - MARGIN)?;
    canvas.text(&title, (frame.right, frame.bottom + 2.1 * line), Ink::Muted, HPos::Right)
}

/// A surface measured in CSS pixels.
struct Canvas<'a, DB: DrawingBackend> {
    on: &'a mut DB,
    scale: f64,
    letters: f64,
    /// By how much to lower text.
    lower: f64,
    /// How much wider than measured text may be.
    widening: f64,
}

impl<DB: DrawingBackend> Canvas<'_, DB> {
    fn line_height(&self) -> f64 {
        1.3 * self.letters
    }

    fn to_unit(&self, (x, y): Place) -> BackendCoord {
        ((x * self.scale).round() as i32, (y * self.scale).round() as i32)
    }

    fn style(&self, ink: Ink, opacity: f64, thick: f64) -> ShapeStyle {
        ShapeStyle {
            color: colour(ink, opacity),
            filled: true,
            stroke_width: (thick * self.scale).round().max(1.0) as u32,
        }
    }

    fn text_style(&self, ink: Ink, side: HPos) -> TextStyle<'static> {
        // plotters takes the line height as the font size.
        let font = (font::family(), 1.24 * self.letters * self.scale).into_font();
        let colour = colour(ink, 1.0).to_backend_color();
        TextStyle { font, color: colour, pos: Pos::new(side, VPos::Center) }
    }

    fn width(&mut self, text: &str) -> Result<f64, DrawingErrorKind<DB::ErrorType>> {
        let text = &printable(text);
        let style = self.text_style(Ink::Text, HPos::Left);
        let (width, _) = self.on.estimate_text_size(text, &style)?;
        Ok(f64::from(width) / self.scale * self.widening)
    }

    fn text(&mut self, text: &str, at: Place, ink: Ink, side: HPos) -> Drawn<DB> {
        let (style, at) = (self.text_style(ink, side), self.to_unit((at.0, at.1 + self.lower)));
        self.on.draw_text(&without_commands(&printable(text)), &style, at)
    }

    fn line(&mut self, points: &[Place], ink: Ink, thick: f64) -> Drawn<DB> {
        let style = self.style(ink, 1.0, thick);
        let points: Vec<BackendCoord> = points.iter().map(|&point| self.to_unit(point)).collect();
        match points[..] {
            [from, to] if style.stroke_width == 1 => self.on.draw_line(from, to, &style),
            _ => self.on.draw_path(points, &style),
        }
    }

    fn area(&mut self, corners: &[Place], ink: Ink, opacity: f64) -> Drawn<DB> {
        let style = self.style(ink, opacity, 1.0);
        let corners: Vec<BackendCoord> = corners.iter().map(|&corner| self.to_unit(corner)).collect();
        self.on.fill_polygon(corners, &style)
    }

    fn layer(&mut self, layer: &Layer, place: impl Fn(Place) -> Place) -> Drawn<DB> {
        match &layer.shape {
            Shape::Area { upper, lower, opacity } => {
                let corners: Vec<Place> = upper.iter().chain(lower.iter().rev()).copied().map(place).collect();
                self.area(&corners, layer.ink, *opacity)
            }
            Shape::Line { points, dashed } => {
                let points: Vec<Place> = points.iter().copied().map(place).collect();
                let pieces = if *dashed { dashes(&points) } else { vec![points] };
                pieces.iter().try_for_each(|piece| self.line(piece, layer.ink, THICK))
            }
            Shape::Marks { points, mark } => {
                points.iter().copied().map(place).try_for_each(|point| self.mark(*mark, point, layer.ink))
            }
        }
    }

    fn mark(&mut self, mark: Mark, at: Place, ink: Ink) -> Drawn<DB> {
        let r = RADIUS;
        let around =
            |corners: &[Place]| -> Vec<Place> { corners.iter().map(|(x, y)| (at.0 + x * r, at.1 + y * r)).collect() };
        match mark {
            Mark::Circle | Mark::Ring => {
                let filled = mark == Mark::Circle;
                let style = self.style(ink, if filled { 0.75 } else { 1.0 }, 1.6);
                let radius = (r * self.scale).round() as u32;
                let at = self.to_unit(at);
                self.on.draw_circle(at, radius, &style, filled)
            }
            Mark::Triangle => self.area(&around(&[(0.0, -1.5), (1.4, 1.0), (-1.4, 1.0)]), ink, 1.0),
            Mark::Diamond => {
                self.line(&around(&[(0.0, -1.5), (1.5, 0.0), (0.0, 1.5), (-1.5, 0.0), (0.0, -1.5)]), ink, 1.6)
            }
            Mark::Cross => {
                self.line(&around(&[(-1.1, -1.1), (1.1, 1.1)]), ink, 1.6)?;
                self.line(&around(&[(-1.1, 1.1), (1.1, -1.1)]), ink, 1.6)
            }
        }
    }

    /// Draws the swatch of a layer in the legend.
    fn swatch(&mut self, layer: &Layer, (x, y): Place) -> Drawn<DB> {
        let right = x + SWATCH - 6.0;
        match &layer.shape {
            Shape::Area { opacity, .. } => {
                self.area(&[(x, y - 5.0), (right, y - 5.0), (right, y + 5.0), (x, y + 5.0)], layer.ink, *opacity)
            }
            Shape::Line { dashed, .. } => {
                let pieces = if *dashed { vec![[x, x + 6.0], [x + 10.0, right]] } else { vec![[x, right]] };
                pieces.iter().try_for_each(|[from, to]| self.line(&[(*from, y), (*to, y)], layer.ink, THICK))
            }
            Shape::Marks { mark, .. } => self.mark(*mark, ((x + right) / 2.0, y), layer.ink),
        }
    }
}

fn colour(ink: Ink, opacity: f64) -> RGBAColor {
    let [red, green, blue] = ink.light();
    RGBColor(red, green, blue).mix(opacity)
}

/// Splits a line into dashes.
fn dashes(points: &[Place]) -> Vec<Vec<Place>> {
    let mut pieces = Vec::new();
    let mut piece: Vec<Place> = points.first().copied().into_iter().collect();
    let (mut left, mut visible) = (DASH, true);
    for pair in points.windows(2) {
        let [mut from, to] = [pair[0], pair[1]];
        loop {
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            if length <= left {
                left -= length;
                if visible {
                    piece.push(to);
                }
                break;
            }
            let along = left / length;
            from = (from.0 + (to.0 - from.0) * along, from.1 + (to.1 - from.1) * along);
            piece.push(from);
            if visible {
                pieces.push(std::mem::take(&mut piece));
            } else {
                piece = vec![from];
            }
            (left, visible) = (DASH, !visible);
        }
    }
    if visible && piece.len() > 1 {
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_line_has_dashes_and_gaps_around_corners() {
        let pieces = dashes(&[(0.0, 0.0), (9.0, 0.0), (9.0, 9.0)]);
        assert_eq!(pieces[0], [(0.0, 0.0), (6.0, 0.0)]);
        assert_eq!(pieces[1], [(9.0, 3.0), (9.0, 9.0)]);
        assert_eq!(pieces.len(), 2);
    }
}
