//! Plots as SVG.

use plotters::backend::SVGBackend;

use super::draw::{Surface, draw};
use super::{Plot, Size, dark_style};
use crate::model::escape::{html, printable};

/// Coordinates are integers, in quarters of a pixel.
const SCALE: u32 = 4;

/// How much wider than Roboto the widest usual fonts are: DejaVu Sans and Verdana.
const WIDENING: f64 = 1.2;

/// A plot to embed in an HTML page, with a title and a description for readers who cannot see it. The page must include
/// [`dark_style`]. `id` is the prefix of its element IDs.
pub fn svg(plot: &Plot, size: Size, id: &str) -> String {
    let name = format!("<title id=\"{id}-t\">{}</title>\n", html(&printable(&plot.title)));
    let description = format!("<desc id=\"{id}-d\">{}</desc>\n", html(&printable(&description(plot))));
    let attributes = format!("role=\"img\" aria-labelledby=\"{id}-t {id}-d\"");
    drawn(plot, size, false, &attributes, &(name + &description))
}

/// A plot as a file of its own, with a visible title.
pub fn svg_file(plot: &Plot, size: Size) -> String {
    let inner = format!(
        "<title>{}</title>\n<desc>{}</desc>\n<style>text{{font-family:Roboto,Arial,sans-serif}}\
         @media (prefers-color-scheme:dark){{{}}}</style>\n",
        html(&printable(&plot.title)),
        html(&printable(&description(plot))),
        dark_style()
    );
    drawn(plot, size, true, "role=\"img\"", &inner)
}

fn description(plot: &Plot) -> String {
    match &plot.thinned {
        Some(thinned) => format!("{} {thinned}", plot.description),
        None => plot.description.clone(),
    }
}

fn drawn(plot: &Plot, size: Size, titled: bool, attributes: &str, inner: &str) -> String {
    let mut text = String::new();
    let surface = Surface { scale: f64::from(SCALE), too_high: 0.09, widening: WIDENING, titled };
    let whole = (size.width * SCALE, size.height * SCALE);
    {
        let mut backend = SVGBackend::with_string(&mut text, whole);
        // Writing to a string cannot fail; text that cannot be measured would be missing.
        if let Err(error) = draw(plot, size, surface, &mut backend) {
            tracing::warn!("a plot is incomplete: {error}");
        }
    }
    // plotters puts its own units into width and height, and closes the tag.
    let body = text.split_once(">\n").map_or("", |(_, body)| body);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {} {}\" {attributes}>\n{inner}{}",
        size.width,
        size.height,
        whole.0,
        whole.1,
        compact(body)
    )
}

/// Removes redundant attributes.
fn compact(body: &str) -> String {
    body.replace(" opacity=\"1\"", "")
        .replace(" stroke=\"none\"", "")
        .replace(" \"/>", "\"/>")
        .replace(" font-family=\"sans-serif\"", "")
}
