//! Renders Jinja in a document.

use std::io::{self, Write};
use std::ops::Range;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};

use crate::model::problem::{Problem, Severity};
use crate::model::spelling::{nearest, quote};

use super::place::{MOST_BYTES, Marked, Rendered};
use super::variables::{Undefined, Variables};

/// The most steps of the engine for a template.
const MOST_STEPS: u64 = 2_000_000;
/// The most undefined variables to report at once.
const MOST_UNDEFINED: usize = 20;
/// The mark before and after the value given to an undefined variable, so that rendering continues to the next one.
const GIVEN: &str = "\u{fdd2}";
/// The internal name of the template; never displayed.
const NAME: &str = "document";

/// Renders a template.
///
/// # Errors
/// A syntax error, or all undefined variables that [`Variables::undefined`] does not accept, with their locations in
/// the template.
pub(super) fn render(template: &str, variables: &Variables) -> Result<Rendered, Vec<Problem>> {
    let context = Value::from(Serde(variables));
    let strict = UndefinedBehavior::Strict;
    match attempt(template, &context, strict) {
        Ok(text) => Ok(rendered(template, &context, strict, text, Vec::new())),
        Err(error) if undefined_path(&error).is_some() => {
            let (found, output) = all_undefined(template, variables, error);
            // As Jinja does it by default, but for `custom.a.b` as well.
            let empty = UndefinedBehavior::Chainable;
            let text = match variables.undefined {
                Undefined::Error => None,
                Undefined::Config => output.as_ref().and_then(|output| {
                    let text = attempt(template, &context, empty).ok()?;
                    is_only_in_config(output, &text).then_some(text)
                }),
                Undefined::Empty => {
                    Some(attempt(template, &context, empty).map_err(|error| vec![problem(template, &error)])?)
                }
            };
            let Some(text) = text else {
                let is_config = variables.undefined == Undefined::Config;
                return Err(refused(found, output.filter(|_| is_config).as_deref()));
            };
            let warnings = found.into_iter().map(Missing::accepted);
            Ok(rendered(template, &context, empty, text, warnings.collect()))
        }
        Err(error) => Err(vec![problem(template, &error)]),
    }
}

fn rendered(
    template: &str,
    context: &Value,
    behavior: UndefinedBehavior,
    text: String,
    warnings: Vec<Problem>,
) -> Rendered {
    let marked = Marked::new(template);
    let map = attempt(&marked.text, context, behavior).ok().and_then(|output| marked.map(&output, &text));
    Rendered { text, map, warnings }
}

/// An undefined variable.
struct Missing {
    parts: Vec<String>,
    problem: Problem,
    /// The value given to it.
    given: String,
}

impl Missing {
    /// The warning about a variable that is left empty.
    fn accepted(self) -> Problem {
        Problem { severity: Severity::Warning, ..self.problem.label("empty") }
    }
}

/// Whether the undefined variables, given in `output` and empty in `text`, make a difference in `config` alone.
fn is_only_in_config(output: &str, text: &str) -> bool {
    let outside = outside_config(output);
    outside.is_some_and(|outside| !outside.contains(GIVEN)) && without_given(output) == text
}

/// The document without what only `config` says.
fn outside_config(output: &str) -> Option<String> {
    let without_config = |value: &mut serde_json::Value| value.as_object_mut().map(|object| object.remove("config"));
    let mut value = serde_json::from_str::<serde_json::Value>(output).ok()?;
    without_config(&mut value);
    value.get_mut("taskTemplate").map(without_config);
    Some(value.to_string())
}

/// The text without the values of undefined variables.
fn without_given(output: &str) -> String {
    // They alternate with the text, between a pair of marks each.
    output.split(GIVEN).step_by(2).collect()
}

/// The problems of a document that is refused: variables that only `config` uses are no errors.
fn refused(found: Vec<Missing>, output: Option<&str>) -> Vec<Problem> {
    let outside = output.and_then(outside_config);
    let is_accepted = |missing: &Missing| {
        let is_in = |text: Option<&str>| text.is_some_and(|text| text.contains(&missing.given));
        is_in(output) && outside.is_some() && !is_in(outside.as_deref())
    };
    let are_all_accepted = found.iter().all(is_accepted);
    let problem = |missing: Missing| match is_accepted(&missing) && !are_all_accepted {
        true => missing.accepted(),
        false => missing.problem,
    };
    found.into_iter().map(problem).collect()
}

fn attempt(template: &str, context: &Value, behavior: UndefinedBehavior) -> Result<String, Error> {
    let engine = engine(behavior);
    let template = engine.template_from_named_str(NAME, template)?;
    let mut output = Bounded(Vec::new());
    template.render_captured_to(context, &mut output)?;
    String::from_utf8(output.0).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

fn engine(behavior: UndefinedBehavior) -> Environment<'static> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(behavior);
    engine.set_debug(true);
    engine.set_fuel(Some(MOST_STEPS));
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    // Templates written for Python call `env.get("NAME", "default")` and methods of strings.
    engine.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    // Jinja has no such function, and it would print all variables.
    engine.remove_global("debug");
    engine
}

/// Accepts up to [`MOST_BYTES`].
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.0.len() + bytes.len()) as u64 > MOST_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The engine stops at the first undefined variable: define it and try again. Returns the output as well, with [`GIVEN`]
/// for each of them, if that succeeds in the end.
fn all_undefined(template: &str, variables: &Variables, first: Error) -> (Vec<Missing>, Option<String>) {
    let mut found: Vec<Missing> = Vec::new();
    let mut context = serde_json::to_value(variables).unwrap_or_default();
    let mut error = first;
    let mut output = None;
    // A value that is missing in an object made by the template is missing again, so attempts are limited.
    for number in 0..MOST_UNDEFINED {
        let Some(path) = undefined_path(&error) else { break };
        let parts = parts(&path);
        let problem = undefined(template, variables, &path, &parts, &error);
        let given = format!("{GIVEN}{number}{GIVEN}");
        let missing = Missing { parts: parts.clone(), problem, given: given.clone() };
        match found.iter_mut().find(|known| parts.starts_with(&known.parts)) {
            // `custom.model.size` begins as `custom.model`; variables of `env` have no parts.
            Some(known) if parts[0] == "custom" && parts.len() > known.parts.len() => *known = missing,
            Some(_) => {}
            None => found.push(missing),
        }
        if !put(&mut context, &parts, &given) {
            break;
        }
        match attempt(template, &Value::from(Serde(&context)), UndefinedBehavior::Strict) {
            Ok(text) => {
                output = Some(text);
                break;
            }
            Err(next) => error = next,
        }
    }
    (found, output)
}

/// Extracts the variable from the engine's message `` `env.NAME` is undefined``.
fn undefined_path(error: &Error) -> Option<String> {
    let detail = error.detail()?;
    let before = detail.strip_suffix(')').unwrap_or(detail).strip_suffix("` is undefined")?;
    Some(before.rsplit('`').next()?.to_owned())
}

/// Splits `env.a['b c']` into `env`, `a`, `b c`.
fn parts(path: &str) -> Vec<String> {
    path.split(['.', '['])
        .map(|part| part.strip_suffix(']').unwrap_or(part).trim_matches(['\'', '"']).to_owned())
        .filter(|part| !part.is_empty())
        .collect()
}

/// Defines a variable; `false` if it is already defined, so that it would be missing again.
fn put(context: &mut serde_json::Value, parts: &[String], given: &str) -> bool {
    let is_given = |value: &serde_json::Value| value.as_str().is_some_and(|text| text.starts_with(GIVEN));
    let mut place = context;
    let mut is_new = false;
    for part in parts {
        // A value given before turns out to be a group.
        if is_given(place) {
            *place = serde_json::Value::Object(serde_json::Map::new());
            is_new = true;
        }
        let Some(group) = place.as_object_mut() else { return false };
        place = group.entry(part.clone()).or_insert(serde_json::Value::Null);
        if place.is_null() {
            *place = given.into();
            is_new = true;
        } else if !place.is_object() && !is_given(place) {
            return false;
        }
    }
    is_new
}

fn undefined(template: &str, variables: &Variables, path: &str, parts: &[String], error: &Error) -> Problem {
    let message = match path.strip_prefix("(...)") {
        // The engine names variables, but not other values.
        Some(missing) => format!("the value has no {}", quote(missing)),
        None => format!("the variable {} is not defined", quote(path)),
    };
    let problem =
        Problem::error("template-undefined", message).at(place_of(template, path, error)).label("not defined");
    let [root, name, ..] = parts else {
        return problem.help("use a variable of `env`, the environment, or `custom`, set with --set");
    };
    let meant = nearest(name, variables.names(root));
    match (root.as_str(), meant) {
        ("env" | "custom", Some(meant)) => problem.help(format!("did you mean `{root}.{meant}`?")),
        ("env", None) => problem.help(format!("set it in the environment: {name}=… highwater …")),
        ("custom", None) => problem.help(format!("set it with --set {}=…", parts[1..].join("."))),
        (_, _) => problem.help("use a variable of `env` or `custom`"),
    }
}

fn problem(template: &str, error: &Error) -> Problem {
    let detail = error.detail().unwrap_or("rendering failed");
    let place = place_of(template, "", error);
    match error.kind() {
        ErrorKind::SyntaxError => Problem::error("template-syntax", format!("invalid Jinja: {detail}"))
            .at(place)
            .help("put text that is not Jinja between {% raw %} and {% endraw %}"),
        ErrorKind::OutOfFuel => {
            Problem::error("template-endless", "the Jinja of this file needs too many steps").at(place)
        }
        // Writing cannot fail for another reason.
        ErrorKind::WriteFailure => {
            let message = format!("the Jinja of this file renders to more than {} MiB", MOST_BYTES >> 20);
            Problem::error("template-too-long", message).at(place)
        }
        ErrorKind::UndefinedError => {
            Problem::error("template-undefined", "a value is not defined").at(place).label("not defined")
        }
        kind => Problem::error("template-failed", format!("the Jinja of this file failed: {kind}: {detail}")).at(place),
    }
}

/// The bytes of the template an error is about: `path` if it is found nearby, else the engine's range.
fn place_of(template: &str, path: &str, error: &Error) -> Range<usize> {
    let line = error.line().unwrap_or(1).saturating_sub(1);
    let line_start: usize = template.split_inclusive('\n').take(line).map(str::len).sum();
    let line_end = template[line_start..].find('\n').map_or(template.len(), |length| line_start + length);
    let pointed = error.range().filter(|range| template.get(range.clone()).is_some());
    if !path.is_empty() {
        // The engine's range may begin after the root of a path, but never in another tag.
        let from = pointed.as_ref().map_or(line_start, |range| {
            template[..range.start].rfind("{{").max(template[..range.start].rfind("{%")).unwrap_or(0)
        });
        let to = pointed.as_ref().map_or(line_end, |range| range.end);
        if let Some(found) = template.get(from..to).and_then(|tag| tag.find(path)) {
            return from + found..from + found + path.len();
        }
    }
    pointed.unwrap_or(line_start..line_end)
}

#[cfg(test)]
mod tests {
    use super::super::template::is_template;
    use super::*;

    fn variables() -> Variables {
        let mut variables = Variables::with_env([("HOME".to_owned(), "/home/ada".to_owned())]);
        variables.set("model.size=large").unwrap();
        variables
    }

    fn rendered(template: &str) -> String {
        render(template, &variables()).unwrap().text
    }

    fn undefined_in(template: &str, undefined: Undefined) -> Result<(String, usize), usize> {
        let mut variables = variables();
        variables.undefined = undefined;
        let rendered = render(template, &variables).map_err(|problems| problems.len())?;
        Ok((rendered.text, rendered.warnings.len()))
    }

    #[test]
    fn an_undefined_variable_is_empty_in_config_only() {
        let of = |template| undefined_in(template, Undefined::Config);
        let config = r#"{"image":"a","config":{"namespace":"{{ env.NS }}","registry":"{{ custom.a.b }}"}}"#;
        assert_eq!(of(config), Ok((r#"{"image":"a","config":{"namespace":"","registry":""}}"#.to_owned(), 2)));
        assert_eq!(of(r#"{"image":"{{ env.NS }}","config":{}}"#), Err(1));
        assert_eq!(of(r#"{"image":"{{ env.NS }}","config":{"namespace":"{{ env.NS }}"}}"#), Err(1));
        assert_eq!(of(r#"{"image":"{% if env.NS %}a{% else %}b{% endif %}","config":{}}"#), Err(1));
        assert_eq!(of(r#"{"config":{"labels":{ {{- env.NS -}} }}}"#), Err(1));
    }

    #[test]
    fn a_variable_of_config_is_no_error_beside_one_that_is() {
        let mut variables = variables();
        variables.undefined = Undefined::Config;
        let template = r#"{"image":"{{ env.REG }}","config":{"a":"{{ env.B }}","b":"{{ custom.a.b }}"}}"#;
        let severities = render(template, &variables).unwrap_err().into_iter().map(|problem| problem.severity);
        assert_eq!(severities.collect::<Vec<_>>(), [Severity::Error, Severity::Warning, Severity::Warning]);
    }

    #[test]
    fn an_undefined_variable_is_empty_or_an_error_everywhere() {
        let template = r#"{"image":"{{ env.NS }}","config":"{{ env.NS }}{{ custom.a.b }}"}"#;
        let empty = Ok((r#"{"image":"","config":""}"#.to_owned(), 2));
        assert_eq!(undefined_in(template, Undefined::Empty), empty);
        assert_eq!(undefined_in(template, Undefined::Error), Err(2));
        assert_eq!(undefined_in(r#"{"config":"{{ env.NS }}"}"#, Undefined::Error), Err(1));
    }

    fn refused(template: &str) -> Vec<(String, &str)> {
        let problems = render(template, &variables()).unwrap_err();
        problems.into_iter().map(|problem| (problem.message, &template[problem.span.unwrap()])).collect()
    }

    #[test]
    fn env_and_custom_are_what_a_template_knows() {
        assert_eq!(rendered("{{ env.HOME }}/{{ custom.model.size }}"), "/home/ada/large");
        assert_eq!(rendered("{{ env['HOME'] | tojson }}"), "\"/home/ada\"");
        assert_eq!(rendered("{% if custom.model.size == 'large' %}1{% else %}2{% endif %}"), "1");
    }

    #[test]
    fn a_variable_may_have_a_default() {
        assert_eq!(rendered("{{ env.NONE | default('x') }}"), "x");
        assert_eq!(rendered("{{ env.get('NONE', 'x') }}"), "x");
        assert_eq!(rendered("{{ 'y' if env.NONE is defined else 'x' }}"), "x");
    }

    #[test]
    fn plain_json_is_no_template() {
        for json in [r#"{"a":{"b":{}}}"#, r##"{"command":["sh","-c","echo ${#files[@]} {a#}"]}"##] {
            assert!(!is_template(json), "{json}");
        }
        for template in ["{{ env.A }}", "{% raw %}", "{# why #}{}"] {
            assert!(is_template(template), "{template}");
        }
    }

    #[test]
    fn every_undefined_variable_is_named_with_its_place() {
        let template = "{{ env.HOME }} {{ env.NONE }}\n{{ custom.a.b ~ custom['c d'] }} {{ other }}";
        assert_eq!(
            refused(template),
            [
                ("the variable `env.NONE` is not defined".to_owned(), "env.NONE"),
                ("the variable `custom.a.b` is not defined".to_owned(), "custom.a.b"),
                ("the variable `custom['c d']` is not defined".to_owned(), "custom['c d']"),
                ("the variable `other` is not defined".to_owned(), "other"),
            ]
        );
    }

    #[test]
    fn the_remedy_is_an_assignment_or_the_name_that_was_meant() {
        let help = |template| render(template, &variables()).unwrap_err()[0].help.clone().unwrap();
        assert_eq!(help("{{ env.HOEM }}"), "did you mean `env.HOME`?");
        assert_eq!(help("{{ env.REGISTRY }}"), "set it in the environment: REGISTRY=… highwater …");
        assert_eq!(help("{{ custom.gpu }}"), "set it with --set gpu=…");
    }

    #[test]
    fn wrong_jinja_has_a_place() {
        assert_eq!(refused("{\n{{ 1 + }}"), [("invalid Jinja: unexpected end of variable block".to_owned(), "}}")]);
        assert_eq!(
            refused("{{ env.HOME | uper }}"),
            [("the Jinja of this file failed: unknown filter: filter uper is unknown".to_owned(), "uper")]
        );
    }

    #[test]
    fn what_is_missing_in_a_value_of_the_template_is_named_once() {
        for template in [
            "{{ none.x }}",
            "{{ true.x }}",
            "{{ [1][7] }}",
            "{{ env.HOME.x }}",
            "{{ ''.x.y }}",
            "{% set img = 'a' %}{{ img.tag }}",
            "{% set d = {} %}{{ d.x.y }}",
            "{% set d = {} %}{{ d['x'] ~ d['x'] }}",
            "{% for i in [1] %}{{ i.x }}{% endfor %}",
            "{% for i in custom.model.size.x %}{% endfor %}",
            "{% macro m(a) %}{{ a.x }}{% endmacro %}{{ m(1) }}",
            "{% macro m(a) %}{{ a }}{% endmacro %}{{ m() }}",
            "{% with a = 1 %}{{ a.x }}{% endwith %}",
        ] {
            let found = refused(template);
            assert_eq!(found.len(), 1, "{template}: {found:?}");
            let message = &found[0].0;
            let is_clear = ["the variable ", "the value has no ", "a value is not defined"]
                .iter()
                .any(|start| message.starts_with(start));
            assert!(is_clear, "{template}: {message}");
        }
    }

    #[test]
    fn endless_templates_end() {
        let loops = "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}";
        assert_eq!(refused(loops)[0].0, "the Jinja of this file needs too many steps");
        let text = "{% set a = 'x' * 900000 %}{% for i in range(9999) %}{{ a }}{% endfor %}";
        assert_eq!(refused(text)[0].0, "the Jinja of this file renders to more than 4 MiB");
    }
}
