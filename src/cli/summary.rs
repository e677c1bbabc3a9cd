//! The result of a run as a table.

use highwater::model::observation::{Breakdown, Container, Exactness, Gpu, Observation, Peak, ProcessSize, Warning};
use highwater::model::reading::Reading;
use highwater::model::units::{Bytes, duration};

use super::table::wrapped;

/// Renders one run, a line per fact; the file of the peak only where `verbose` asks for it.
pub(crate) fn render(observation: &Observation, heading: Option<&str>, width: usize, verbose: bool) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    rows.push(("peak", peak(&observation.peak)));
    match &observation.peak {
        Reading::Value(Peak { exactness: Exactness::LowerBound { reason, remedy }, upper_bound, .. }) => {
            rows.push(("", reason.clone()));
            rows.extend(upper_bound.as_ref().map(|most| ("", format!("upper bound from {}", most.file.display()))));
            rows.push(("", format!("to get exact peaks: {remedy}")));
        }
        Reading::Value(Peak { file: Some(file), .. }) if verbose => {
            rows.push(("", format!("read from {}", file.display())))
        }
        Reading::Value(_) | Reading::Unsupported | Reading::Gone => {}
    }
    if let Some(container) = &observation.container {
        rows.extend(container_rows(container));
    }
    if let Reading::Value(breakdown) = observation.breakdown {
        rows.push(("of which", parts(&breakdown)));
        // If it is much, a note says so.
        let is_noted = observation.warnings.iter().any(|warning| matches!(warning, Warning::PeakBetweenSamples { .. }));
        if let Some(missing) = observation.between_samples().filter(|_| !is_noted) {
            rows.push(("", format!("{missing} of the peak occurred between samples and is not included")));
        }
    }
    if !observation.largest_processes.is_empty() {
        rows.push(("processes", processes(&observation.largest_processes)));
    }
    if let Reading::Value(Some(limit)) = observation.limit.effective {
        let censored =
            if observation.censored { ", reached: the peak is censored (the task may need more)" } else { "" };
        rows.push(("limit", format!("{limit}{censored}")));
    } else if observation.censored {
        rows.push(("censored", "out of memory: the task may need more than this peak".to_owned()));
    }
    rows.extend(gpu_rows(observation));
    rows.push(("outcome", observation.outcome.words()));
    rows.push(("time", times(observation)));
    rows.extend(observation.notes().map(|note| ("note", note)));
    let mut text = heading.map(|heading| format!("{heading}\n")).unwrap_or_default();
    for (name, value) in rows {
        push_row(&mut text, name, &value, width);
    }
    text
}

/// One run of several on one line.
pub(crate) fn line(observation: &Observation, heading: &str) -> String {
    let peak = observation.peak.as_ref().value().map_or_else(|| "no peak".to_owned(), Peak::words);
    format!("{heading}: {peak}, {}, {}", observation.outcome.words(), duration(observation.wall_us))
}

/// Summarises several runs of one task: the spread of those that succeeded.
pub(crate) fn render_several<'a>(observations: impl ExactSizeIterator<Item = &'a Observation>) -> String {
    let runs = observations.len();
    let good: Vec<_> = observations.filter(|run| run.outcome.succeeded()).collect();
    let peaks: Vec<&Peak> = good.iter().filter_map(|run| run.peak.as_ref().value()).collect();
    let lower_bounds = peaks.iter().filter(|peak| matches!(peak.exactness, Exactness::LowerBound { .. })).count();
    let mut peaks = peaks;
    peaks.sort_unstable_by_key(|peak| peak.bytes);
    let (Some(least), Some(most), Some(median)) = (peaks.first(), peaks.last(), peaks.get(peaks.len() / 2)) else {
        return format!("{runs} runs, none of which succeeded with a peak");
    };
    let failed = match runs - good.len() {
        0 => String::new(),
        failed => format!(" ({failed} failed and are excluded)"),
    };
    let bounds = if lower_bounds > 0 { format!("; {lower_bounds} of them lower bounds") } else { String::new() };
    let words = |peak: &Peak| if peak.is_below_resolution() { peak.words() } else { peak.bytes.to_string() };
    if most.is_below_resolution() {
        return format!("{runs} runs{failed}: all peaks {}", most.words());
    }
    format!("{runs} runs{failed}: peaks from {} to {}, median {}{bounds}", words(least), words(most), words(median))
}

fn peak(peak: &Reading<Peak>) -> String {
    match peak {
        Reading::Value(peak) => match peak.exactness {
            Exactness::Exact { error_bound_bytes } if peak.bytes <= error_bound_bytes => {
                format!("{}   the resolution of {}", peak.words(), peak.source.words())
            }
            Exactness::Exact { error_bound_bytes } => {
                format!("{}   exact, at most {error_bound_bytes} too high: {}", peak.words(), peak.source.words())
            }
            Exactness::LowerBound { .. } => format!("{}   lower bound: {}", peak.words(), peak.source.words()),
        },
        Reading::Unsupported => "unknown: this machine cannot measure it".to_owned(),
        Reading::Gone => "unknown: the task was gone before it could be measured".to_owned(),
    }
}

pub(crate) fn parts(breakdown: &Breakdown) -> String {
    let parts =
        [("anon", breakdown.anon), ("file", breakdown.file), ("shmem", breakdown.shmem), ("kernel", breakdown.kernel)];
    let known: Vec<String> =
        parts.iter().filter_map(|(name, part)| part.value().map(|part| format!("{name} {part}"))).collect();
    format!("{}   at {}, with {} in use", known.join(", "), duration(breakdown.at_us), breakdown.current)
}

/// The largest processes by anonymous memory; those that round to zero in the unit of the largest are omitted.
fn processes(largest: &[ProcessSize]) -> String {
    let most = largest.first().map_or(Bytes::ZERO, |process| process.anon);
    let shown = largest.iter().filter(|process| process.anon.0 >= most.0 / 1000);
    let words: Vec<String> =
        shown.map(|process| format!("{} (process {}) {}", process.name, process.pid, process.anon)).collect();
    format!("{}   anonymous memory of the largest", words.join(", "))
}

fn container_rows(container: &Container) -> Vec<(&'static str, String)> {
    let engine = &container.engine;
    let version = engine.version.as_deref().unwrap_or("of unknown version");
    let mut rows = vec![("image", format!("{}   run by {} {version}", container.image, engine.name))];
    if let Some(floor) = container.idle_peak {
        rows.insert(0, ("idle peak", format!("{floor}   peak of an idle container of this image")));
    }
    rows
}

/// The devices that the run used, or one row that says that it was seen on none.
fn gpu_rows(observation: &Observation) -> Vec<(&'static str, String)> {
    let gpus = &observation.gpu;
    let mut rows = Vec::new();
    let is_shown = |gpu: &&Gpu| gpu.was_used() || gpu.peak.as_ref().value().is_none();
    let is_exact =
        |gpu: &Gpu| gpu.peak.as_ref().value().is_some_and(|peak| matches!(peak.exactness, Exactness::Exact { .. }));
    for gpu in gpus.iter().filter(is_shown) {
        let device = format!("{} ({})", gpu.model, gpu.uuid);
        let (peak, why) = match &gpu.peak {
            Reading::Value(peak) => match &peak.exactness {
                Exactness::Exact { .. } => (format!("{}   exact: {}", peak.words(), peak.source.words()), None),
                Exactness::LowerBound { reason, remedy } => {
                    (format!("{}   lower bound: {}", peak.words(), peak.source.words()), Some((reason, remedy)))
                }
            },
            Reading::Unsupported | Reading::Gone => ("unknown: it cannot be measured here".to_owned(), None),
        };
        rows.push(("gpu", peak));
        let others = gpu.others.value().filter(|others| *others > Bytes::ZERO);
        let others = others.map(|others| format!(", on which others had {others}")).unwrap_or_default();
        rows.push(("", format!("on {device}{others}")));
        if let Some((reason, remedy)) = why {
            rows.push(("", reason.clone()));
            rows.push(("", format!("to get exact peaks: {remedy}")));
        }
    }
    // What is fitted is the most on any one GPU.
    let is_lower_bound = observation.gpu_peak().is_some_and(|(_, is_lower_bound)| is_lower_bound);
    if !rows.is_empty() && is_lower_bound && gpus.iter().filter(is_shown).all(is_exact) {
        let unseen = gpus.iter().filter(|gpu| !is_shown(gpu) && !is_exact(gpu));
        let names = unseen.map(|gpu| gpu.uuid.as_str()).collect::<Vec<_>>().join(", ");
        rows.push((
            "",
            format!("the most on any one GPU is a lower bound: {names} was only sampled, and not seen in use"),
        ));
    }
    if rows.is_empty() && !gpus.is_empty() {
        rows.push(("gpu", "not used, as far as was seen".to_owned()));
    }
    rows
}

fn times(observation: &Observation) -> String {
    let wall = duration(observation.wall_us);
    match observation.cpu {
        Reading::Value(cpu) => {
            format!("{wall}, {} of CPU in user mode, {} in the kernel", duration(cpu.user_us), duration(cpu.system_us))
        }
        Reading::Unsupported | Reading::Gone => wall,
    }
}

/// The width of the column of names.
const NAMES: usize = 10;

/// Appends a row whose long value wraps below itself.
pub(crate) fn push_row(text: &mut String, name: &str, value: &str, width: usize) {
    wrapped(text, &format!("{name:<NAMES$}"), value, width.max(NAMES + 20));
}

#[cfg(test)]
mod tests {
    use highwater::model::observation::{PeakSource, UpperBound};

    use super::*;

    #[test]
    fn a_lower_bound_stands_beside_its_upper_bound() {
        let exactness = Exactness::LowerBound { reason: "sampled".to_owned(), remedy: "be root".to_owned() };
        let mut sampled = Peak::new(Bytes::mib(12), PeakSource::SampledProcesses, exactness);
        sampled.upper_bound = Some(UpperBound::new(Bytes::mib(40), "/sys/fs/cgroup/memory.peak"));
        let bounded = peak(&Reading::Value(sampled.clone()));
        assert_eq!(bounded, "12 MiB or more, at most 40 MiB   lower bound: sampled sum of the process tree");
        sampled.upper_bound = None;
        let alone = peak(&Reading::Value(sampled));
        assert_eq!(alone, "12 MiB or more   lower bound: sampled sum of the process tree");
    }
}
