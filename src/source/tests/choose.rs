use serde_json::{Value, json};

use super::{
    super::choose::{Chosen, choose},
    *,
};

fn run(fixture: &Fixture, top: &Value, platform: &str) -> Result<Chosen, SourceError> {
    let top = fixture.blobs[&Fixture::path(top)].clone();
    let platform = platform.parse().unwrap();
    choose(top, &platform, "here", &mut |descriptor| {
        let path = format!("blobs/sha256/{}", descriptor.digest.hex());
        Ok(fixture.blobs[&path].clone())
    })
}

fn image(fixture: &mut Fixture, mark: &str, platform: Option<&str>) -> Value {
    let mut entry = fixture.image(mark, &[tar(&[(mark, b"x")])]);
    entry.as_object_mut().unwrap().remove("platform");
    if let Some(platform) = platform {
        let mut parts = platform.split('/');
        let mut value = json!({"os": parts.next(), "architecture": parts.next()});
        if let Some(variant) = parts.next() {
            value["variant"] = json!(variant);
        }
        entry["platform"] = value;
    }
    entry
}

fn is(chosen: &Chosen, entry: &Value) -> bool {
    digest(&chosen.manifest) == entry["digest"]
}

#[test]
fn exact_wins_then_accepted_then_the_only_unstated() {
    let mut fixture = Fixture::default();
    let v3 = image(&mut fixture, "v3", Some("linux/amd64/v3"));
    let plain = image(&mut fixture, "plain", Some("linux/amd64"));
    let unstated = image(&mut fixture, "unstated", None);
    let unstated_too = image(&mut fixture, "unstated-too", None);
    let index = fixture.index(vec![unstated.clone(), v3.clone(), plain.clone()]);
    assert!(is(&run(&fixture, &index, "linux/amd64").unwrap(), &plain));
    assert!(is(&run(&fixture, &index, "linux/amd64/v3").unwrap(), &v3));
    assert!(is(
        &run(&fixture, &index, "linux/s390x").unwrap(),
        &unstated
    ));
    let index = fixture.index(vec![unstated.clone(), v3.clone()]);
    assert!(is(&run(&fixture, &index, "linux/amd64").unwrap(), &v3));
    let index = fixture.index(vec![unstated.clone(), unstated_too, v3]);
    let text = run(&fixture, &index, "linux/s390x")
        .unwrap_err()
        .to_string();
    assert!(text.contains("linux/s390x"), "{text}");
    assert!(text.contains("linux/amd64/v3"), "{text}");
    assert!(text.contains("of no stated platform"), "{text}");
}

#[test]
fn attestations_and_artifacts_do_not_count() {
    let mut fixture = Fixture::default();
    let good = image(&mut fixture, "good", Some("linux/amd64"));
    let unknown = image(&mut fixture, "unknown", Some("unknown/unknown"));
    let mut attests = image(&mut fixture, "attests", Some("linux/amd64"));
    attests["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let mut artifact = image(&mut fixture, "artifact", Some("linux/amd64"));
    artifact["artifactType"] = json!("application/spdx+json");
    let mut strange = image(&mut fixture, "strange", Some("linux/amd64"));
    strange["mediaType"] = json!("application/json");
    let mut entries = vec![unknown, attests, artifact, strange];
    let only_others = fixture.index(entries.clone());
    entries.push(good.clone());
    let index = fixture.index(entries);
    assert!(is(&run(&fixture, &index, "linux/amd64").unwrap(), &good));
    let text = run(&fixture, &only_others, "linux/amd64")
        .unwrap_err()
        .to_string();
    assert!(text.ends_with("there is none"), "{text}");
}

#[test]
fn indexes_in_indexes_are_bounded() {
    let mut fixture = Fixture::default();
    let good = image(&mut fixture, "good", Some("linux/amd64"));
    let mut index = fixture.index(vec![good.clone()]);
    for depth in 1..=4 {
        let chosen = run(&fixture, &index, "linux/amd64").unwrap();
        assert!(is(&chosen, &good));
        assert_eq!(chosen.indexes.len(), depth);
        assert_eq!(digest(&chosen.indexes[0]), index["digest"]);
        index = fixture.index(vec![index]);
    }
    let text = run(&fixture, &index, "linux/amd64")
        .unwrap_err()
        .to_string();
    assert!(text.contains("deeper than 4"), "{text}");

    // 4 levels of 8: 585 indexes, of which only the first 64 are read.
    let mut level = vec![fixture.index(vec![])];
    for wide in 0..3 {
        let children: Vec<_> = (0..8).map(|_| level[0].clone()).collect();
        level = vec![fixture.index(children)];
        let text = run(&fixture, &level[0], "linux/amd64")
            .unwrap_err()
            .to_string();
        let many = text.contains("more than 64");
        assert_eq!(many, wide > 0, "{text}");
    }
}
