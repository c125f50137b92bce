//! The same request to Python's `os` and `shutil`: results, modes, times and error texts are the same.

use std::process::Command;

use super::*;

/// One request, and how Python carries it out with `a` and `b`.
struct Case {
    rule: Rule,
    python: &'static str,
    source: &'static str,
    destination: &'static str,
}

fn cases() -> Vec<Case> {
    let case = |rule: Rule, python, source, destination| Case { rule, python, source, destination };
    let modes = |action| Rule { filemode: Some(0o604), dirmode: Some(0o711), ..overwriting(action) };
    vec![
        case(rule(Action::Move), "os.rename(a, b)", "in/f", "out/new"),
        case(overwriting(Action::Move), "os.rename(a, b)", "in/f", "out/file"),
        case(overwriting(Action::Move), "os.rename(a, b)", "in/f", "out/link"),
        case(overwriting(Action::Move), "os.rename(a, b)", "in/f", "out/full"),
        case(overwriting(Action::Move), "os.rename(a, b)", "in/d", "out/file"),
        case(overwriting(Action::Move), "os.rename(a, b)", "in/d", "out/empty"),
        case(overwriting(Action::Move), "os.rename(a, b)", "in/d", "out/full"),
        case(rule(Action::Move), "os.rename(a, b)", "in/d", "out/new"),
        case(rule(Action::Move), "os.rename(a, b)", "in/d", "in/d/inner"),
        case(rule(Action::Move), "os.rename(a, b)", "in/none", "out/new"),
        case(rule(Action::Move), "os.rename(a, b)", "in/f", "out/none/new"),
        case(rule(Action::Move), "os.rename(a, b)", "in/f/g", "out/new"),
        case(rule(Action::Move), "os.rename(a, b)", "in/link", "out/new"),
        case(rule(Action::Move), "os.rename(a, b)", "in/fifo", "out/new"),
        case(modes(Action::Move), "os.rename(a, b); os.chmod(b, 0o604)", "in/f", "out/new"),
        case(rule(Action::Copy), "shutil.copy2(a, b)", "in/f", "out/new"),
        case(rule(Action::Copy), "shutil.copy2(a, b)", "in/link", "out/new"),
        case(overwriting(Action::Copy), "shutil.copy2(a, b)", "in/f", "out/file"),
        case(overwriting(Action::Copy), "shutil.copy2(a, b)", "in/f", "out/full"),
        case(overwriting(Action::Copy), "shutil.copy2(a, b)", "in/f", "in/f"),
        case(rule(Action::Copy), "shutil.copy2(a, b)", "in/none", "out/new"),
        case(rule(Action::Copy), "shutil.copy2(a, b)", "in/fifo", "out/new"),
        case(rule(Action::Copy), "shutil.copy2(a, b)", "in/f", "out/none/new"),
        case(rule(Action::Copy), "shutil.copy2(a, b)", "in/f", "out/file/new"),
        case(rule(Action::Copy), "shutil.copy2(a, b)", "in/f/g", "out/new"),
        case(rule(Action::Move), "os.rename(a, b)", "in/f", "out/file/new"),
        case(rule(Action::Copy), "shutil.copytree(a, b)", "in/d", "out/new"),
        case(overwriting(Action::Copy), "shutil.copytree(a, b)", "in/d", "out/file"),
        case(rule(Action::Delete), "os.remove(a)", "in/f", ""),
        case(rule(Action::Delete), "os.remove(a)", "in/link", ""),
        case(rule(Action::Delete), "os.remove(a)", "in/none", ""),
        case(rule(Action::Delete), "os.rmdir(a)", "in/d", ""),
        case(Rule { rec: true, ..rule(Action::Delete) }, "shutil.rmtree(a)", "in/d", ""),
    ]
}

fn scene_for_python() -> Scene {
    let scene = Scene::new();
    scene.write("in/f", "content");
    scene.set_mode("in/f", 0o640);
    scene.link("f", "in/link");
    make_fifo(&scene.path("in/fifo"));
    scene.write("in/d/a/g", "one");
    scene.write("in/d/h", "two");
    scene.link("h", "in/d/link");
    scene.set_mode("in/d/a", 0o1705);
    scene.write("out/file", "old");
    scene.write("out/full/old", "old");
    fs::create_dir(scene.path("out/empty")).unwrap();
    scene.link("file", "out/link");
    scene
}

/// What is there, with times in seconds for what was there before the action.
fn state(scene: &Scene) -> Vec<String> {
    ["in", "out"].into_iter().flat_map(|name| scene.tree(name)).collect()
}

#[test]
fn results_and_texts_are_those_of_python() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: there is no python3");
        return;
    }
    for Case { rule, python, source, destination } in cases() {
        let (ours, theirs) = (scene_for_python(), scene_for_python());
        let outcome = ours.act(&rule, source, destination);
        let our_text =
            outcome.result.as_ref().map_or_else(|error| ours.shorten(&error.to_string()), |_| "done".into());
        let script = format!(
            "import os, shutil, sys\na, b = sys.argv[1:]\ntry:\n    {python}\n    print('done')\n\
             except Exception as error:\n    print(error)"
        );
        let output = Command::new("python3")
            .args(["-I", "-S", "-c", &script])
            .args([theirs.path(source), theirs.path(destination)])
            .output()
            .unwrap();
        let their_text = theirs.shorten(String::from_utf8_lossy(&output.stdout).trim_end());
        // Differs: what is missing is the parent of the destination, and we say so.
        if our_text.contains("directory 'out/none' does not exist") {
            assert!(destination == "out/none/new" && their_text.starts_with("[Errno 2]"), "{their_text}");
            continue;
        }
        let context =
            format!("{python} of {source} to {destination}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(our_text, their_text, "{context}");
        assert_eq!(state(&ours), state(&theirs), "{context}");
        for name in ["out/new", "out/file", "out/new/a/g"] {
            let (ours, theirs) = (ours.path(name), theirs.path(name));
            if fs::symlink_metadata(&ours).is_ok() && rule.action == Action::Copy {
                // Both scenes were made within the same moments; a copy keeps the time, so it is old or new alike.
                let kept = |path: &Path| mtime(path) / 10_000_000_000;
                assert!((kept(&ours) - kept(&theirs)).abs() <= 1, "times of {name}: {context}");
            }
        }
    }
}
