//! The report in a browser, as users see it.

use std::path::PathBuf;

use serde_json::json;

use super::driver::Browser;
use super::{Folder, segment};

/// The widths of a phone and a desktop, and both colour schemes.
const LOOKS: [(u32, bool); 4] = [(400, false), (400, true), (1280, false), (1280, true)];

/// Errors logged by the browser, and requests other than for the page itself.
fn troubles(browser: &Browser) -> Vec<String> {
    let complaints = browser.log("browser").into_iter().map(|entry| entry["message"].to_string());
    let requests = browser.log("performance").into_iter().filter_map(|entry| {
        let message: serde_json::Value = serde_json::from_str(entry["message"].as_str()?).unwrap();
        let message = &message["message"];
        let is_request = message["method"] == "Network.requestWillBeSent";
        let of_report = message["params"]["documentURL"].as_str().is_some_and(|url| url.starts_with("file:"));
        let is_page = message["params"]["type"] == "Document";
        (is_request && of_report && !is_page).then(|| message["params"]["request"]["url"].to_string())
    });
    complaints.chain(requests).collect()
}

#[test]
fn the_report_looks_right_on_a_telephone_and_on_a_desk_in_both_schemes() {
    let Some(browser) = Browser::start() else {
        crate::harness::skip("there is no chromedriver (Debian's chromium-driver)");
        return;
    };
    let folder = Folder::new();
    let page = folder.html(&segment(), "report.html");
    let shots = std::env::var_os("HIGHWATER_SCREENSHOTS").map(PathBuf::from);
    for (width, dark) in LOOKS {
        browser.open(&page, width, dark);
        let complaints = browser.run(include_str!("looks.js"));
        assert_eq!(complaints, json!([]), "{width} px, dark: {dark}");
        let background = browser.run("return getComputedStyle(document.body).backgroundColor");
        assert_eq!(background == "rgb(20, 23, 28)", dark, "{background}");
        assert_eq!(troubles(&browser), Vec::<String>::new(), "{width} px, dark: {dark}");
        if let Some(shots) = &shots {
            let scheme = if dark { "dark" } else { "light" };
            std::fs::write(shots.join(format!("{width}-{scheme}.png")), browser.screenshot()).unwrap();
        }
    }
}

/// The number of pages of a PDF.
fn pages(pdf: &[u8]) -> usize {
    let (page, tree) = (b"/Type /Page", b"/Type /Pages");
    let count = |what: &[u8]| pdf.windows(what.len()).filter(|window| *window == what).count();
    count(page) - count(tree)
}

#[test]
fn tables_sort_by_number_and_by_name() {
    let Some(browser) = Browser::start() else {
        crate::harness::skip("there is no chromedriver (Debian's chromium-driver)");
        return;
    };
    let folder = Folder::new();
    browser.open(&folder.html(&segment(), "report.html"), 1280, false);
    let sorted_by = |column: u32| {
        browser.run(&format!(
            "const table = document.querySelector('table.runs'), head = table.tHead.rows[0].cells[{column}];
             head.firstChild.focus();
             if (document.activeElement !== head.firstChild) return 'not reached by the keyboard';
             head.firstChild.click();
             const rows = [...table.tBodies[0].rows].map((row) => row.cells[{column}]);
             return [head.ariaSort, rows.map((cell) => cell.dataset.v === undefined ? cell.textContent : +cell.dataset.v)];"
        ))
    };
    for expected in ["ascending", "descending"] {
        let peaks = sorted_by(2);
        assert_eq!(peaks[0], expected);
        let peaks: Vec<f64> = peaks[1].as_array().unwrap().iter().map(|peak| peak.as_f64().unwrap()).collect();
        assert_eq!(peaks.len(), 30);
        assert!(if expected == "ascending" { peaks.is_sorted() } else { peaks.iter().rev().is_sorted() }, "{peaks:?}");
    }
    let names = sorted_by(0);
    let first: Vec<&str> = names[1].as_array().unwrap().iter().take(4).map(|name| name.as_str().unwrap()).collect();
    assert_eq!(first, ["2 MiB #1", "2 MiB #2", "2 MiB #3", "6 MiB #1"]);
    assert_eq!(troubles(&browser), Vec::<String>::new());
}

#[test]
fn the_report_is_there_without_scripts_and_on_paper() {
    let Some(browser) = Browser::start() else {
        crate::harness::skip("there is no chromedriver (Debian's chromium-driver)");
        return;
    };
    let folder = Folder::new();
    let page = folder.html(&segment(), "report.html");
    // The page contains no scripts; this one only inspects it.
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, after) = text.rsplit_once("<script>").unwrap();
    let (_, after) = after.split_once("</script>").unwrap();
    let silent = folder.write("silent.html", &format!("{before}{after}"));
    browser.open(&silent, 1280, false);
    let all = "return document.querySelectorAll('table.runs tbody tr').length + ' ' + document.querySelector('.verdict').innerText.length";
    let found = browser.run(all);
    let (rows, letters) = found.as_str().unwrap().split_once(' ').unwrap();
    assert_eq!(rows, "30");
    assert!(letters.parse::<u32>().unwrap() > 60);
    assert_eq!(browser.run(include_str!("looks.js")), json!([]));
    let dark_paper = json!({"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    browser.devtools("Emulation.setEmulatedMedia", &dark_paper);
    let background = browser.run("return getComputedStyle(document.body).backgroundColor");
    assert_eq!(background, "rgb(255, 255, 255)");
    let printed = browser.print();
    assert!(printed.len() > 10_000);
    assert_eq!(pages(&printed), 4, "verdict, plots, rules and cases on three pages, and the runs");
    let shown = |what: &str| {
        browser.run(&format!("return [...document.querySelectorAll('{what}')].some((each) => each.checkVisibility())"))
    };
    assert_eq!((shown(".json"), shown(".command")), (json!(false), json!(true)), "what only serves on a screen");
}
