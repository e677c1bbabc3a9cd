//! Plots as PNG.

use plotters::backend::BitMapBackend;

use super::draw::{Surface, draw};
use super::{Plot, Size};

/// Pixels per CSS pixel.
const DENSITY: u32 = 2;
/// Each pixel is the mean of a square with this side.
const FINER: u32 = 2;

/// A plot could not be rendered as PNG.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PngError {
    /// Drawing failed.
    #[error("failed to draw the plot {name}: {reason}")]
    Draw {
        /// The name of the plot.
        name: &'static str,
        /// The error of plotters.
        reason: String,
    },
    /// Encoding failed.
    #[error("failed to encode the plot {name} as PNG")]
    Encode {
        /// The name of the plot.
        name: &'static str,
        /// The error of the encoder.
        #[source]
        source: png::EncodingError,
    },
}

/// Renders a plot as a light PNG file with its title. The bytes are the same on every machine.
///
/// # Errors
/// Drawing or encoding failed.
pub fn png(plot: &Plot, size: Size) -> Result<Vec<u8>, PngError> {
    let (width, height) = (size.width * DENSITY, size.height * DENSITY);
    let surface = Surface { scale: f64::from(DENSITY * FINER), too_high: 0.23, widening: 1.0, titled: true };
    let mut fine = vec![0; (width * FINER * height * FINER * 3) as usize];
    {
        let mut backend = BitMapBackend::with_buffer(&mut fine, (width * FINER, height * FINER));
        draw(plot, size, surface, &mut backend)
            .map_err(|error| PngError::Draw { name: plot.name, reason: error.to_string() })?;
    }
    let failed = |source| PngError::Encode { name: plot.name, source };
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&coarser(&fine, width as usize)).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(file)
}

/// Averages squares of pixels, for smooth edges.
fn coarser(fine: &[u8], width: usize) -> Vec<u8> {
    let finer = FINER as usize;
    let mut pixels = Vec::with_capacity(fine.len() / (finer * finer));
    for rows in fine.chunks_exact(width * finer * 3 * finer) {
        let mut sums = vec![0_u32; width * 3];
        for row in rows.chunks_exact(width * finer * 3) {
            for (sum, pixels) in sums.chunks_exact_mut(3).zip(row.chunks_exact(3 * finer)) {
                for (place, part) in pixels.iter().enumerate() {
                    sum[place % 3] += u32::from(*part);
                }
            }
        }
        pixels.extend(sums.into_iter().map(|sum| (sum / (FINER * FINER)) as u8));
    }
    pixels
}
