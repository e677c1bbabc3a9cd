//! The syntax tree of a formula: a coefficient and a power of n.

use std::fmt;

use crate::model::decimal::Decimal;

/// coefficient · n^exponent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Power {
    pub(super) coefficient: Decimal,
    pub(super) exponent: u64,
    /// The coefficient was omitted although its `*` is present: legal, and easily a mistake.
    pub(super) bare_star: bool,
}

impl fmt::Display for Power {
    /// The `complexity` dialect in its shortest form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.coefficient != Decimal::ONE {
            write!(f, "{}*", self.coefficient.plain())?;
        }
        match self.exponent {
            1 => f.write_str("n"),
            exponent => write!(f, "n**{exponent}"),
        }
    }
}
