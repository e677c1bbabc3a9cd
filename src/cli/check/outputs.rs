//! The files that a check writes beside what it tells.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use highwater::model::check::report::Report;
use highwater::report::check;

use super::CheckArgs;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::output_file::{self, unwritten};
use crate::cli::run::Format;

/// Where GitHub Actions wants the summary of a job.
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

/// Where to write what.
pub(super) struct Outputs {
    files: Vec<(Kind, PathBuf)>,
    /// The file that says what is checked, as it was named.
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
    /// Finds out whether everything can be written.
    pub(super) fn of(args: &CheckArgs) -> Result<Self, Failure> {
        let OutputArgs { junit, markdown, github, gitlab, bmf, customsmallerisbetter } = &args.outputs;
        if *github && args.format == Format::Json {
            let help = "leave one of --github and --format json: both write to stdout".to_owned();
            return Err(Failure::new(Exit::Usage, &BothOnStdout, Some(help)));
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
            // The folder is left for that of highwater.toml.
            files.push((kind, std::path::absolute(path).unwrap_or_else(|_| path.clone())));
        }
        let summary = std::env::var_os(SUMMARY).map(PathBuf::from).filter(|_| *github);
        match &summary {
            Some(path) => drop(open(path).map_err(|source| unwritten(path, source))?),
            None if *github => output::say(&format!("highwater: {SUMMARY} is not set: no summary is written")),
            None => {}
        }
        let config = args.config.display().to_string();
        Ok(Self { files, config, github: *github, summary })
    }

    /// Writes everything: each file as a whole, or not at all.
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
            // Other steps write there too.
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

/// Why two results cannot be told at the same time.
#[derive(Debug, thiserror::Error)]
#[error("annotations and JSON cannot both be written to stdout")]
struct BothOnStdout;
