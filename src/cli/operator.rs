//! `highwater operator`: writes a task.json that runs a program as an operator of Kaapana.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use highwater::calibrate::fit::check_document;
use highwater::model::document::Source;
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
        output::say(&format!(
            "highwater: wrote {path}: measure it with `highwater sweep {path} --input-access private`"
        ));
    }
    Ok(Exit::Done)
}

fn task(args: &OperatorArgs) -> Result<Value, Failure> {
    // The sizes are recorded as this rule counts them. As a rule for requests it sets no limit.
    let rule = json!({ "complexity": "n", "type": "request", "mode": "max_item_sum", "target_dir": args.in_dir });
    let mut mounts = vec![json!({ "name": "batch", "mounted_path": "/data/batch", "scale_rule": rule })];
    let mut volumes = vec![volume("batch", &args.batch)?];
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
