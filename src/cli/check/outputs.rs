//! The files that a check writes in addition to its table.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use highwater::model::check::report::Report;
use highwater::report::check;

use super::{CheckArgs, absolute};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::output_file::{self, unwritten};
use crate::cli::run::Format;

/// The variable in which GitHub Actions names the file for the job summary.
const SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// Formats of CI systems.
#[derive(Debug, Args)]
#[command(next_help_heading = "CI formats")]
pub(crate) struct OutputArgs {
    /// Write JUnit XML, which most CI systems display.
    #[arg(long, value_name = "FILE.xml")]
    junit: Option<PathBuf>,
    /// Write Markdown, for a comment.
    #[arg(long, value_name = "FILE.md")]
    markdown: Option<PathBuf>,
    /// Report to GitHub Actions: annotations on stdout, and Markdown in the job summary.
    #[arg(long)]
    github: bool,
    /// Write OpenMetrics, for `artifacts:reports:metrics` in GitLab CI.
    #[arg(long, value_name = "FILE.txt")]
    gitlab: Option<PathBuf>,
    /// Write Bencher Metric Format.
    #[arg(long, value_name = "FILE.json")]
    bmf: Option<PathBuf>,
    /// Write JSON for the customSmallerIsBetter tool of github-action-benchmark.
    #[arg(long, value_name = "FILE.json")]
    customsmallerisbetter: Option<PathBuf>,
}

/// The outputs of a check and their destinations.
pub(super) struct Outputs {
    files: Vec<(Kind, PathBuf)>,
    /// The configuration file, as given.
    config: String,
    github: bool,
    summary: Option<PathBuf>,
}

#[derive(Clone, Copy)]
enum Kind {
    Junit,
    Markdown,
    OpenMetrics,
    Bmf,
    SmallerIsBetter,
}

impl Outputs {
    /// Checks that every output can be written.
    pub(super) fn new(args: &CheckArgs) -> Result<Self, Failure> {
        let OutputArgs { junit, markdown, github, gitlab, bmf, customsmallerisbetter } = &args.outputs;
        if *github && args.format == Format::Json {
            let help = "remove either --github or --format json".to_owned();
            let error = "annotations and JSON cannot both be written to stdout";
            return Err(Failure::new(Exit::Usage, error, Some(help)));
        }
        let wanted = [
            (Kind::Junit, junit),
            (Kind::Markdown, markdown),
            (Kind::OpenMetrics, gitlab),
            (Kind::Bmf, bmf),
            (Kind::SmallerIsBetter, customsmallerisbetter),
        ];
        let mut files = Vec::new();
        for (kind, path) in wanted {
            let Some(path) = path else { continue };
            output_file::check_writable(path)?;
            files.push((kind, absolute(path)));
        }
        let summary = std::env::var_os(SUMMARY).map(PathBuf::from).filter(|_| *github);
        match &summary {
            Some(path) => drop(open(path).map_err(|source| unwritten(path, source))?),
            None if *github => {
                output::say(&format!("highwater: no job summary was written because {SUMMARY} is not set"))
            }
            None => {}
        }
        let config = args.config.display().to_string();
        Ok(Self { files, config, github: *github, summary })
    }

    /// Writes every output; a file is written completely or not at all.
    pub(super) fn write(&self, report: &Report) -> Result<(), Failure> {
        for (kind, path) in &self.files {
            let text = match kind {
                Kind::Junit => check::junit(report, &self.config),
                Kind::Markdown => check::markdown(report),
                Kind::OpenMetrics => check::openmetrics(report),
                Kind::Bmf => check::bmf(report),
                Kind::SmallerIsBetter => check::smaller_is_better(report),
            };
            output_file::write(path, text.as_bytes())?;
        }
        if self.github {
            output::data(&check::annotations(report, &self.config))?;
        }
        if let Some(path) = &self.summary {
            // Other steps append to this file as well.
            let text = check::markdown(report) + "\n";
            open(path)
                .and_then(|mut file| file.write_all(text.as_bytes()))
                .map_err(|source| unwritten(path, source))?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<std::fs::File> {
    OpenOptions::new().append(true).create(true).open(path)
}
