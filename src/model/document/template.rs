//! Documents that are templates.

use serde::de::IgnoredAny;

#[cfg(feature = "templates")]
pub(super) use super::jinja::render;

/// Whether a text has to be rendered.
///
/// `{{` and `{%` indicate a template. `{#` alone also occurs in plain JSON, as in `"${#files[@]}"`: a text that is
/// valid JSON is not rendered.
pub(super) fn is_template(text: &str) -> bool {
    text.contains("{{")
        || text.contains("{%")
        || (text.contains("{#") && serde_json::from_str::<IgnoredAny>(text).is_err())
}

/// Refuses a template.
///
/// # Errors
/// Always.
#[cfg(not(feature = "templates"))]
pub(super) fn render(
    _: &str,
    _: &super::variables::Variables,
) -> Result<super::place::Rendered, Vec<crate::model::problem::Problem>> {
    let problem = crate::model::problem::Problem::error("template", "this program cannot render templates".to_owned());
    Err(vec![problem.help("render the file first, or build highwater with the feature `templates`")])
}
