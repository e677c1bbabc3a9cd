//! The font that text is measured with, and that bitmaps are written with: ours, so that it is the same everywhere.

use std::sync::OnceLock;

use plotters::style::{FontFamily, FontStyle, register_font};

static ROBOTO: &[u8] = include_bytes!("roboto/Roboto-Regular-subset.ttf");

/// What the font is called. In SVG it is the reader's own.
pub(super) fn family() -> FontFamily<'static> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    // Where it were no font, text would be left out; a test sees that it is one.
    REGISTERED.get_or_init(|| register_font("sans-serif", FontStyle::Normal, ROBOTO).is_ok());
    FontFamily::SansSerif
}

#[cfg(test)]
mod tests {
    use super::*;
    use plotters::style::IntoFont;

    #[test]
    fn text_can_be_measured() {
        let size = |text: &str| (family(), 100.0).into_font().box_size(text).unwrap().0;
        assert!(size("peak, MiB") > size("peak"));
        assert!(size("–×≤·") > 50);
    }
}
