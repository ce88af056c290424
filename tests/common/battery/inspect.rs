//! Steps that only look.

use super::{super::image::strings, Case};

pub fn images(case: &Case) {
    let listed = case.podman.images();
    let wanted = (case.name.to_owned(), true);
    assert!(listed.contains(&wanted), "{listed:?}");
    assert!(listed.iter().all(|(_, read_only)| *read_only), "{listed:?}");

    let rows = case.podman.json("images --no-trunc --format json");
    let row = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| strings(&row["Names"]).iter().any(|name| name == case.name))
        .unwrap();
    assert_eq!(row["Id"], case.image.id());
    assert_eq!(row["Digest"], case.image.manifest_digest);
    assert!(row["Size"].as_u64().unwrap() > 0, "{row}");
    case.podman.ok(&format!("image exists {}", case.name));
}

pub fn inspect(case: &Case) {
    let found = &case.podman.json(&format!("image inspect {}", case.name))[0];
    assert_eq!(found["Id"], case.image.id());
    assert_eq!(found["Digest"], case.image.manifest_digest);
    assert_eq!(strings(&found["RootFS"]["Layers"]), case.image.diff_ids());
    assert_eq!(found["Config"]["Cmd"], case.image.config["config"]["Cmd"]);
    assert_eq!(found["Config"]["Env"], case.image.config["config"]["Env"]);
    assert_eq!(
        found["Config"]["Labels"],
        case.image.config["config"]["Labels"]
    );
    assert!(
        strings(&found["RepoTags"]).contains(&case.name.to_owned()),
        "{found}"
    );
    // By ID and by digest too.
    let repository = case.name.rsplit_once(':').unwrap().0;
    for other in [
        case.image.id().to_owned(),
        format!("{repository}@{}", case.image.manifest_digest),
    ] {
        let found = &case.podman.json(&format!("image inspect {other}"))[0];
        assert_eq!(found["Id"], case.image.id());
    }
}

pub fn history(case: &Case) {
    let listed = case.podman.ok(&format!(
        "history --no-trunc --format {{{{.CreatedBy}}}} {}",
        case.name
    ));
    let mut wanted: Vec<&str> = case.image.config["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["created_by"].as_str().unwrap_or_default())
        .collect();
    wanted.reverse();
    assert_eq!(listed.lines().collect::<Vec<_>>(), wanted);
}

pub fn tree(case: &Case) {
    let shown = case.podman.ok(&format!("image tree {}", case.name));
    assert!(shown.contains(&case.image.id()[..12]), "{shown}");
    assert!(shown.contains(case.name), "{shown}");
    let layers = shown.lines().filter(|line| line.contains("ID: ")).count();
    assert_eq!(layers, 1 + case.image.diff_ids().len(), "{shown}");
}

pub fn df(case: &Case) {
    let totals = case
        .podman
        .ok("system df --format {{.Type}}|{{.Total}}|{{.Active}}");
    let count = case.podman.images().len();
    assert!(totals.contains(&format!("Images|{count}|0")), "{totals}");
    let detail = case.podman.ok("system df --verbose");
    assert!(detail.contains(&case.image.id()[..12]), "{detail}");
}

/// podman lists what the top layer's tar holds. Directories on the way may be
/// listed as changed too: squashed trees show their times.
pub fn image_diff(case: &Case) {
    let shown = case.podman.ok(&format!("image diff {}", case.name));
    let listed: Vec<(&str, &str)> = shown
        .lines()
        .filter_map(|line| line.split_once(" /"))
        .collect();
    let layer = case.image.top_layer();
    for (name, is_directory) in layer.iter().filter(|(name, _)| !name.contains(".wh.")) {
        let found = listed.iter().any(|(_, path)| path == name);
        assert!(found || *is_directory, "/{name} is missing in\n{shown}");
    }
    for (kind, path) in &listed {
        let expected = layer.iter().any(|(name, _)| name == path)
            || (*kind == "C" && layer.iter().any(|(name, _)| name.starts_with(path)));
        let whiteout = path.rsplit_once('/').map_or_else(
            || format!(".wh.{path}"),
            |(parent, name)| format!("{parent}/.wh.{name}"),
        );
        let deleted = *kind == "D" && layer.iter().any(|(name, _)| *name == whiteout);
        assert!(
            expected || deleted,
            "{kind} /{path} is not in the layer:\n{shown}"
        );
    }
    assert!(!listed.is_empty(), "{shown}");
}
