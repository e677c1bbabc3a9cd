//! A sweep whose cells run as job arrays of Slurm: the same program on the other side, one record file per cell. The
//! records are the truth; the queue only says which of them are still to come.

mod options;
mod watch;

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use self::options::JobOptions;
use self::watch::Watch;
use super::jobs::{ARRAYS, Jobs, SLURM};
use super::{Sweep, SweepOutcome, open};
use crate::calibrate::failure::{Category, Failed, Failure};
use crate::calibrate::feedback::Feedback;
use crate::calibrate::monitor::Cancel;
use crate::calibrate::sweep::{Forecast, On, SweepObserver, cpus, floors};
use crate::directory::Directory;
use crate::model::units::Bytes;
use crate::runner::slurm::{self, Submission};
use crate::store::{self, Recorded, index};

/// The directory of the cells' records.
const CELLS: &str = "cells";
/// The directory of the jobs' logs.
const LOGS: &str = "logs";
const SCRIPT: &str = "job.sh";
const LOCK: &str = "lock";

/// Whether the cells of this sweep run on Slurm: as requested, else as the sweep in the directory began.
pub(super) fn is_batch(sweep: &Sweep<'_>) -> Result<bool, Failure> {
    let options = sweep.options;
    let of_directory = || match &options.into {
        Some(into) => Jobs::read(into).map(|jobs| jobs.is_some()),
        None => Ok(false),
    };
    let is_batch = match options.on {
        _ if options.is_of_cells() => false,
        Some(on) => on == On::Slurm,
        None => of_directory()?,
    };
    let given = [
        ("slurm", !options.slurm.is_empty()),
        ("max-mem", options.max_mem.is_some()),
        ("detach", options.detach),
        ("cancel", options.cancel),
    ];
    if let (false, Some((name, _))) = (is_batch, given.iter().find(|(_, given)| *given)) {
        let help = "add --on slurm, or name the directory of a sweep on Slurm with --into";
        return Err(Failure::usage(format!("--{name} has no effect on a sweep on this machine"), help));
    }
    let local = [
        ("until", options.until.is_some()),
        ("max-cost", options.max_cost.is_some()),
        ("memory", options.memory.is_some()),
    ];
    if let (true, Some((name, _))) = (is_batch, local.iter().find(|(_, given)| *given)) {
        let help = "remove it, or run the sweep on this machine with --on local";
        return Err(Failure::usage(format!("--{name} does not work on Slurm: all cells are submitted at once"), help));
    }
    cpus::check(options, &sweep.subject, is_batch)?;
    Ok(is_batch)
}

/// The script of all jobs of a sweep.
fn script(program: &Path, sweep: &Path, staging: Option<&Path>) -> Result<String, Failure> {
    let quoted = |path: &Path| {
        let path = path.to_str().and_then(|path| shlex::try_quote(path).ok().map(|path| path.into_owned()));
        path.ok_or_else(|| {
            let help = "rename the directory";
            Failure::usage("the path of the sweep or of highwater cannot be written into a script", help)
        })
    };
    let staging = match staging {
        Some(path) => format!(" --staging {}/\"$key\"", quoted(path)?),
        None => String::new(),
    };
    let (program, plan) = (quoted(program)?, quoted(&sweep.join(store::PLAN))?);
    let cells = quoted(&sweep.join(SLURM).join(CELLS))?;
    Ok(format!(
        "#!/bin/sh\n\
         # Runs one cell of a sweep: a task of an array that `highwater sweep --on slurm` submits.\n\
         # $1: the file with the keys of the array's cells, one per line; the rest are options of highwater.\n\
         set -eu\n\
         keys=$1\n\
         shift\n\
         key=$(sed -n \"$((SLURM_ARRAY_TASK_ID + 1))p\" \"$keys\")\n\
         [ -n \"$key\" ] || {{ echo \"$keys names no cell for task $SLURM_ARRAY_TASK_ID: the array was given up\" >&2; exit 1; }}\n\
         # With exec, Slurm's signals reach highwater, which then records the run.\n\
         exec {program} sweep --file {plan} --cell \"$key\" --record {cells}/\"$key\".jsonl{staging} --quiet \"$@\"\n"
    ))
}

/// The paths of a sweep on Slurm.
struct Paths {
    /// The absolute path of the sweep.
    sweep: PathBuf,
    logs: PathBuf,
}

impl Paths {
    fn new(sweep: &Path) -> Result<Self, Failure> {
        let sweep = std::path::absolute(sweep).map_err(Failure::host)?;
        let logs = sweep.join(SLURM).join(LOGS);
        Ok(Self { sweep, logs })
    }

    /// The records of a cell.
    fn cell(&self, key: &str) -> PathBuf {
        self.sweep.join(SLURM).join(CELLS).join(format!("{key}.jsonl"))
    }

    fn script(&self) -> PathBuf {
        self.sweep.join(SLURM).join(SCRIPT)
    }

    /// The keys of an array's cells.
    fn keys(&self, array: &str) -> PathBuf {
        self.sweep.join(SLURM).join(ARRAYS).join(array)
    }

    /// An array of this name whose tasks run the cells in its file of keys.
    fn submission<'a>(
        &'a self,
        name: &'a str,
        tasks: usize,
        memory: Option<Bytes>,
        options: &'a JobOptions<'_>,
        of_highwater: Vec<String>,
    ) -> Submission<'a> {
        let mut submission = Submission::new(name, tasks, &options.directory, &self.logs);
        submission.memory = memory;
        submission.at_a_time = options.at_a_time;
        submission.options = &options.options;
        submission.script = vec![self.script().into(), self.keys(name).into()];
        submission.script.extend(of_highwater.into_iter().map(OsString::from));
        submission
    }
}

/// The directories of a sweep on Slurm, locked for one process that submits and watches jobs.
struct Places {
    paths: Paths,
    slurm: Directory,
    arrays: Directory,
    _lock: File,
}

impl Places {
    fn open(sweep: &Path) -> Result<Self, Failure> {
        let paths = Paths::new(sweep)?;
        let failed = |source: std::io::Error| {
            let path = paths.sweep.join(SLURM);
            Failure::host(Failed::to(format!("create {}", path.display()), source))
        };
        let slurm =
            Directory::open_own(&paths.sweep).and_then(|sweep| sweep.create_directory(SLURM)).map_err(failed)?;
        for name in [CELLS, LOGS] {
            slurm.create_directory(name).map_err(failed)?;
        }
        let arrays = slurm.create_directory(ARRAYS).map_err(failed)?;
        let lock = slurm.open_or_create(LOCK, false).map_err(failed)?;
        // Some file systems of clusters do not support locks.
        if matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
            let error = format!("another highwater watches the jobs of {}", paths.sweep.display());
            let help = "wait until it has ended, or end it; the jobs keep running".to_owned();
            return Err(Failure::new(Category::Host, error, Some(help)));
        }
        Ok(Self { paths, slurm, arrays, _lock: lock })
    }
}

impl Sweep<'_> {
    /// Whether the cells run on Slurm.
    ///
    /// # Errors
    /// If options contradict that, or the list of the sweep's jobs is invalid.
    pub fn is_batch(&self) -> Result<bool, Failure> {
        is_batch(self)
    }

    /// The job script and the commands that would submit it.
    ///
    /// # Errors
    /// If the records or jobs of the sweep cannot be read, or an option for `sbatch` cannot be passed on.
    pub fn batch_preview(&self) -> Result<String, Failure> {
        let paths = Paths::new(&self.folder())?;
        let recorded = if paths.sweep.join(store::PLAN).exists() { index(&paths.sweep)?.recorded } else { Vec::new() };
        let jobs = self.jobs(&paths.sweep)?;
        let options = JobOptions::new(self, &jobs)?;
        let program = std::env::current_exe().map_err(Failure::host)?;
        let script = script(&program, &paths.sweep, self.options.staging.as_deref())?;
        let schedule = self.schedule(&self.keys(), &floors::made(self.options, &recorded));
        let cells = (0..self.planned.cells.len()).filter(|cell| schedule.has_more_of(*cell));
        let most = slurm::max_array_size().unwrap_or(slurm::MAX_ARRAY_SIZE);
        let mut text = show(&paths.script(), script.lines());
        let mut number = 0;
        for (memory, cells) in options.groups(&self.batch_forecast(&recorded), cells) {
            for cells in cells.chunks(most) {
                number += 1;
                let name = format!("highwater-{number}");
                text +=
                    &show(&paths.keys(&name), cells.iter().map(|cell| self.planned.cells[*cell].planned.key.as_str()));
                let of_highwater = options.of_highwater(self.options.retry);
                let words = paths.submission(&name, cells.len(), memory, &options, of_highwater).words();
                let words = words.iter().map(|word| {
                    let word = word.to_string_lossy();
                    shlex::try_quote(&word).map_or_else(|_| word.to_string(), |word| word.into_owned())
                });
                text += &format!("sbatch {}\n", words.collect::<Vec<_>>().join(" "));
            }
        }
        Ok(text)
    }

    /// The jobs so far, with the options that were given now.
    fn jobs(&self, folder: &Path) -> Result<Jobs, Failure> {
        let mut jobs = match Jobs::read(folder)? {
            Some(jobs) => jobs,
            None => Jobs::new(std::env::current_dir().map_err(Failure::host)?),
        };
        if !self.options.slurm.is_empty() {
            jobs.options.clone_from(&self.options.slurm);
        }
        jobs.max_mem = self.options.max_mem.or(jobs.max_mem);
        Ok(jobs)
    }

    fn batch_forecast(&self, recorded: &[Recorded]) -> Forecast {
        let mut forecast = self.planned.forecast(self.options);
        self.planned.learn(&mut forecast, recorded);
        forecast
    }

    /// Submits the cells that are missing as job arrays, and watches until their records are there.
    ///
    /// # Errors
    /// If Slurm refuses the jobs, or the records cannot be written. The jobs keep running then.
    pub fn run_batch(
        mut self,
        cancel: &mut dyn Cancel,
        observer: &mut dyn SweepObserver,
        feedback: &dyn Feedback,
    ) -> Result<SweepOutcome, Failure> {
        self.subject.require_inputs()?;
        if self.options.cancel && Jobs::read(&self.folder())?.is_none() {
            let error = format!("the sweep in {} has no jobs to cancel", self.folder().display());
            return Err(Failure::usage(error, "name the directory of a sweep on Slurm with --into"));
        }
        self.require_values()?;
        // Before the directory is created.
        JobOptions::new(&self, &self.jobs(&self.folder())?)?;
        let opened = open(self.options, &mut self.planned, feedback);
        let folder = opened.map_err(|failure| watched(&self.folder()).unwrap_or(failure))?;
        let records = folder.path().to_owned();
        let places = Places::open(&records)?;
        let path = &places.paths.sweep;
        let jobs = self.jobs(path)?;
        // At once: from now on, a resumed sweep runs on Slurm.
        jobs.write(&places.slurm)?;
        if path.starts_with("/tmp") || statfs(path).is_ok_and(|system| system.filesystem_type() == TMPFS_MAGIC) {
            feedback.note(&format!(
                "{} is probably on this machine only; the nodes of the cluster need the directory of the sweep",
                path.display()
            ));
        }
        let options = JobOptions::new(&self, &jobs)?;
        let program = std::env::current_exe().map_err(Failure::host)?;
        let text = script(&program, path, self.options.staging.as_deref())?;
        let written = places.slurm.replace(SCRIPT, text.as_bytes());
        written.map_err(|source| Failure::host(Failed::writing(&places.paths.script(), source)))?;
        let mut watch = Watch::new(&self, (folder, places), jobs, options, (observer, feedback));
        let end = watch.run(cancel);
        watch.observer.ends();
        watch.outcome(end?, records)
    }

    /// The jobs read the plan, which lacks some values: those of variables come from the environment.
    fn require_values(&self) -> Result<(), Failure> {
        match self.options.spec.redact.first() {
            None => Ok(()),
            Some(name) => {
                let error =
                    format!("the jobs would not know the value of `{name}`, because --redact keeps it out of the plan");
                Err(Failure::usage(error, "pass it in a variable with --env, or in a file"))
            }
        }
    }
}

/// That another highwater watches the jobs of a directory that cannot be opened, if that is why.
fn watched(sweep: &Path) -> Option<Failure> {
    Jobs::read(sweep).ok()??;
    Places::open(sweep).err()
}

/// A file as a dry run shows it.
fn show<'a>(path: &Path, lines: impl Iterator<Item = &'a str>) -> String {
    lines.fold(format!("{}:\n", path.display()), |text, line| text + "    " + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_quotes_paths() {
        let text = script(Path::new("/opt/high water/bin"), Path::new("/data/it's"), None).unwrap();
        assert!(text.contains("exec '/opt/high water/bin' sweep --file \"/data/it's/plan.json\""), "{text}");
    }
}
