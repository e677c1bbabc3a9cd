use super::{Operator, OperatorPath};
use crate::model::problem::Flawed;
use crate::model::units::Bytes;

/// An operator whose base class is called with these arguments, in parentheses.
fn class(arguments: &str) -> String {
    format!(
        "from kaapana.operators import KaapanaBaseOperator\n\n\nclass SegmentOperator(KaapanaBaseOperator):\n    \
         \"\"\"Calls super().__init__(ram_mem_mb=1) somewhere.\"\"\"\n\n    def __init__(self, dag, *args, **kwargs):\n        \
         super().__init__{arguments}\n"
    )
}

/// The arguments after they were given 2000 MiB and at most 3000 MiB.
fn edited(arguments: &str) -> String {
    let text = class(arguments);
    let operator = Operator::parse("x.py", &text, None).unwrap();
    let new = operator.edit(Bytes::mib(2000), Bytes::mib(3000)).unwrap().text;
    let (before, after) = text.rsplit_once(arguments).unwrap();
    let new = new.strip_prefix(before).and_then(|new| new.strip_suffix(after));
    new.expect("the rest of the file stays").to_owned()
}

fn refused(text: &str, wanted: Option<&str>) -> Flawed {
    let operator = Operator::parse("x.py", text, wanted);
    operator.and_then(|operator| operator.memory().map(drop)).unwrap_err()
}

/// The message, and the line and column of it.
fn problem(flawed: &Flawed) -> (String, Option<(usize, usize)>) {
    (flawed.problems[0].message.clone(), flawed.line_column(&flawed.problems[0]))
}

#[test]
fn numbers_change_in_place() {
    assert_eq!(
        edited(
            "(\n            dag=dag,\n            ram_mem_mb=1_000,  # (, not enough?\n            ram_mem_mb_lmt=0x1000,\n            **kwargs)"
        ),
        "(\n            dag=dag,\n            ram_mem_mb=2000,  # (, not enough?\n            ram_mem_mb_lmt=3000,\n            **kwargs)"
    );
    assert_eq!(edited("(ram_mem_mb_lmt = None, ram_mem_mb= 7)"), "(ram_mem_mb_lmt = 3000, ram_mem_mb= 2000)");
}

#[test]
fn new_arguments_stand_before_those_that_are_passed_on() {
    assert_eq!(
        edited("(\r\n            name=\"x\",\r\n            *args, **kwargs\r\n        )"),
        "(\r\n            name=\"x\",\r\n            ram_mem_mb=2000,\r\n            ram_mem_mb_lmt=3000,\r\n            *args, **kwargs\r\n        )"
    );
    assert_eq!(edited("(dag=dag, **kwargs)"), "(dag=dag, ram_mem_mb=2000, ram_mem_mb_lmt=3000, **kwargs)");
    // A positional argument may not follow.
    assert_eq!(edited("(*args, dag)"), "(*args, dag, ram_mem_mb=2000, ram_mem_mb_lmt=3000)");
}

#[test]
fn the_request_stands_before_the_limit() {
    assert_eq!(
        edited("(\n\tram_mem_mb=1,  # MB\n\tgpu_mem_mb=2,\n)"),
        "(\n\tram_mem_mb=2000,  # MB\n\tram_mem_mb_lmt=3000,\n\tgpu_mem_mb=2,\n)"
    );
    assert_eq!(edited("(dag, ram_mem_mb_lmt=1)"), "(dag, ram_mem_mb=2000, ram_mem_mb_lmt=3000)");
    assert_eq!(edited("(dag, ram_mem_mb=1,)"), "(dag, ram_mem_mb=2000, ram_mem_mb_lmt=3000,)");
}

#[test]
fn arguments_are_added_after_the_last_one() {
    assert_eq!(edited("()"), "(ram_mem_mb=2000, ram_mem_mb_lmt=3000)");
    assert_eq!(edited("(dag)"), "(dag, ram_mem_mb=2000, ram_mem_mb_lmt=3000)");
    assert_eq!(
        edited("(\n    dag=dag,\n    env={\"a\": 1}  # why, oh\n)"),
        "(\n    dag=dag,\n    env={\"a\": 1},  # why, oh\n    ram_mem_mb=2000,\n    ram_mem_mb_lmt=3000\n)"
    );
    assert_eq!(
        edited("(\n    dag=dag,  # a, b\n)"),
        "(\n    dag=dag,  # a, b\n    ram_mem_mb=2000,\n    ram_mem_mb_lmt=3000,\n)"
    );
    assert_eq!(edited("(dag,\n    name)"), "(dag,\n    name, ram_mem_mb=2000, ram_mem_mb_lmt=3000)");
}

#[test]
fn strings_and_comments_are_not_arguments() {
    let arguments =
        "(name=f\"{x[\"ram_mem_mb=1\"]}), \", doc='''\n), ram_mem_mb=3\n''', # ram_mem_mb=4\n ram_mem_mb=5)";
    assert_eq!(edited(arguments), arguments.replace("mb=5", "mb=2000, ram_mem_mb_lmt=3000"));
}

#[test]
fn a_limit_that_the_platform_gives_anyway_is_not_added() {
    let text = class("(dag, ram_mem_mb=1)");
    let operator = Operator::parse("x.py", &text, None).unwrap();
    assert_eq!(operator.memory().unwrap().limit, Bytes::mib(101));
    let edited = operator.edit(Bytes::mib(1900), Bytes(2000 * (1 << 20) - 5)).unwrap();
    assert_eq!(edited.text, text.replace("dag, ram_mem_mb=1)", "dag, ram_mem_mb=1900)"));
    assert!(
        edited.notes[0].starts_with("`ram_mem_mb_lmt` stays unset: without it, the limit is 2000 MiB"),
        "{edited:?}"
    );
    assert!(edited.notes[1].starts_with("each run takes 1900 slots of its pool"), "{edited:?}");
}

#[test]
fn what_is_not_set_is_the_default_of_the_base_class() {
    let memory = Operator::parse("x.py", class("(dag, **kwargs)"), None).unwrap().memory().unwrap();
    assert_eq!((memory.request, memory.limit), (Bytes::mib(500), Bytes::mib(600)));
    let text = class("(dag, **kwargs)").replace("(KaapanaBaseOperator)", "(OtherOperator)");
    assert_eq!(
        problem(&refused(&text, None)),
        ("`SegmentOperator` does not set `ram_mem_mb`".to_owned(), Some((8, 9)))
    );
}

#[test]
fn computed_memory_is_refused_with_its_place() {
    for value in ["memory", "4 * 1024", "\"4000\"", "4000.0", "-1", "10j"] {
        let text = class(&format!("(\n    ram_mem_mb={value},\n)"));
        let what = if value.starts_with('"') { "a string" } else { "computed" };
        assert_eq!(
            problem(&refused(&text, None)),
            (format!("the value of `ram_mem_mb` is {what}"), Some((9, 16))),
            "{value}"
        );
    }
    let flawed = refused(&class("(pod_resources=resources, ram_mem_mb=1)"), None);
    assert_eq!(problem(&flawed).0, "`pod_resources` replaces `ram_mem_mb` and `ram_mem_mb_lmt`");
}

const DAG: &str = "\
load = LoadOperator(dag=dag)
segment = tools.SegmentOperator(dag=dag, input_operator=load, ram_mem_mb=700)
again = SegmentOperator(dag=dag, ram_mem_mb=800)
load >> segment >> again
";

#[test]
fn one_of_several_operators_is_chosen_by_its_name() {
    let chosen = Operator::parse("dag.py", DAG, Some("segment")).unwrap();
    assert_eq!((chosen.label(), chosen.memory().unwrap().request), ("segment", Bytes::mib(700)));
    let edited = chosen.edit(Bytes::mib(600), Bytes::mib(900)).unwrap();
    assert_eq!(edited.text, DAG.replace("ram_mem_mb=700", "ram_mem_mb=600, ram_mem_mb_lmt=900"));
    assert!(
        edited.notes[0].starts_with("check that SegmentOperator passes `ram_mem_mb_lmt` to its base"),
        "{edited:?}"
    );
    let passed = DAG.replace("ram_mem_mb=700", "**common");
    let edited =
        Operator::parse("dag.py", passed, Some("segment")).unwrap().edit(Bytes::mib(600), Bytes::mib(700)).unwrap();
    assert!(edited.notes[0].ends_with("100 MiB above `ram_mem_mb`, unless `**common` sets it"), "{edited:?}");
    assert!(
        edited.notes[2].starts_with("remove `ram_mem_mb` from `**common`, if it has it: Python refuses"),
        "{edited:?}"
    );
    let flawed = refused(DAG, None);
    assert_eq!(problem(&flawed), ("found 3 operators, expected one".to_owned(), Some((2, 11))));
    let help = flawed.problems[0].help.as_deref().unwrap();
    assert_eq!(help, "name one, as in FILE.py::load: `load` in line 1, `segment` in line 2, `again` in line 3");
    assert_eq!(problem(&refused(DAG, Some("SegmentOperator"))).0, "found 2 operators, expected one");
    let flawed = refused(DAG, Some("segmnt"));
    assert_eq!(flawed.problems[0].help.as_deref(), Some("did you mean `segment`?"));
}

#[test]
fn other_classes_are_not_operators() {
    let text = "class A(Base):\n    def __init__(self):\n        super().__init__(ram_mem_mb=1)\n";
    assert!(problem(&refused(text, None)).0.starts_with("found no operator"));
    let text = "class MyOperator(BaseOperator):\n    def __init__(self):\n        super().__init__(x=1)\n";
    assert!(problem(&refused(text, None)).0.starts_with("found no operator"));
    let text = format!(
        "{text}class B(KaapanaBaseOperator):\n    def __init__(self):\n        KaapanaBaseOperator.__init__(self)\n"
    );
    assert_eq!(Operator::parse("x.py", text, None).unwrap().label(), "B");
}

#[test]
fn what_is_not_python_has_a_place() {
    assert_eq!(problem(&refused("x = 1\ny = (2\n", None)).0, "the file is not valid Python");
    assert_eq!(
        problem(&refused("x = 1\nclass ): pass\n", None)),
        ("the file is not valid Python".to_owned(), Some((2, 1)))
    );
    assert!(problem(&refused("", None)).0.starts_with("found no operator"));
}

#[test]
fn hostile_files_are_refused_soon() {
    let size = 100_000;
    let nested = |open: &str| format!("x = {}", open.repeat(size / open.len()));
    let texts = ["(", "f(", "not ", "[{", "f\"{", "if x:\n", "'''\n", "lambda:", "x[", "({)]", "\\", "#\r", "\t\n \n:"];
    for text in texts.map(nested) {
        let _ = refused(&text, None);
    }
    let large = "# nothing\n".repeat(Operator::MOST_BYTES / 10 + 1);
    assert!(problem(&refused(&large, None)).0.starts_with("the file is larger than 1 MiB"));
}

#[test]
fn a_path_may_name_the_operator() {
    let read = |text: &str| OperatorPath::parse(text).map(|read| (read.path.display().to_string(), read.name));
    assert_eq!(read("a/b.py"), Some(("a/b.py".to_owned(), None)));
    assert_eq!(read("a/b.py::c"), Some(("a/b.py".to_owned(), Some("c".to_owned()))));
    assert_eq!(read("a/b.json::c"), None);
    assert_eq!(read("max(4Gi, 2*n)"), None);
}
