//! The request's way is composed in one place: a stage does not import a later one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// In request order.
const STAGES: [&str; 8] = ["listener", "identity", "route", "authorize", "retry", "balance", "connect", "exchange"];

/// The names that follow `crate::` in a source text, also inside `crate::{a, b::c}`. Comments do not count.
fn imports(source: &str) -> Vec<String> {
    let code: String = source.lines().map(|l| l.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push(name(rest));
            continue;
        };
        let (mut depth, mut start) = (0, true);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                _ if start && !c.is_whitespace() => {
                    found.push(name(&group[i..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// `a stage` and `the later one that it imports`.
fn violations(stage: &str, source: &str) -> Vec<String> {
    let own = STAGES.iter().position(|s| *s == stage).expect("a stage");
    let later = |name: &String| STAGES[own + 1..].contains(&name.as_str());
    imports(source).into_iter().filter(later).map(|name| format!("{stage} imports {name}")).collect()
}

fn sources(stage: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![src.join(format!("{stage}.rs"))];
    let mut folders = vec![src.join(stage)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    // Tests may compose stages as they like.
    files.retain(|f| f.is_file() && f.file_name().is_some_and(|n| n != "tests.rs"));
    files
}

#[test]
fn no_stage_imports_a_later_one() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for stage in STAGES {
        for file in sources(stage) {
            seen += 1;
            let text = fs::read_to_string(&file).expect("readable");
            wrong.extend(violations(stage, &text).into_iter().map(|v| format!("{}: {v}", file.display())));
        }
    }
    assert!(seen >= 2, "route and authorize at least exist");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_planted_import_of_a_later_stage_is_caught() {
    let file = &sources("route")[0];
    let clean = fs::read_to_string(file).expect("readable");
    assert!(violations("route", &clean).is_empty());
    for planted in [
        "use crate::balance::Pick;",
        "use crate::{config, connect::{Pool, Link}};",
        "fn f() { crate::exchange::run() }",
        "pub(crate) use crate::authorize as a;",
        "use crate::{\n    tables,\n    retry,\n};",
    ] {
        assert_eq!(violations("route", &format!("{clean}\n{planted}\n")).len(), 1, "{planted}");
    }
    assert!(violations("route", "// use crate::balance;\nuse crate::identity::Peer;").is_empty());
}
