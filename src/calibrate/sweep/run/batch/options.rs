//! The memory and the options of jobs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::Sweep;
use super::super::jobs::Jobs;
use crate::calibrate::failure::Failure;
use crate::calibrate::sweep::{Forecast, Retry};
use crate::model::units::Bytes;

/// The memory of a job for what is not the task: highwater, the step, and the page cache of both.
const OVERHEAD: Bytes = Bytes(128 << 20);

/// Options of `sbatch` that highwater sets itself, or that would keep it from following the job.
const RESERVED: [&str; 15] = [
    "--array",
    "-a",
    "--chdir",
    "--clusters",
    "-D",
    "--job-name",
    "-J",
    "-M",
    "--output",
    "-o",
    "--parsable",
    "--test-only",
    "--wait",
    "-W",
    "--wrap",
];

/// The command line of a sweep's jobs.
pub(super) struct JobOptions<'a> {
    /// The directory in which the jobs run.
    pub(super) directory: PathBuf,
    /// The options of `sbatch` that are passed on.
    pub(super) options: Vec<String>,
    /// The memory that the user requests.
    mem: Option<Bytes>,
    /// Whether the memory of jobs can be chosen here.
    chooses: bool,
    max_mem: Option<Bytes>,
    pub(super) at_a_time: Option<u32>,
    sweep: &'a Sweep<'a>,
}

impl<'a> JobOptions<'a> {
    pub(super) fn new(sweep: &'a Sweep<'a>, jobs: &Jobs) -> Result<Self, Failure> {
        let mut options = Vec::new();
        let mut mem = None;
        let mut words = jobs.options.iter();
        while let Some(word) = words.next() {
            let name = word.split('=').next().unwrap_or_default();
            // The value of a short option may be attached, as in `-J name` and `-Jname`.
            let short = word.get(..2).filter(|_| !word.starts_with("--")).unwrap_or_default();
            if RESERVED.contains(&name) || RESERVED.contains(&short) || !word.starts_with('-') && options.is_empty() {
                let help = "remove it from --slurm; highwater sets it, or follows the jobs itself";
                return Err(Failure::usage(format!("`{word}` is not an option to pass to sbatch"), help));
            }
            let has_variables = !sweep.options.spec.container.env.is_empty();
            let value = word.split_once('=').map(|(_, value)| value).or(words.as_slice().first().map(String::as_str));
            if name == "--export" && has_variables && !value.is_some_and(|value| value.contains("ALL")) {
                let help = "write --export=ALL,NAME=VALUE, or remove it: --env passes its variables on through sbatch";
                return Err(Failure::usage(
                    format!("`{word}` in --slurm keeps variables of --env from the jobs"),
                    help,
                ));
            }
            if name == "--mem" {
                let value = word.split_once('=').map(|(_, value)| value).or_else(|| words.next().map(String::as_str));
                let amount = value.and_then(amount).ok_or_else(|| {
                    let found = value.unwrap_or_default();
                    let help = "write it as sbatch expects it, such as --mem=2G";
                    Failure::usage(format!("invalid value '{found}' for `--mem` in --slurm: expected an amount"), help)
                })?;
                mem = Some(amount);
                continue;
            }
            options.push(word.clone());
        }
        let chooses = !options.iter().any(|word| word.starts_with("--mem-per-"));
        let at_a_time = sweep.jobs;
        Ok(Self { directory: jobs.directory.clone(), options, mem, chooses, max_mem: jobs.max_mem, at_a_time, sweep })
    }

    /// The memory for a job of a cell: half as much again as its run is expected to need, and what is needed beside it, as a
    /// power of two so that cells share an array.
    pub(super) fn memory(&self, forecast: &Forecast, cell: usize) -> Option<Bytes> {
        if !self.chooses {
            return None;
        }
        let needed = forecast.expected(cell).memory.map(|need| {
            let need = need.0.saturating_add(need.0 / 2).saturating_add(OVERHEAD.0);
            Bytes(need.checked_next_power_of_two().unwrap_or(need))
        });
        self.at_most(needed.max(self.mem))
    }

    /// These cells by the memory of their jobs.
    pub(super) fn groups(
        &self,
        forecast: &Forecast,
        cells: impl Iterator<Item = usize>,
    ) -> BTreeMap<Option<Bytes>, Vec<usize>> {
        let mut groups = BTreeMap::<_, Vec<usize>>::new();
        cells.for_each(|cell| groups.entry(self.memory(forecast, cell)).or_default().push(cell));
        groups
    }

    pub(super) fn at_most(&self, memory: Option<Bytes>) -> Option<Bytes> {
        memory.map(|memory| self.max_mem.map_or(memory, |most| memory.min(most)))
    }

    /// Twice the memory of a job that ran out of it, unless that is more than allowed.
    pub(super) fn doubled(&self, memory: Option<Bytes>, peak: Option<Bytes>) -> Option<Bytes> {
        if !self.chooses || self.sweep.options.limit.is_some() {
            return None;
        }
        let had = memory.or(peak)?;
        let twice = Bytes(had.0.saturating_mul(2)).max(OVERHEAD);
        match self.max_mem {
            Some(most) if twice > most => (had < most).then_some(most),
            _ => Some(twice),
        }
    }

    /// The options of the jobs' highwater.
    pub(super) fn of_highwater(&self, retry: Retry) -> Vec<String> {
        let options = self.sweep.options;
        let mut words = vec!["--retry".to_owned(), retry_word(retry).to_owned()];
        if options.keep_outputs {
            words.push("--keep-outputs".to_owned());
        }
        if let Some(host) = &options.spec.engine.host {
            words.extend(["--host".to_owned(), host.clone()]);
        }
        words
    }
}

fn retry_word(retry: Retry) -> &'static str {
    match retry {
        Retry::Interrupted => "interrupted",
        Retry::OutOfMemory => "oom",
        Retry::Failed => "failed",
        Retry::Never => "never",
    }
}

/// An amount as sbatch reads it: a number of MiB, or with a binary suffix.
fn amount(text: &str) -> Option<Bytes> {
    let text = text.trim_end_matches(['B', 'b', 'i']);
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "K" | "k" => 10,
        "" | "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|bytes| *bytes > 0).map(Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_of_memory_is_read_as_sbatch_reads_it() {
        let amounts = ["512", "512M", "2G", "2GB", "1T", "1024K"].map(|text| amount(text).map(|bytes| bytes.0 >> 20));
        assert_eq!(amounts, [512, 512, 2048, 2048, 1 << 20, 1].map(Some));
        assert_eq!(["", "G", "1.5G", "0", "12X", "99999999999T"].map(amount), [None; 6]);
    }
}
