use std::{fs, path::PathBuf};

use super::*;

const ANY: &str = r#"[{"type":"insecureAcceptAnything"}]"#;
const REJECT: &str = r#"[{"type":"reject"}]"#;
const SIGNED: &str = r#"[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/x"}]"#;

fn judge(policy: &str, name: &str) -> Result<String, PolicyError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.json");
    fs::write(&path, policy).unwrap();
    let missing = dir.path().join("missing.json");
    judge_native(&name.parse().unwrap(), None, &[missing, path])
}

/// Scopes as containers-policy.json(5) orders them: each `true` one accepts and
/// all others reject.
#[test]
fn the_most_specific_scope_decides() {
    let pin = digest(b"x");
    for (scope, name, accepted) in [
        ("quay.io/a/b:1", "quay.io/a/b:1", true),
        ("quay.io/a/b:2", "quay.io/a/b:1", false),
        ("quay.io/a/b", "quay.io/a/b:1", true),
        ("quay.io/a", "quay.io/a/b:1", true),
        ("quay.io/a", "quay.io/ab/b:1", false),
        ("quay.io", "quay.io/a/b:1", true),
        ("*.io", "quay.io/a/b:1", true),
        ("*.quay.io", "quay.io/a/b:1", false),
        ("*.example.com", "a.b.example.com/x:1", true),
        ("*.com", "a.b.example.com:5000/x:1", true),
        ("a.b.example.com:5000", "a.b.example.com:5000/x:1", true),
        ("a.b.example.com", "a.b.example.com:5000/x:1", false),
        ("docker.io", "alpine", true),
        ("docker.io/library/alpine", "alpine", true),
        ("", "quay.io/a/b:1", true),
    ] {
        let policy = format!(
            r#"{{"default":{REJECT},"transports":{{"docker":{{"{scope}":{ANY}}},"oci":{{"":{ANY}}}}}}}"#
        );
        assert_eq!(judge(&policy, name).is_ok(), accepted, "{scope} {name}");
        // The other way round: the specific rejection beats the general yes.
        let policy =
            format!(r#"{{"default":{ANY},"transports":{{"docker":{{"{scope}":{REJECT}}}}}}}"#);
        let judged = judge(&policy, name);
        assert_eq!(judged.is_err(), accepted, "{scope} {name}");
        if accepted && !scope.is_empty() {
            let text = judged.unwrap_err().to_string();
            assert!(
                text.contains(&format!("says reject for docker scope {scope:?}")),
                "{text}"
            );
        }
        let pinned = format!("quay.io/a/b@{pin}");
        assert!(judge(&policy, &pinned).unwrap().contains(&pin));
    }
}

#[test]
fn only_accept_anything_is_a_yes() {
    let with = |default: &str| format!(r#"{{"default":{default}}}"#);
    let verdict = judge(&with(ANY), "quay.io/a:1").unwrap();
    assert!(
        verdict.contains("policy.json says insecureAcceptAnything for all images"),
        "{verdict}"
    );
    let both = r#"[{"type":"insecureAcceptAnything"},{"type":"sigstoreSigned"}]"#;
    for (default, says) in [
        (REJECT, "says reject for all images (default)"),
        (SIGNED, "says signedBy"),
        (both, "says sigstoreSigned"),
        ("[]", "no policy.json"),
        ("{}", "no policy.json"),
    ] {
        let text = judge(&with(default), "quay.io/a:1")
            .unwrap_err()
            .to_string();
        assert!(text.contains(says), "{text}");
    }
    let twice = r#"{"default":[{"Type":"reject","type":"insecureAcceptAnything"}]}"#;
    for broken in [
        "",
        "{}",
        twice,
        r#"{"default":[{}]}"#,
        r#"{"default":[],"x":1}"#,
    ] {
        let error = judge(broken, "quay.io/a:1").unwrap_err();
        assert!(matches!(error, PolicyError::Malformed { .. }), "{error}");
    }
}

#[test]
fn no_policy_is_a_no() {
    let paths = [
        PathBuf::from("/nowhere/a.json"),
        PathBuf::from("/nowhere/b.json"),
    ];
    let name = "quay.io/a:1".parse().unwrap();
    let text = judge_native(&name, None, &paths).unwrap_err().to_string();
    assert!(text.contains("/nowhere/a.json, /nowhere/b.json"), "{text}");
    assert!(text.contains("pin the image"), "{text}");
    let locked = digest(b"x").parse().ok();
    assert!(
        judge_native(&name, locked, &paths)
            .unwrap()
            .contains("lock")
    );
}

#[test]
fn sources_apply_it_to_native_images() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = usual();
    fixture.write(dir.path());
    let policy = dir.path().join("policy.json");
    fs::write(&policy, format!(r#"{{"default":{REJECT}}}"#)).unwrap();
    let options = SourceOptions {
        spool_dir: dir.path().into(),
        policy_paths: vec![policy.clone()],
        ..SourceOptions::default()
    };
    let lookaside = [SourceRef::Oci {
        path: dir.path().into(),
        reference: None,
    }];
    let sources = Sources::open(&lookaside, options).unwrap();
    let error = sources.resolve(&wanted("localhost/app:1")).unwrap_err();
    assert_eq!(error.failing(), Failing::Denied);
    let text = chain(&error);
    assert!(
        text.contains("accept \"localhost/app:1\" from oci:"),
        "{text}"
    );
    assert!(text.contains("reject"), "{text}");

    let pin = fixture.entries[0]["digest"].as_str().unwrap();
    let found = sources
        .resolve(&wanted(&format!("localhost/app@{pin}")))
        .unwrap();
    assert_eq!(found.image.verdict, format!("pinned by its name to {pin}"));
    assert!(!found.needs_fetch());

    fs::write(&policy, format!(r#"{{"default":{ANY}}}"#)).unwrap();
    let found = sources.resolve(&wanted("localhost/app:1")).unwrap();
    assert!(found.image.verdict.contains("insecureAcceptAnything"));
}
