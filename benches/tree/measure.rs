//! Rounds, and the table they make.

use std::fmt;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::floor::Found;
use super::peers::Peer;

#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    version: String,
    goal: Option<(f64, f64)>,
    costs: Vec<Cost>,
    note: Option<String>,
}

impl Table {
    /// Runs all peers in turn for several rounds after a warm-up round. The others are compared with the first.
    pub(crate) fn measure(rounds: usize, peers: &[Peer]) -> Self {
        let row = |peer: &Peer| Row {
            name: peer.name.to_owned(),
            version: peer.version.clone(),
            goal: peer.goal,
            costs: Vec::new(),
            note: peer.note.as_ref().map(|note| note()),
        };
        let mut rows: Vec<Row> = peers.iter().map(row).collect();
        let expected = (peers[0].run)();
        for round in 0..rounds {
            for (peer, row) in peers.iter().zip(&mut rows).filter(|(peer, _)| round < peer.rounds) {
                let (cost, found) = cost_of(&*peer.run);
                assert!(found.is_none() || found == expected, "{}: {found:?}, not {expected:?}", peer.name);
                row.costs.push(cost);
            }
        }
        Self { rows }
    }
}

fn cost_of(run: &dyn Fn() -> Option<Found>) -> (Cost, Option<Found>) {
    let (cpu, started) = (cpu(), Instant::now());
    let found = run();
    (Cost { wall: started.elapsed(), cpu: self::cpu() - cpu }, found)
}

/// The CPU time of this process and of the children it has waited for.
fn cpu() -> Duration {
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN]
        .into_iter()
        .map(|who| getrusage(who).expect("the kernel counts CPU time"))
        .flat_map(|usage| [usage.user_time(), usage.system_time()])
        .map(|time| Duration::from_micros(time.num_microseconds().unsigned_abs()))
        .sum()
}

impl Row {
    fn shortest(&self, of: impl Fn(&Cost) -> Duration) -> Duration {
        self.costs.iter().map(of).min().unwrap_or_default()
    }

    /// The median of the ratios to `floor` within a round.
    fn median(&self, floor: &Self, of: impl Fn(&Cost) -> Duration) -> f64 {
        let pairs = self.costs.iter().zip(&floor.costs);
        let mut ratios: Vec<f64> =
            pairs.map(|(mine, floor)| of(mine).as_secs_f64() / of(floor).as_secs_f64()).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| peer | version | wall | wall / floor | median | CPU / floor | median | goal |")?;
        writeln!(f, "| --- | --- | --: | --: | --: | --: | --: | --- |")?;
        let floor = &self.rows[0];
        for row in &self.rows {
            let (wall, cpu) = (|cost: &Cost| cost.wall, |cost: &Cost| cost.cpu);
            let ratio =
                |of: &dyn Fn(&Cost) -> Duration| row.shortest(of).as_secs_f64() / floor.shortest(of).as_secs_f64();
            let goal = row.goal.map_or(String::new(), |(most_wall, most_cpu)| {
                let is_met = ratio(&wall) <= most_wall && ratio(&cpu) <= most_cpu;
                format!("{} {most_wall:.2} wall, {most_cpu:.2} CPU", if is_met { "within" } else { "MISSED" })
            });
            writeln!(
                f,
                "| {} | {} | {:.0} ms | {:.2} | {:.2} | {:.2} | {:.2} | {goal}{} |",
                row.name,
                row.version,
                row.shortest(wall).as_secs_f64() * 1e3,
                ratio(&wall),
                row.median(floor, wall),
                ratio(&cpu),
                row.median(floor, cpu),
                row.note.as_deref().unwrap_or("")
            )?;
        }
        Ok(())
    }
}
