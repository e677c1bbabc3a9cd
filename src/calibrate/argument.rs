//! Parses values as people type them on the command line and write them in files. Each error says what is expected.

use std::path::PathBuf;
use std::time::Duration;

use super::monitor::LEAST_INTERVAL;
use crate::model::plan;
use crate::model::scalar::duration;
use crate::runner::container::Bind;

type Parsed<T> = Result<T, String>;

/// A duration that is not shorter than the shortest sampling interval.
///
/// # Errors
/// A text for people, as for every function here.
pub fn sample_interval(text: &str) -> Parsed<Duration> {
    match duration(text)? {
        interval if interval < LEAST_INTERVAL => Err("expected at least 100us".to_owned()),
        interval => Ok(interval),
    }
}

/// A factor from 1 on, such as `1.2`.
pub fn times(text: &str) -> Parsed<f64> {
    match text.parse::<f64>() {
        Ok(times) if times.is_finite() && times >= 1.0 => Ok(times),
        Ok(_) | Err(_) => Err("expected a number from 1 on, such as 1.2".to_owned()),
    }
}

/// A positive factor, such as `0.25` or `4`.
pub fn growth(text: &str) -> Parsed<f64> {
    match text.parse::<f64>() {
        Ok(times) if times.is_finite() && times > 0.0 && times <= 10_000.0 => Ok(times),
        Ok(_) | Err(_) => Err("expected a number above 0, such as 0.5 or 4".to_owned()),
    }
}

/// `3`, or `0-3`.
pub fn indices(text: &str) -> Parsed<(usize, usize)> {
    let expected = || "expected an index from 0 such as 3, or a range such as 0-3".to_owned();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let place = |text: &str| text.parse::<usize>().map_err(|_| expected());
    let (first, last) = (place(first)?, place(last)?);
    if first <= last { Ok((first, last)) } else { Err(expected()) }
}

/// `NAME=a,b,c`, with `\,` for a comma in a value.
pub fn parameter(text: &str) -> Parsed<(String, Vec<String>)> {
    let (name, values) = named(text, "NAME=VALUE,VALUE,…")?;
    Ok((name.to_owned(), split(values)))
}

/// `NAME=MIN:MAX:STEP`.
pub fn scan(text: &str) -> Parsed<(String, Vec<String>)> {
    let (name, range) = named(text, "NAME=MIN:MAX:STEP")?;
    Ok((name.to_owned(), plan::scan(range)?))
}

/// `CHANNEL=DIR`.
pub fn channel(text: &str) -> Parsed<(String, PathBuf)> {
    match text.split_once('=') {
        Some((name, folder)) if !name.is_empty() && !folder.is_empty() => Ok((name.to_owned(), PathBuf::from(folder))),
        _ => Err("expected CHANNEL=DIR, such as scans=/data/scans".to_owned()),
    }
}

/// An exit status that is not 0.
pub fn status(text: &str) -> Parsed<i32> {
    match text.parse::<u8>() {
        Ok(status) if status > 0 => Ok(status.into()),
        Ok(_) | Err(_) => Err("expected an exit status from 1 to 255, such as 126".to_owned()),
    }
}

fn named<'a>(text: &'a str, expected: &str) -> Parsed<(&'a str, &'a str)> {
    match text.split_once('=') {
        Some((name, rest)) if !name.is_empty() && !name.contains(['{', '}', '\0']) => Ok((name, rest)),
        _ => Err(format!("expected {expected}")),
    }
}

/// Splits `a,b\,c` into its values.
pub fn split(values: &str) -> Vec<String> {
    if values.is_empty() {
        return Vec::new();
    }
    let mut all = vec![String::new()];
    let mut chars = values.chars().peekable();
    while let Some(char) = chars.next() {
        match (char, all.last_mut()) {
            ('\\', Some(last)) if chars.peek() == Some(&',') => {
                last.push(',');
                chars.next();
            }
            (',', _) => all.push(String::new()),
            (char, Some(last)) => last.push(char),
            (_, None) => {}
        }
    }
    all
}

/// `SOURCE:TARGET[:ro|:rw]`, or `type=bind,source=SOURCE,target=TARGET[,readonly]` for paths with a `:`; a relative source
/// is resolved against the current directory.
pub fn bind(text: &str) -> Parsed<Bind> {
    let (source, target, read_only) =
        if text.starts_with("type=") { bind_of_fields(text) } else { bind_of_parts(text) }?;
    let source = std::path::absolute(source).map_err(|error| error.to_string())?;
    Ok(Bind { source, target, read_only })
}

fn bind_of_parts(text: &str) -> Parsed<(String, String, bool)> {
    let expected = "expected SOURCE:TARGET or SOURCE:TARGET:ro, with an absolute TARGET; for a path with a `:`, \
                    type=bind,source=SOURCE,target=TARGET";
    let mut parts = text.split(':');
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else { return Err(expected.to_owned()) };
    let read_only = match parts.next() {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(_) if parts.next().is_some() => return Err(expected.to_owned()),
        Some(other) => return Err(format!("found the mode `{other}`, expected `ro` or `rw`")),
    };
    if source.is_empty() || !target.starts_with('/') || parts.next().is_some() {
        return Err(expected.to_owned());
    }
    Ok((source.to_owned(), target.to_owned(), read_only))
}

/// As for `docker run --mount`, with `\,` for a comma in a path.
fn bind_of_fields(text: &str) -> Parsed<(String, String, bool)> {
    let (mut source, mut target, mut read_only) = (String::new(), String::new(), false);
    for field in split(text) {
        let (name, value) = field.split_once('=').unwrap_or((&field, "true"));
        let is_given = field.contains('=');
        match (name, value) {
            ("type", "bind") => {}
            ("type", other) => return Err(format!("found a mount of the type `{other}`, expected `bind`")),
            ("source" | "src", path) if is_given => path.clone_into(&mut source),
            ("target" | "destination" | "dst", path) if is_given => path.clone_into(&mut target),
            ("readonly" | "ro", "true" | "1") => read_only = true,
            ("readonly" | "ro", "false" | "0") => read_only = false,
            _ => return Err(format!("found `{field}`, expected `source=`, `target=` or `readonly`")),
        }
    }
    if source.is_empty() || !target.starts_with('/') {
        return Err("expected type=bind,source=SOURCE,target=TARGET, with an absolute TARGET".to_owned());
    }
    Ok((source, target, read_only))
}

/// `NAME=VALUE`.
pub fn label(text: &str) -> Parsed<(String, String)> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.is_empty() { Err("expected NAME=VALUE".to_owned()) } else { Ok((name.to_owned(), value.to_owned())) }
}

/// `NAME=VALUE`; `NAME` alone takes its value from the environment.
pub fn variable(text: &str) -> Parsed<(String, String)> {
    match text.split_once('=') {
        Some(("", _)) => Err("expected NAME=VALUE".to_owned()),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(text) {
            Ok(value) => Ok((text.to_owned(), value)),
            Err(_) => Err("the variable is not set; expected NAME=VALUE".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_parameters_are_separated_by_commas() {
        let values = |text| parameter(text).unwrap().1;
        assert_eq!(values("A=1,2"), ["1", "2"]);
        assert_eq!(values("A=a\\,b,c=d,"), ["a,b", "c=d", ""]);
        assert!(values("A=").is_empty());
        assert!(parameter("A").is_err() && parameter("=1").is_err());
    }

    #[test]
    fn a_mount_is_given_in_parts_or_fields() {
        let parts = |text: &str| bind(text).map(|bind| (bind.source, bind.target, bind.read_only));
        let mount = |source: &str, read_only| Ok((PathBuf::from(source), "/in".to_owned(), read_only));
        assert_eq!(parts("/a:/in"), mount("/a", false));
        assert_eq!(parts("/a:/in:ro"), mount("/a", true));
        assert_eq!(parts("type=bind,source=/a:b,target=/in"), mount("/a:b", false));
        assert_eq!(parts("type=bind,src=/a:b\\,c=d,dst=/in,readonly"), mount("/a:b,c=d", true));
        for wrong in [
            "/a",
            "/a:in",
            "/a:b:/in",
            "/a:/in:ro:rw",
            "type=bind,source=/a",
            "type=bind,target=/in",
            "type=bind,source,target=/in",
            "type=bind,source=/a,target=in",
            "type=volume,source=a,target=/in",
            "type=bind,source=/a,target=/in,size=3",
        ] {
            assert!(bind(wrong).is_err(), "{wrong}");
        }
    }
}
