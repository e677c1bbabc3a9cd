//! Why a text is no quantity, and what was probably meant.

use std::fmt;

use crate::model::problem::Problem;

use super::Quantity;

/// A text is no quantity, or the quantity no amount of memory.
///
/// `Display` says what was found and what to write instead; [`Self::problem`] also has the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantityError(Problem);

impl std::error::Error for QuantityError {}

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        self.0.help.iter().try_for_each(|help| write!(f, "; {help}"))
    }
}

impl From<QuantityError> for Problem {
    fn from(error: QuantityError) -> Self {
        error.0
    }
}

impl QuantityError {
    /// What is wrong, at which bytes of the quantity's own text, and what was expected.
    pub fn problem(&self) -> &Problem {
        &self.0
    }

    pub(super) fn negative(source: &str) -> Self {
        let problem = Problem::error("quantity-negative", format!("`{source}` is a negative amount of memory"));
        Self(problem.at(0..source.len()).label("expected zero or more").help("write it without the `-`"))
    }

    pub(super) fn too_large(source: &str) -> Self {
        let problem = Problem::error("quantity-too-large", format!("`{source}` is more than any machine can hold"));
        let help = format!("Kubernetes knows amounts up to {} bytes, one less than `8Ei`", Quantity::MAX.0);
        Self(problem.at(0..source.len()).label("too large").help(help))
    }
}

/// A text that was refused: its number reaches up to `number_len`, the rest is no suffix.
pub(super) struct Doubt<'a> {
    pub(super) text: &'a str,
    pub(super) number_len: usize,
}

impl Doubt<'_> {
    pub(super) fn error(&self) -> QuantityError {
        let problem = Problem::error("quantity-invalid", format!("`{}` is not a quantity", self.text));
        QuantityError(problem.at(self.number_len..self.text.len()))
    }
}
