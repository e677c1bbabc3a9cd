//! What a rule costs: to read, to evaluate, to explain. The goal is below 300 ns for reading and evaluating together.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use highwater::model::quantity::Quantity;
use highwater::model::rule::Formula;
use highwater::model::units::Bytes;

/// 300 GB of DICOM files.
const N: Bytes = Bytes(300_000_000_000);

fn read_and_evaluate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rule, read and evaluated");
    // The product of the last two is longer than any machine integer.
    for rule in [
        "n",
        "2*n",
        "1.5*n",
        "2.34375*n",
        ".00000002*n**2",
        "0.000000000000000000001234567890123456*n**3",
        "1.2345678901234567890123456789012345678*n",
    ] {
        group.bench_with_input(BenchmarkId::from_parameter(rule), rule, |bencher, rule| {
            bencher.iter(|| Formula::complexity(black_box(rule)).map(|formula| formula.evaluate(black_box(N))));
        });
    }
    group.finish();
}

fn evaluate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rule, evaluated");
    for rule in ["2*n", "1.5*n", ".00000002*n**2"] {
        let Ok(formula) = Formula::complexity(rule) else { continue };
        group.bench_function(rule, |bencher| bencher.iter(|| formula.evaluate(black_box(N))));
    }
    group.finish();
}

fn explain(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rule, refused and explained");
    for rule in ["2 * n", "n + 100Mi"] {
        group.bench_function(rule, |bencher| bencher.iter(|| Formula::complexity(black_box(rule))));
    }
    group.finish();
}

fn quantity(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("quantity, read and in bytes");
    for quantity in ["512Mi", "1.5Gi", "128974848", "128974848000m", "1e9"] {
        group.bench_function(quantity, |bencher| {
            bencher.iter(|| black_box(quantity).parse::<Quantity>().map(|quantity| quantity.bytes()));
        });
    }
    group.finish();
}

fn briefly() -> Criterion {
    use std::time::Duration;
    Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1))
}

criterion_group!(name = benches; config = briefly(); targets = read_and_evaluate, evaluate, explain, quantity);
criterion_main!(benches);
