//! A report as one HTML file that fetches nothing and is readable without scripts.

mod page;

use minijinja::value::Serde;
use minijinja::{Environment, Value, escape_formatter};

use super::model::Report;
use super::plot::dark_style;
use crate::model::escape::lines;
use page::Page;

const TEMPLATE: &str = include_str!("html/report.html");
const STYLE: &str = include_str!("html/style.css");
const DARK: &str = include_str!("html/dark.css");
const SCRIPT: &str = include_str!("html/script.js");

/// A report could not be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HtmlError {
    /// The template does not match its values.
    #[error("failed to render the report")]
    Template(#[from] minijinja::Error),
    /// The report has no JSON form.
    #[error("failed to write the report as JSON")]
    Json(#[from] serde_json::Error),
}

/// Renders a report as HTML. Everything that comes from records is escaped.
///
/// # Errors
/// A report never causes one.
pub fn html(report: &Report) -> Result<String, HtmlError> {
    let mut environment = Environment::new();
    // The extension makes minijinja escape values for HTML.
    environment.add_template("report.html", TEMPLATE)?;
    environment.set_formatter(|output, state, value| match value.as_str().filter(|_| !value.is_safe()) {
        Some(text) => escape_formatter(output, state, &Value::from(lines(text))),
        None => escape_formatter(output, state, value),
    });
    let style = format!("{STYLE}@media screen and (prefers-color-scheme: dark) {{\n{DARK}{}\n}}\n", dark_style());
    let page = Page::new(report, style, SCRIPT)?;
    Ok(environment.get_template("report.html")?.render(Value::from(Serde(page)))?)
}
