//! Measures the high-water mark of a task's memory, fits rules to it, and guards it.
//!
//! ```text
//!                 task.json, sweep file, highwater.toml, command line
//!                                      │ parsed into
//!                            Spec, SweepOptions, Config
//!                                      │
//!              Measurement          Sweep             check::Bench
//!                    └────────────────┼────────────────────┘
//!                          Workload::measure: runner + monitor
//!                                      │
//!                                 Observation ── store ── records
//!                                      │
//!                      fit_group, report::report, check::judge
//! ```
//!
//! The modules know each other in one direction only: [`model`] knows nothing of the others; [`host`], [`tree`], [`store`]
//! and [`runner`] know the model; [`calibrate`] puts them together; the binary knows the library. The library neither
//! prints nor exits. Before 1.0 any minor version may
//! change it. The names at the root of the crate, what they take and return, and the records change least; modules that
//! this documentation does not list serve the binary alone.
//!
//! The features `containers` (Docker-compatible engines), `gpu` (memory on GPUs), `plots` (reports with pictures) and
//! `templates` (documents that are Jinja templates) come with the default feature `cli`, which the binary needs. Without
//! default features a library has none of them: a container or a template is refused with an error that names the feature,
//! and records have no GPU memory, reports no pictures.
//!
//! # Measure a command
//!
//! A peak says how exact it is: read from a cgroup of its own, or a lower bound from samples.
//!
//! ```
//! use highwater::Measurement;
//!
//! let observation = Measurement::command(["sort", "/etc/passwd"]).run()?;
//! if let Some(peak) = observation.peak.value() {
//!     println!("{}: {}", observation.subject.command.join(" "), peak.words());
//! }
//! # Ok::<(), highwater::Failure>(())
//! ```
//!
//! # Evaluate a rule
//!
//! ```
//! use highwater::Bytes;
//! use highwater::model::rule::Formula;
//!
//! let rule = Formula::complexity("1.5*n")?;
//! assert_eq!(rule.evaluate(Bytes::mib(100)), Ok(Bytes::mib(150)));
//! # Ok::<(), highwater::model::rule::RuleError>(())
//! ```
//!
//! # Sweep across sizes
//!
//! Every run is on disk before the next one starts, and the same call resumes the sweep.
//!
//! ```
//! use highwater::calibrate::monitor::Never;
//! use highwater::{Bytes, Machine, Runnable, Spec, Sweep, SweepOptions, SweepSettings};
//!
//! let folder = tempfile::tempdir()?;
//! let command = ["sort", "-o", "/dev/null", "{input}"].map(Into::into).to_vec();
//! let mut options = SweepOptions::new(Spec::new(Runnable::Command, command));
//! options.size = vec![Bytes::mib(1), Bytes::mib(2)];
//! options.into = Some(folder.path().join("sort"));
//! let sweep = Sweep::plan(&options, &SweepSettings::default(), &())?;
//! let machine = Machine::read(Default::default())?;
//! let outcome = sweep.run(&machine, &mut Never::new()?, &mut (), &())?;
//! println!("{} runs failed; the records are in {}", outcome.failed, outcome.records.display());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Fit a rule
//!
//! ```no_run
//! use highwater::calibrate::fit::{FitOptions, Metric, fit_group, group_records};
//! use highwater::store::Source;
//!
//! let mut observations = Vec::new();
//! Source::open("sort.sweep".as_ref())?.each(|observation| observations.push(observation))?;
//! for group in group_records(&observations, Metric::default(), false) {
//!     let fit = fit_group(&group, &FitOptions::default())?;
//!     println!("limit {} where n is {}", fit.rule, fit.predictor);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Check against a budget
//!
//! ```
//! use highwater::calibrate::check::{Bench, CheckOptions};
//! use highwater::calibrate::monitor::Never;
//! use highwater::model::check::config::Config;
//! use highwater::Machine;
//!
//! let config = Config::parse("highwater.toml", "[tasks.list]\ncommand = [\"ls\", \"/\"]\nbudget = \"64MiB\"\n")?;
//! let machine = Machine::read(Default::default())?;
//! let mut bench = Bench::new(&config, |_| true, &CheckOptions::default(), &machine, &())?;
//! let judgement = bench.check(&config, None, &mut Never::new()?, |_| Ok(()))?;
//! println!("{:?}", judgement.report.verdict);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod calibrate;
#[doc(hidden)]
pub mod directory;
pub mod host;
pub mod model;
pub mod report;
pub mod runner;
#[doc(hidden)]
pub mod stats;
pub mod store;
pub mod tree;

pub use calibrate::failure::{Category, Failure};
pub use calibrate::feedback::Feedback;
pub use calibrate::fit::{Fit, FitOptions};
pub use calibrate::measurement::Measurement;
pub use calibrate::sweep::{Sweep, SweepObserver, SweepOptions, SweepOutcome, SweepSettings};
pub use calibrate::workload::{RunOptions, Runnable, Spec, Workload};
pub use host::machine::Machine;
pub use model::observation::{Observation, Outcome, Peak};
pub use model::units::Bytes;
