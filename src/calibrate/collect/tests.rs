use super::*;
use crate::model::observation::PodFacts;
use crate::model::timestamp::Timestamp;
use crate::runner::{Contained, End, Finished};

fn finished(pod: &PodFacts) -> Finished {
    let container = serde_json::from_str(r#"{"image": "i", "engine": {"name": "Kubernetes"}}"#).unwrap();
    Finished {
        contained: Some(Contained {
            container,
            logs: None,
            wall: None,
            oom_killed: false,
            timed_out: None,
            pod: Some(pod.clone()),
        }),
        ..Finished::new(End::Exited(0), Reading::Unsupported)
    }
}

/// A pod of this name, with annotations and one run if it has ended.
fn pod(name: &str, has_ended: bool, annotations: &[(&str, &str)]) -> PodEvent {
    let facts = PodFacts { uid: Some(name.to_owned()), ..PodFacts::new(name, "n") };
    let run = ProductionRun {
        finished: finished(&facts),
        pod: Some(facts),
        batch: None,
        command: vec!["seg".to_owned()],
        annotations: Vec::new(),
        started_at: Timestamp::UNIX_EPOCH,
    };
    let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    PodEvent::Pod(Box::new(ProductionPod {
        uid: name.to_owned(),
        name: name.to_owned(),
        annotations: annotations.collect(),
        runs: if has_ended { vec![run] } else { Vec::new() },
        missing: if has_ended { Vec::new() } else { vec![Missing::new("still running", "")] },
        is_live: !has_ended,
    }))
}

#[test]
fn a_run_is_recorded_once_also_by_another_collector() {
    let mut collector = Collector::default();
    let records = collector.take(pod("a", true, &[]));
    assert_eq!((records.len(), collector.take(pod("a", true, &[])).len()), (1, 0));
    let summary = collector.summary();
    assert_eq!((summary.added, summary.already, summary.without_sizes), (1, 0, 1));
    let mut later = Collector::default();
    later.note(&records[0]);
    assert!(later.take(pod("a", true, &[])).is_empty() && later.take(pod("a", true, &[])).is_empty());
    assert_eq!((later.summary().added, later.summary().already), (0, 1));
    assert_eq!(later.take(pod("b", true, &[])).len(), 1);
}

#[test]
fn a_pod_that_runs_is_missing_until_its_end() {
    let mut collector = Collector::default();
    collector.take(pod("a", false, &[]));
    assert_eq!(collector.summary().missing[0].0, "still running");
    collector.take(pod("a", true, &[]));
    assert_eq!(collector.summary().missing, []);
}

#[test]
fn a_pod_that_disappears_between_two_watches_is_named() {
    let mut collector = Collector::default();
    for event in [PodEvent::Listing, pod("a", false, &[]), pod("b", false, &[]), PodEvent::Listed] {
        collector.take(event);
    }
    for event in [PodEvent::Listing, pod("b", false, &[]), PodEvent::Listed] {
        collector.take(event);
    }
    let missing: Vec<_> =
        collector.summary().missing.into_iter().map(|(reason, tally)| (reason, tally.first)).collect();
    let expected = [("deleted while the API server could not be watched", "a"), ("still running", "b")];
    assert_eq!(missing, expected.map(|(reason, name)| (reason, vec![name.to_owned()])));
}

#[test]
fn parameters_make_cells_whose_runs_are_numbered() {
    let annotations = [("highwater/task", "seg"), ("highwater/input.scans", "5"), ("highwater/parameter.level", "2")];
    let mut collector = Collector::default();
    let mut cells = ["a", "b"].map(|name| collector.take(pod(name, true, &annotations)).remove(0).sweep.unwrap());
    assert_eq!((cells[0].cell.as_str(), cells[0].run, cells[1].run), ("seg,i,scans=5,level=2", 1, 2));
    cells[1].run = 1;
    assert_eq!(cells[0], cells[1]);
}

#[test]
fn a_bad_annotation_is_named_and_the_run_is_recorded() {
    let mut collector = Collector::default();
    let records = collector.take(pod("a", true, &[("highwater/input.scans", "much"), ("other/input.scans", "5")]));
    assert_eq!(records[0].inputs, []);
    let (reason, tally) = collector.summary().missing.remove(0);
    assert_eq!((reason, tally.count), (PROBLEM, 1));
    assert!(tally.first[0].contains("highwater/input.scans: found `much`"), "{tally:?}");
}
