//! What nobody thought of, for all of them.

use proptest::collection::vec;
use proptest::prelude::*;

use super::direvent::{Include, Included};
use super::draft::Draft;
use super::{Kind, Standing};

/// Pieces that configurations are made of, and bytes that they are not.
fn text() -> impl Strategy<Value = Vec<u8>> {
    const WORDS: [&str; 44] = [
        "/in",
        "/srv/a\\ b",
        "IN_CREATE",
        "IN_ALL_EVENTS",
        ",",
        "recursive=false",
        "12",
        " ",
        "\t",
        "\n",
        "$@/$#",
        "$@",
        "$#",
        "$%",
        "$&",
        "$$",
        "$",
        "'",
        "\"",
        "\\",
        "`",
        "$(",
        ")",
        "{",
        "}",
        "{pathname}",
        ";",
        "watcher {",
        "path /in recursive 3;",
        "event create;",
        "command \"x $file\";",
        "environ { set \"A=$file\"; keep B; }",
        "<<EOT\n",
        "EOT",
        "#include a\n",
        "/*",
        "#line 4294967295 \"x\"\n",
        "[Path]\n",
        "PathExists=",
        "PathChanged=%i",
        "MakeDirectory=yes\n",
        "=",
        "\r",
        "|",
    ];
    let word = proptest::sample::select(WORDS.to_vec()).prop_map(|word| word.as_bytes().to_vec());
    let bytes = vec(any::<u8>(), 0..4);
    vec(prop_oneof![8 => word, 1 => bytes], 0..40).prop_map(|parts| parts.concat())
}

fn look(path: &[u8]) -> Standing {
    let kind = if path.len().is_multiple_of(2) { Some(Kind::File) } else { None };
    Standing { kind, is_link: path.len().is_multiple_of(3) }
}

/// The config file of a text, by each of the three.
fn drafts(text: &[u8]) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for user in [None, Some("ann".to_owned())] {
        let table = super::incron::Table { path: b"/t/a\nb".to_vec(), text: text.to_vec(), user };
        drafts.push(Draft::default());
        super::incron::translate(&table, &look, drafts.last_mut().unwrap());
    }
    let find = |wanted: &Include| vec![Included { path: wanted.path.clone(), text: Ok(text.to_vec()) }];
    drafts.push(Draft::default());
    super::direvent::translate(b"d", text, &find, &look, drafts.last_mut().unwrap());
    let unit = super::systemd::Unit {
        name: [&text[..text.len().min(8)], b".path"].concat(),
        parts: vec![(b"u".to_vec(), [b"[Path]\n", text].concat())],
        is_users: false,
        is_placed: true,
        home: None,
    };
    drafts.push(Draft::default());
    super::systemd::translate(&unit, drafts.last_mut().unwrap());
    drafts
}

/// How lines of a config file begin that are not indented.
const BEGINNINGS: [&str; 8] =
    ["#", "import os", "from pyinotifyd import ", "watches", "pyinotifyd = ", "if not os.", "start = ", ")"];

proptest! {
    #[test]
    fn no_text_is_too_much_and_none_gets_out_of_its_comment(text in text()) {
        for draft in drafts(&text) {
            let config = draft.text("x");
            // What Python executes begins in one of few ways, whatever stands in the text.
            for line in config.lines() {
                let indented = line.starts_with("    ");
                let is_known = BEGINNINGS.iter().any(|begin| line.starts_with(begin));
                prop_assert!(line.is_empty() || indented || is_known, "{line}");
                prop_assert!(!line.contains(|letter: char| letter.is_control()), "{line:?}");
            }
            prop_assert_eq!(draft.is_incomplete(), config.contains("\n# ERROR: "));
        }
    }
}
