//! The bundled font that text is measured and drawn with, so that plots look the same everywhere.

use std::sync::OnceLock;

use plotters::style::{FontFamily, FontStyle, register_font};

static ROBOTO: &[u8] = include_bytes!("roboto/Roboto-Regular-subset.ttf");

/// The font family. In SVG the reader's own font is used.
pub(super) fn family() -> FontFamily<'static> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    // With an invalid font, text would be missing; a test checks that it is valid.
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
