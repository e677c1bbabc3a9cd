//! Detects commands that delegate their work to processes that are not their descendants: of a container engine, a
//! service manager or a batch system.

/// A client that delegates work to a daemon or another machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handoff {
    /// The client and its subcommand, such as `docker run`.
    pub client: String,
    /// The recipient of the work.
    pub to: Recipient,
}

/// A recipient of delegated work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// A container engine.
    Engine,
    /// systemd.
    ServiceManager,
    /// Slurm.
    BatchSystem,
    /// Kubernetes.
    Cluster,
    /// Another machine. Only worth a note, because `ssh` is part of many commands.
    OtherMachine,
}

impl Handoff {
    /// Why a peak is a lower bound.
    pub fn reason(&self) -> String {
        let to = match self.to {
            Recipient::Engine => "a container engine, whose containers are",
            Recipient::ServiceManager => "systemd, whose services are",
            Recipient::BatchSystem => "Slurm, whose steps are",
            Recipient::Cluster => "Kubernetes, whose pods are",
            Recipient::OtherMachine => "another machine, whose processes are",
        };
        format!("`{}` delegates its work to {to} outside the run's cgroup", self.client)
    }

    /// What to measure instead.
    pub const fn remedy(&self) -> &'static str {
        match self.to {
            Recipient::Engine => "measure the container itself: `highwater run --image IMAGE -- COMMAND`",
            Recipient::ServiceManager => "run the command itself, without systemd-run",
            Recipient::BatchSystem => "start highwater in the job or step: `srun highwater run -- COMMAND`",
            Recipient::Cluster => {
                "run it as a pod that is measured: `highwater run --on kubernetes --image IMAGE -- COMMAND`"
            }
            Recipient::OtherMachine => "start highwater on that machine: `ssh HOST highwater run -- COMMAND`",
        }
    }

    /// Finds the client in a command, or in the script of a shell with `-c`.
    pub fn find(command: &[String]) -> Option<Self> {
        let name = name(command.first()?);
        if ["sh", "bash", "dash", "ash", "zsh", "ksh"].contains(&name) {
            let text = command.iter().skip_while(|word| !is_c(word)).nth(1)?;
            return in_text(text);
        }
        in_words(&command.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// Whether a word is `-c` of a shell, also combined with other letters, as in `-ec`.
fn is_c(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|letters| letters.ends_with('c') && !letters.starts_with('-'))
}

fn name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// Searches the simple commands of a shell script, as far as they are plain words.
fn in_text(text: &str) -> Option<Handoff> {
    text.split([';', '&', '|', '\n', '(', ')', '{', '}', '`']).find_map(|simple| {
        let words = simple.split_whitespace().map(|word| word.trim_matches(['"', '\'']));
        // Variables and words such as `exec` may precede the program.
        let prefixes = ["exec", "then", "do", "else", "if", "while", "until", "!", "time", "nohup", "setsid", "env"];
        let words: Vec<&str> = words.skip_while(|word| prefixes.contains(word) || word.contains('=')).collect();
        in_words(&words)
    })
}

/// Subcommands of container engines and of kubectl that end the search for one that starts something: a word before the
/// subcommand may be an option's value, and there are too many options to list.
const OTHER_SUBCOMMANDS: [&str; 36] = [
    "attach", "commit", "cp", "create", "delete", "describe", "diff", "events", "export", "get", "history", "images",
    "import", "info", "inspect", "kill", "load", "login", "logs", "network", "pause", "port", "ps", "pull", "push",
    "rm", "rmi", "save", "search", "stats", "stop", "system", "tag", "top", "version", "volume",
];

/// Subcommands that start something, or contain subcommands that do.
const STARTING: [&str; 10] =
    ["run", "start", "exec", "build", "up", "apply", "container", "compose", "buildx", "image"];

fn in_words(words: &[&str]) -> Option<Handoff> {
    let (program, arguments) = words.split_first()?;
    let program = name(program);
    let is_known = |word: &str| STARTING.contains(&word) || OTHER_SUBCOMMANDS.contains(&word);
    let subcommands: Vec<&str> = match program {
        "docker" | "podman" | "nerdctl" | "docker-compose" | "podman-compose" | "kubectl" => {
            // A word after an option may be its value, as in `--log-level info`, unless it is one of the starting
            // subcommands.
            let after_option = |index: usize| {
                index
                    .checked_sub(1)
                    .is_some_and(|before| arguments[before].starts_with('-') && !arguments[before].contains('='))
            };
            let is_meant = |index: &usize| STARTING.contains(&arguments[*index]) || !after_option(*index);
            let known = (0..arguments.len()).filter(|index| is_known(arguments[*index])).filter(is_meant);
            known.map(|index| arguments[index]).collect()
        }
        _ => arguments.iter().filter(|word| !word.starts_with('-')).copied().collect(),
    };
    let found = |client: String, to| Some(Handoff { client, to });
    let mut options = arguments.iter().take_while(|word| word.starts_with('-'));
    let only_asks = options.any(|word| ["--help", "--version", "-h", "-V"].contains(word));
    match (program, subcommands.as_slice()) {
        ("docker" | "podman" | "nerdctl", [what @ ("run" | "start" | "exec" | "build"), ..]) => {
            found(format!("{program} {what}"), Recipient::Engine)
        }
        ("docker" | "podman" | "nerdctl", [group @ ("container" | "compose" | "buildx" | "image"), what, ..])
            if ["run", "start", "exec", "up", "build"].contains(what) =>
        {
            found(format!("{program} {group} {what}"), Recipient::Engine)
        }
        ("docker-compose" | "podman-compose", [what @ ("run" | "start" | "exec" | "up"), ..]) => {
            found(format!("{program} {what}"), Recipient::Engine)
        }
        ("systemd-run", [_, ..]) if !only_asks => found(program.to_owned(), Recipient::ServiceManager),
        ("sbatch" | "srun", [_, ..]) if !only_asks => found(program.to_owned(), Recipient::BatchSystem),
        ("kubectl", [what @ ("run" | "create" | "apply"), ..]) => {
            found(format!("{program} {what}"), Recipient::Cluster)
        }
        ("ssh", [_, ..]) => found(program.to_owned(), Recipient::OtherMachine),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(command: &str) -> Option<String> {
        let words: Vec<String> = command.split('~').map(str::to_owned).collect();
        Handoff::find(&words).map(|handoff| handoff.client)
    }

    #[test]
    fn clients_that_start_work_elsewhere_are_found() {
        for (command, expected) in [
            ("docker~run~--rm~alpine", "docker run"),
            ("/usr/bin/docker~-H~unix:///x.sock~run~alpine", "docker run"),
            ("docker~--context=far~container~exec~it~ls", "docker container exec"),
            ("docker~compose~-f~a.yml~up", "docker compose up"),
            ("docker~build~.", "docker build"),
            ("docker~--log-level~info~run~x", "docker run"),
            ("srun~sort~-h~x", "srun"),
            ("systemd-run~--scope~du~-h", "systemd-run"),
            ("podman~start~it", "podman start"),
            ("systemd-run~--scope~-p~MemoryMax=1G~make", "systemd-run"),
            ("sbatch~job.sh", "sbatch"),
            ("kubectl~-n~there~apply~-f~pod.yaml", "kubectl apply"),
            ("ssh~there~make", "ssh"),
            ("sh~-c~cd /tmp && docker run -d tiny", "docker run"),
            ("bash~-ec~if true; then exec nerdctl run tiny; fi", "nerdctl run"),
            ("sh~-c~DOCKER_HOST=unix:///x docker run tiny", "docker run"),
        ] {
            assert_eq!(client(command).as_deref(), Some(expected), "{command}");
        }
    }

    #[test]
    fn other_commands_are_left_alone() {
        for command in [
            "docker~ps",
            "docker~ps~--filter~name=run",
            "docker~logs~run",
            "docker~images",
            "podman~inspect~it",
            "kubectl~get~pods",
            "git~fetch",
            "systemd-run~--version",
            "srun~--help",
            "python3~docker~run",
            "sh~-c~echo docker; ls",
            "sh~run.sh",
            "ssh",
            "sh",
            "grep~docker run~file",
        ] {
            assert_eq!(client(command), None, "{command}");
        }
    }
}
