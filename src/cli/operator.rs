//! `highwater operator`: writes a task.json that runs a program as an operator of Kaapana.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use clap::Args;
use highwater::calibrate::fit::check_document;
use highwater::model::document::Source;
use highwater::model::spelling::nearest;
use serde_json::{Value, json};

use super::exit::Exit;
use super::failure::Failure;
use super::output;

const EXAMPLES: &str = "\
Examples:
  highwater operator data/batch --in-dir scans --out-dir masks --image segment:1 -o task.json
  highwater sweep task.json --input-access private --items 1,2,4,8 --pick smallest -r 3
  highwater fit segment.sweep --write SegmentOperator.py
                                              from a batch to the memory of an operator
  highwater operator data/batch --in-dir scans --out-dir masks -- python3 segment.py
                                              a program without an image, for --runner process

The operator finds its input in DIR/ITEM/IN-DIR and writes into DIR/ITEM/OUT-DIR, which --input-access private keeps out \
of your data. In the container, DIR is /data/batch; WORKFLOW_DIR, BATCH_NAME, BATCHES_INPUT_DIR, OPERATOR_IN_DIR and \
OPERATOR_OUT_DIR are set, DAG_ID, RUN_ID and TASK_ID are the name of the task, and a directory `conf` beside DIR is \
/data/conf. n is the size of IN-DIR in the largest item: the rule in the file only says so, and sets no limit. With \
--pick smallest, that item grows from cell to cell. `sweep` records into NAME.sweep, by the name of the task. Kaapana \
mounts a /dev/shm without a size limit: give `run` and `sweep` a large --shm-size, such as --shm-size 16g, since an engine \
gives a container 64 MiB.";

/// Write a task.json that runs a program on a batch, as an operator of Kaapana would.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct OperatorArgs {
    /// Batch: the directory with one directory per item.
    #[arg(value_name = "DIR")]
    batch: PathBuf,
    /// Directory with the input in each item: OPERATOR_IN_DIR.
    #[arg(long, value_name = "NAME")]
    in_dir: String,
    /// Directory for the output in each item: OPERATOR_OUT_DIR.
    #[arg(long, value_name = "NAME")]
    out_dir: String,
    /// Image of the operator.
    #[arg(long, value_name = "NAME", required_unless_present = "command")]
    image: Option<String>,
    /// Directory that the operator finds at /models.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Name of the task [default: that of the image or the program].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// File to write; stdout by default.
    #[arg(short, long, value_name = "FILE.json")]
    output: Option<PathBuf>,
    /// Command and its arguments, instead of the image's own.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &OperatorArgs) -> Result<Exit, Failure> {
    let text = format!("{:#}\n", task(args)?);
    check_document(&Source::plain("the new document", text.clone())).map_err(|flawed| Failure::flawed(&flawed))?;
    output::data_to(args.output.as_deref(), &text)?;
    if let Some(path) = &args.output {
        let path = path.display();
        let runner = if args.image.is_none() { " --runner process" } else { "" };
        output::say(&format!(
            "highwater: wrote {path}: measure it with `highwater sweep {path} --input-access private{runner}`"
        ));
    }
    Ok(Exit::Done)
}

fn task(args: &OperatorArgs) -> Result<Value, Failure> {
    let mut volumes = vec![volume("batch", &args.batch)?];
    check_directories(args)?;
    // The sizes are recorded as this rule counts them. As a rule for requests it sets no limit.
    let rule = json!({ "complexity": "n", "type": "request", "mode": "max_item_sum", "target_dir": args.in_dir });
    let mut mounts = vec![json!({ "name": "batch", "mounted_path": "/data/batch", "scale_rule": rule })];
    let conf = args.batch.join("..").join("conf");
    let others =
        [("conf", "/data/conf", Some(conf).filter(|conf| conf.is_dir())), ("models", "/models", args.models.clone())];
    for (name, mounted_path, path) in others {
        let Some(path) = path else { continue };
        mounts.push(json!({ "name": name, "mounted_path": mounted_path }));
        volumes.push(volume(name, &path)?);
    }
    let words = args.command.iter().map(|word| utf8(Path::new(word))).collect::<Result<Vec<_>, _>>()?;
    let program = args.image.as_deref().or(words.first().map(String::as_str)).unwrap_or_default();
    let name = args.name.as_deref().unwrap_or_else(|| stem(program));
    let env = [
        ("WORKFLOW_DIR", "/data"),
        ("BATCH_NAME", "batch"),
        // With two slashes, as in the base class. This also keeps `--runner process` from replacing the path here, where
        // it could not do the same in WORKFLOW_DIR.
        ("BATCHES_INPUT_DIR", "//data/batch"),
        ("OPERATOR_IN_DIR", &args.in_dir),
        ("OPERATOR_OUT_DIR", &args.out_dir),
        // Operators name their results after these. The other variables of the base class lead to services.
        ("DAG_ID", name),
        ("RUN_ID", name),
        ("TASK_ID", name),
    ];
    let env: Vec<Value> = env.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let mut template = json!({
        "identifier": name,
        "description": "",
        "inputs": mounts,
        "outputs": [],
        "env": env,
    });
    if !words.is_empty() {
        template["command"] = json!(words);
    }
    let image = args.image.as_deref().unwrap_or("none");
    Ok(json!({ "name": name, "image": image, "taskTemplate": template, "inputs": volumes, "outputs": [], "env": [] }))
}

/// Refuses names that lead out of an item or to the same directory, and a batch without the input.
fn check_directories(args: &OperatorArgs) -> Result<(), Failure> {
    for (option, name) in [("--in-dir", &args.in_dir), ("--out-dir", &args.out_dir)] {
        let mut parts = Path::new(name).components().peekable();
        if parts.peek().is_none() || !parts.all(|part| matches!(part, Component::Normal(_))) {
            let error = format!("{option} is `{name}`, expected a directory in each item of the batch");
            return Err(usage(error, "give a relative path without `.` and `..`, such as scans"));
        }
    }
    if Path::new(&args.in_dir) == Path::new(&args.out_dir) {
        let error = format!("--in-dir and --out-dir are both `{}`", args.in_dir);
        return Err(usage(error, "give --out-dir another name, so that results are not mixed with the input"));
    }
    let (batch, mut items) = (args.batch.display(), directories(&args.batch)?);
    if items.is_empty() {
        let error = format!("the batch {batch} has no items");
        return Err(usage(error, "name a directory as DIR that has one directory per item"));
    }
    if items.iter().any(|item| item.join(&args.in_dir).is_dir()) {
        return Ok(());
    }
    items.sort();
    let found = directories(&items[0])?;
    let names: Vec<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    let error = format!("--in-dir is `{}`, a directory that no item of {batch} has", args.in_dir);
    let help = nearest(&args.in_dir, names).map(|meant| format!("did you mean `{meant}`?"));
    Err(usage(error, &help.unwrap_or_else(|| format!("name a directory in {batch}/ITEM"))))
}

fn usage(error: String, help: &str) -> Failure {
    Failure::new(Exit::Usage, error, Some(help.to_owned()))
}

/// The directories in a directory, those that symbolic links lead to included.
fn directories(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|error| {
        let help = "make it readable, or name another directory";
        usage(format!("failed to list {}: {error}", path.display()), help)
    })?;
    Ok(entries.iter().map(std::fs::DirEntry::path).filter(|path| path.is_dir()).collect())
}

fn volume(name: &str, path: &Path) -> Result<Value, Failure> {
    if !path.is_dir() {
        let error = format!("{} is not a directory", path.display());
        return Err(Failure::new(Exit::Usage, error, Some(format!("name the directory of {name}"))));
    }
    // The document may be written to another directory, and is used from any.
    let path = path.canonicalize().map_err(Failure::host)?;
    Ok(json!({ "name": name, "input": { "host_path": utf8(&path)? } }))
}

fn utf8(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let error = format!("{} is not valid UTF-8, which a document requires", path.display());
        Failure::new(Exit::Usage, error, Some("rename it".to_owned()))
    })
}

/// The last part of a path or of the name of an image, without tag or extension.
fn stem(program: &str) -> &str {
    let last = program.rsplit('/').next().unwrap_or(program);
    last.split([':', '@', '.']).next().filter(|stem| !stem.is_empty()).unwrap_or("operator")
}
