//! Kubernetes YAML, as far as `podman kube play` takes images from it.

use std::rc::Rc;

use super::yaml::{Fuel, Node, YamlError, parse_yaml};

/// The images of pods that podman mounts into containers, by container.
const AUTOMOUNT: &str = "io.podman.annotations.kube.image.volumes.mount/";
/// The image that a volume is made of.
const VOLUME_IMAGE: &str = "volume.podman.io/image";
/// A user namespace for a pod; a pod's name may follow.
const USER_NAMESPACE: &str = "io.podman.annotations.userns";

/// What a file of manifests says about images.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KubeImages {
    /// The images, in the order of the file.
    pub images: Vec<KubeImage>,
    /// The lines that give a pod a user namespace of its own.
    pub user_namespaces: Vec<usize>,
}

/// An image that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeImage {
    /// As it is written.
    pub written: String,
    /// The line it is in, from 1.
    pub line: usize,
    /// What for.
    pub usage: KubeUsage,
}

/// What a manifest needs an image for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KubeUsage {
    /// A container runs it, under this `imagePullPolicy`.
    Container(Option<String>),
    /// A container mounts it: `image` of a pod's volume, or podman's annotation.
    Mount,
    /// A claim's volume is made of it.
    Volume,
}

/// Finds the images of manifests: of Pod, Deployment, DaemonSet, Job and
/// PersistentVolumeClaim, also in a List. Other kinds are passed over, as podman
/// does. Any bytes are accepted as input.
///
/// # Errors
/// The first thing that is no YAML, or no manifest.
pub fn kube_images(text: &[u8]) -> Result<KubeImages, YamlError> {
    let mut reader = Reader {
        fuel: Fuel::new(),
        found: KubeImages::default(),
    };
    for document in parse_yaml(text)? {
        if reader.text_of(&document, "kind")? == Some("List") {
            for item in reader.list(&document, "items")? {
                reader.manifest(item)?;
            }
        } else {
            reader.manifest(&document)?;
        }
    }
    Ok(reader.found)
}

struct Reader {
    fuel: Fuel,
    found: KubeImages,
}

impl Reader {
    fn manifest(&mut self, manifest: &Node) -> Result<(), YamlError> {
        let path: &[&'static str] = match self.text_of(manifest, "kind")? {
            Some("Pod") => &["spec"],
            Some("Deployment" | "DaemonSet" | "Job") => &["spec", "template", "spec"],
            Some("PersistentVolumeClaim") => return self.claim(manifest),
            _ => return Ok(()),
        };
        self.pod_annotations(manifest)?;
        let mut spec = manifest;
        for key in path {
            match spec.get(key, "a manifest", &self.fuel)? {
                Some(below) => spec = below,
                None => return Ok(()),
            }
        }
        self.pod(spec)
    }

    fn pod(&mut self, spec: &Node) -> Result<(), YamlError> {
        for key in ["initContainers", "containers"] {
            for container in self.list(spec, key)? {
                let policy = self.text_of(container, "imagePullPolicy")?;
                let usage = KubeUsage::Container(policy.map(str::to_owned));
                let image = container.get("image", "a container", &self.fuel)?;
                self.add(image, usage)?;
            }
        }
        for volume in self.list(spec, "volumes")? {
            if let Some(image) = volume.get("image", "a volume", &self.fuel)? {
                let reference = image.get("reference", "image of a volume", &self.fuel)?;
                self.add(reference, KubeUsage::Mount)?;
            }
        }
        if let Some(host) = spec.get("hostUsers", "spec", &self.fuel)?
            && host.text("hostUsers")? == "false"
        {
            self.found.user_namespaces.push(host.line);
        }
        Ok(())
    }

    fn pod_annotations(&mut self, manifest: &Node) -> Result<(), YamlError> {
        let Some(annotations) = self.annotations(manifest)? else {
            return Ok(());
        };
        for (key, value) in annotations.entries("annotations", &self.fuel)? {
            let line = value.line;
            if key.starts_with(AUTOMOUNT) {
                let names = value.text("an annotation")?.split(';');
                let image = |name: &str| KubeImage {
                    written: name.to_owned(),
                    line,
                    usage: KubeUsage::Mount,
                };
                self.found.images.extend(names.map(image));
            } else if key.starts_with(USER_NAMESPACE) && value.text("an annotation")? != "host" {
                self.found.user_namespaces.push(line);
            }
        }
        Ok(())
    }

    fn claim(&mut self, manifest: &Node) -> Result<(), YamlError> {
        let Some(annotations) = self.annotations(manifest)? else {
            return Ok(());
        };
        let image = annotations.get(VOLUME_IMAGE, "annotations", &self.fuel)?;
        self.add(image, KubeUsage::Volume)
    }

    fn annotations<'a>(&self, manifest: &'a Node) -> Result<Option<&'a Rc<Node>>, YamlError> {
        match manifest.get("metadata", "a manifest", &self.fuel)? {
            Some(metadata) => metadata.get("annotations", "metadata", &self.fuel),
            None => Ok(None),
        }
    }

    fn add(&mut self, image: Option<&Rc<Node>>, usage: KubeUsage) -> Result<(), YamlError> {
        if let Some(image) = image {
            self.found.images.push(KubeImage {
                written: image.text("an image")?.to_owned(),
                line: image.line,
                usage,
            });
        }
        Ok(())
    }

    fn list<'a>(&self, node: &'a Node, key: &'static str) -> Result<&'a [Rc<Node>], YamlError> {
        match node.get(key, "a manifest", &self.fuel)? {
            Some(list) => list.items(key, &self.fuel),
            None => Ok(&[]),
        }
    }

    fn text_of<'a>(&self, node: &'a Node, key: &'static str) -> Result<Option<&'a str>, YamlError> {
        let found = node.get(key, "a manifest", &self.fuel)?;
        found.map(|node| node.text(key)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, usize)> {
        let found = kube_images(text.as_bytes()).unwrap();
        let images = found.images.into_iter();
        images.map(|image| (image.written, image.line)).collect()
    }

    fn names(text: &str) -> Vec<String> {
        found(text).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_pod_with_all_that_names_an_image() {
        let text = "\
apiVersion: v1
kind: Pod
metadata:
  name: p
  annotations:
    io.podman.annotations.kube.image.volumes.mount/c: quay.io/a/auto:1;quay.io/a/auto:2
    io.podman.annotations.userns: auto
    other: quay.io/a/not:1
spec:
  hostUsers: false
  initContainers:
  - name: i
    image: quay.io/a/init:1
  containers:
  - {name: c, image: quay.io/a/c:1, imagePullPolicy: Always}
  - name: without
  volumes:
  - name: v
    image:
      reference: quay.io/a/v:1
      pullPolicy: IfNotPresent
  - name: e
    emptyDir: {}
";
        let all = kube_images(text.as_bytes()).unwrap();
        assert_eq!(all.user_namespaces, [7, 10]);
        let image = |name: &str, line, usage| KubeImage {
            written: format!("quay.io/a/{name}"),
            line,
            usage,
        };
        let always = Some("Always".to_owned());
        assert_eq!(
            all.images,
            [
                image("auto:1", 6, KubeUsage::Mount),
                image("auto:2", 6, KubeUsage::Mount),
                image("init:1", 13, KubeUsage::Container(None)),
                image("c:1", 15, KubeUsage::Container(always)),
                image("v:1", 20, KubeUsage::Mount),
            ]
        );
    }

    #[test]
    fn every_kind_that_podman_plays() {
        for kind in ["Deployment", "DaemonSet", "Job"] {
            let text = format!(
                "kind: {kind}\nspec:\n  template:\n    spec:\n      containers:\n      - image: a/b\n"
            );
            assert_eq!(found(&text), [("a/b".to_owned(), 6)], "{kind}");
        }
        for kind in [
            "CronJob",
            "ReplicaSet",
            "Service",
            "ConfigMap",
            "Secret",
            "StatefulSet",
        ] {
            let text = format!(
                "kind: {kind}\nspec: {{template: {{spec: {{containers: [{{image: a/b}}]}}}}}}\n"
            );
            assert_eq!(found(&text), [], "{kind}");
        }
        let claim = "kind: PersistentVolumeClaim\nmetadata:\n  annotations:\n    \
                     volume.podman.io/driver: image\n    volume.podman.io/image: a/v\n";
        assert_eq!(found(claim), [("a/v".to_owned(), 5)]);
    }

    #[test]
    fn documents_lists_anchors_and_json() {
        let pod = "kind: Pod\nspec: {containers: [{image: a/1}]}\n";
        assert_eq!(
            names(&format!("{pod}---\n# nothing\n---\n{pod}")),
            ["a/1", "a/1"]
        );
        let list = "kind: List\nitems:\n- kind: Pod\n  spec: {containers: [{image: a/2}]}\n- kind: Other\n";
        assert_eq!(names(list), ["a/2"]);
        let merged = "kind: Pod\nx: &x {image: a/3}\nspec:\n  containers:\n  - {<<: *x, name: c}\n";
        assert_eq!(found(merged), [("a/3".to_owned(), 2)]);
        let json = r#"{"kind": "Pod", "spec": {"containers": [{"image": "a/4"}]}}"#;
        assert_eq!(names(json), ["a/4"]);
        for empty in [
            "",
            "kind: Pod\n",
            "kind: Pod\nspec:\n",
            "kind: Pod\nspec: {containers: ~}\n",
        ] {
            assert_eq!(found(empty), [], "{empty:?}");
        }
    }

    #[test]
    fn what_is_no_manifest() {
        for (text, line) in [
            ("- kind: Pod", 1),
            ("kind: [Pod]", 1),
            ("kind: Pod\nspec: text", 2),
            ("kind: Pod\nspec:\n  containers: {image: a}", 3),
            ("kind: Pod\nspec:\n  containers:\n  - image: [a]", 4),
            ("kind: Pod\nspec:\n  containers:\n  - text", 4),
            ("kind: Pod\nmetadata: {annotations: x}", 2),
            ("kind: List\nitems: 5", 2),
        ] {
            let error = kube_images(text.as_bytes()).unwrap_err();
            assert_eq!(error.line, line, "{text}: {}", error.fault);
        }
    }

    /// A thousand pods, each with the same thousand containers.
    #[test]
    fn aliases_do_not_multiply_images() {
        let containers = "- {image: a}\n".repeat(2000);
        let pods = "- {kind: Pod, spec: {containers: *c}}\n".repeat(2000);
        let text = format!("kind: List\nc: &c\n{containers}items:\n{pods}");
        assert!(kube_images(text.as_bytes()).is_err());
    }
}
