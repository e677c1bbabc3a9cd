//! Plots as SVG.

use plotters::backend::SVGBackend;

use super::draw::{Surface, draw};
use super::{Plot, Size, dark_style};
use crate::model::escape::{html, printable};

/// Coordinates are whole numbers: of a quarter of a pixel.
const SCALE: u32 = 4;

/// A plot to stand in a page of HTML, with a title and a description for those who cannot see it. The page has to bring
/// [`dark_style`]. `id` is what its parts are called in the page.
pub fn svg(plot: &Plot, size: Size, id: &str) -> String {
    let name = format!("<title id=\"{id}-t\">{}</title>\n", html(&printable(&plot.title)));
    let description = format!("<desc id=\"{id}-d\">{}</desc>\n", html(&printable(&description(plot))));
    let attributes = format!("role=\"img\" aria-labelledby=\"{id}-t {id}-d\"");
    drawn(plot, size, false, &attributes, &(name + &description))
}

/// A plot as a file of its own, with its title to be seen.
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
    let surface = Surface { scale: f64::from(SCALE), too_high: 0.09, titled };
    let whole = (size.width * SCALE, size.height * SCALE);
    {
        let mut backend = SVGBackend::with_string(&mut text, whole);
        // A string cannot fail to be written to; text that cannot be measured would be left out.
        if let Err(error) = draw(plot, size, surface, &mut backend) {
            tracing::warn!("a plot is incomplete: {error}");
        }
    }
    // plotters puts the drawing's own units into width and height, and closes the tag.
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

/// The same drawing in fewer bytes.
fn compact(body: &str) -> String {
    body.replace(" opacity=\"1\"", "")
        .replace(" stroke=\"none\"", "")
        .replace(" \"/>", "\"/>")
        .replace(" font-family=\"sans-serif\"", "")
}
