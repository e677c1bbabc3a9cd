//! A peak compared with its prediction, as a table.

use highwater::model::comparison::{Compared, Comparison, Verdict};

use super::table::table_within;

/// Renders the table and the thresholds of the verdicts.
pub(crate) fn render(comparison: &Comparison, width: usize) -> String {
    let rows = comparison.amounts.iter().map(|compared| row(compared, comparison)).collect();
    let mut text = table_within(&["Setting", ">Amount", ">Peak", ">Amount/peak", "Verdict"], rows, width);
    if comparison.amounts.iter().any(|compared| compared.amount.is_some()) {
        let thresholds = comparison.thresholds;
        text.push_str(&format!(
            "tight: below {} × the peak; wasteful: above {} × the peak\n",
            thresholds.tight, thresholds.wasteful
        ));
    }
    if comparison.amounts.iter().any(|compared| compared.verdict == Some(Verdict::Censored)) {
        text.push_str("censored: the run reached its limit, so its need is unknown; run it without a limit\n");
    }
    if comparison.amounts.iter().any(|compared| compared.verdict == Some(Verdict::NotVerified)) {
        text.push_str("not verified: the peak is a lower bound; the run may have used more than the amount\n");
    }
    text
}

fn row(compared: &Compared, comparison: &Comparison) -> Vec<String> {
    let at_least = if comparison.lower_bound || comparison.censored { "≥ " } else { "" };
    let (amount, ratio, verdict) = match (compared.amount, compared.verdict) {
        (Some(amount), Some(verdict)) => {
            let at_most = if at_least.is_empty() { "" } else { "≤ " };
            let ratio = compared.ratio.map_or("-".to_owned(), |ratio| format!("{at_most}{ratio:.2}"));
            let known = compared.certain || matches!(verdict, Verdict::Censored | Verdict::NotVerified);
            let doubt = if known { "" } else { " (at this peak)" };
            (amount.to_string(), ratio, format!("{verdict}{doubt}"))
        }
        (Some(_) | None, _) => ("not set".to_owned(), "-".to_owned(), "-".to_owned()),
    };
    let most = comparison.at_most.map_or_else(String::new, |most| format!(", ≤ {most}"));
    vec![compared.target.to_string(), amount, format!("{at_least}{}{most}", comparison.peak), ratio, verdict]
}

#[cfg(test)]
mod tests {
    use highwater::model::comparison::{ObservedPeak, Thresholds};
    use highwater::model::prediction::{Decider, Prediction};
    use highwater::model::units::Bytes;

    use super::*;

    fn compared(peak: ObservedPeak) -> String {
        let by = serde_json::json!(Decider::Resources);
        let prediction: Prediction = serde_json::from_value(serde_json::json!({
            "schema_version": 1,
            "task": {"name": "t", "image": null, "template": null, "digest": "d"},
            "channels": [], "docker": {"limit": {"bytes": 1_073_741_824, "decided_by": by}},
            "kubernetes": {"request": null, "limit": {"asked": 1_073_741_824, "margin": 107_374_183, "written": "1.1Gi",
                "bytes": 1_181_116_007, "decided_by": by}}, "complete": true,
        }))
        .unwrap();
        render(&Comparison::new(&prediction, peak, Thresholds::default()), 80)
    }

    #[test]
    fn a_comparison_is_a_small_table() {
        let exact = ObservedPeak { bytes: Bytes::mib(1000), lower_bound: false, at_most: None, censored: false };
        insta::assert_snapshot!(compared(exact), @"
        Setting              Amount      Peak  Amount/peak  Verdict
        Docker limit          1 GiB  1000 MiB         1.02  tight
        Kubernetes limit    1.1 GiB  1000 MiB         1.13  ok
        Kubernetes request  not set  1000 MiB            -  -
        tight: below 1.05 × the peak; wasteful: above 2 × the peak
        ");
    }

    #[test]
    fn a_lower_bound_and_a_censored_peak_say_so() {
        let lower = ObservedPeak { bytes: Bytes::mib(1000), lower_bound: true, at_most: None, censored: false };
        insta::assert_snapshot!(compared(lower), @"
        Setting              Amount        Peak  Amount/peak  Verdict
        Docker limit          1 GiB  ≥ 1000 MiB       ≤ 1.02  not verified
        Kubernetes limit    1.1 GiB  ≥ 1000 MiB       ≤ 1.13  not verified
        Kubernetes request  not set  ≥ 1000 MiB            -  -
        tight: below 1.05 × the peak; wasteful: above 2 × the peak
        not verified: the peak is a lower bound; the run may have used more than the amount
        ");
        let bounded = ObservedPeak { bytes: Bytes::mib(12), at_most: Some(Bytes::mib(1100)), ..lower };
        insta::assert_snapshot!(compared(bounded), @"
        Setting              Amount                 Peak  Amount/peak  Verdict
        Docker limit          1 GiB  ≥ 12 MiB, ≤ 1.1 GiB      ≤ 85.33  not verified
        Kubernetes limit    1.1 GiB  ≥ 12 MiB, ≤ 1.1 GiB      ≤ 93.87  tight
        Kubernetes request  not set  ≥ 12 MiB, ≤ 1.1 GiB            -  -
        tight: below 1.05 × the peak; wasteful: above 2 × the peak
        not verified: the peak is a lower bound; the run may have used more than the amount
        ");
        insta::assert_snapshot!(compared(ObservedPeak { censored: true, ..lower }), @"
        Setting              Amount        Peak  Amount/peak  Verdict
        Docker limit          1 GiB  ≥ 1000 MiB       ≤ 1.02  censored
        Kubernetes limit    1.1 GiB  ≥ 1000 MiB       ≤ 1.13  censored
        Kubernetes request  not set  ≥ 1000 MiB            -  -
        tight: below 1.05 × the peak; wasteful: above 2 × the peak
        censored: the run reached its limit, so its need is unknown; run it without a limit
        ");
    }
}
