//! Evaluates formulas.

use super::{EvalError, Formula};
use crate::model::decimal::Product;
use crate::model::units::Bytes;

pub(super) fn evaluate(formula: &Formula, n: Bytes) -> Result<Bytes, EvalError> {
    let (coefficient, exponent) = (formula.coefficient(), formula.exponent());
    let product = coefficient.product(n.0, exponent);
    let nothing = product == Some(Product { whole: 0, rest: false });
    if coefficient.is_negative() && !nothing {
        return Err(EvalError::Negative { formula: formula.expression(), n, result: result(formula, n) });
    }
    match product.and_then(Product::ceil) {
        Some(bytes) => Ok(Bytes(bytes)),
        None => Err(EvalError::Overflow { formula: formula.expression(), n, result: result(formula, n) }),
    }
}

/// The result for an error: exact if it is whole, approximate if it is not, its order of magnitude beyond that.
fn result(formula: &Formula, n: Bytes) -> String {
    let (coefficient, exponent) = (formula.coefficient(), formula.exponent());
    let sign = if coefficient.is_negative() { "-" } else { "" };
    if let Some(Product { whole, rest: false }) = coefficient.product(n.0, exponent) {
        return format!("{sign}{whole}");
    }
    let magnitude = coefficient.log10() + exponent as f64 * (n.0 as f64).log10();
    match magnitude {
        -2.0..15.0 => format!("about {sign}{}", (10f64.powf(magnitude) * 1000.0).round() / 1000.0),
        -1e6..1e6 => format!("about {sign}{:.3}e{}", 10f64.powf(magnitude - magnitude.floor()), magnitude.floor()),
        _ if exponent == u64::MAX => format!("beyond {sign}10^{magnitude:.0}"),
        _ => format!("about {sign}10^{magnitude:.0}"),
    }
}
