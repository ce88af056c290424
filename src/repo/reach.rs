//! What is reached from where: the first half of a garbage collection, as the
//! crate does it, for those who only want to know.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::{ErrorKind, Read},
    path::Path,
};

use composefs::{
    erofs::reader::collect_objects,
    fsverity::{Sha256HashValue, Sha512HashValue},
};

use super::{RepoError, RepoView, error::Upstream, verity::Convert};
use crate::{
    error::{Below, Doing},
    name::{Algorithm, ObjectId},
    sys,
};

/// All that is reached.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// Streams, by name.
    pub streams: BTreeSet<String>,
    /// Objects: of streams and images, and what these refer to.
    pub objects: BTreeSet<ObjectId>,
}

/// Whether a stream is one of ours, by its name.
pub fn is_ours(stream: &str) -> bool {
    stream.starts_with("boundstore-")
}

impl RepoView {
    /// The names in `streams/`, whether anything refers to them or not.
    ///
    /// # Errors
    /// Whatever reading the directory says.
    pub fn stream_names(&self) -> Result<Vec<String>, RepoError> {
        self.names("streams")
    }

    /// The names in `images/`; never ours.
    ///
    /// # Errors
    /// Whatever reading the directory says.
    pub fn image_names(&self) -> Result<Vec<String>, RepoError> {
        self.names("images")
    }

    fn names(&self, folder: &str) -> Result<Vec<String>, RepoError> {
        let names = sys::names_in(self.fd(), Path::new(folder)).below(self.path())?;
        let names = names.into_iter().filter(|name| name != "refs");
        let mut names: Vec<String> = names
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        Ok(names)
    }

    /// All that others than boundstore have: every stream and image that is not
    /// ours, with a ref or without.
    ///
    /// # Errors
    /// As [`Streams::reach`].
    pub fn reach_of_others(&self) -> Result<Reach, RepoError> {
        let names = self.stream_names()?;
        let others = names.iter().filter(|name| !is_ours(name));
        let mut reach = self.streams()?.reach(others)?;
        for name in self.image_names()? {
            let Some(id) = self.linked("images", &name)? else {
                continue;
            };
            match self.image_objects(&id) {
                Ok(objects) => reach.objects.extend(objects),
                Err(RepoError::MissingObject(_)) => continue,
                Err(error) => return Err(error),
            }
            reach.objects.insert(id);
        }
        Ok(reach)
    }

    /// All streams, to be followed from.
    ///
    /// # Errors
    /// A stream is no link to an object.
    pub fn streams(&self) -> Result<Streams<'_>, RepoError> {
        let mut names: HashMap<ObjectId, Vec<String>> = HashMap::new();
        for name in self.stream_names()? {
            if let Some(id) = self.stream(&name)? {
                names.entry(id).or_default().push(name);
            }
        }
        Ok(Streams { view: self, names })
    }
    fn image_objects(&self, id: &ObjectId) -> Result<Vec<ObjectId>, RepoError> {
        let mut bytes = Vec::new();
        self.open_object(id)?
            .read_to_end(&mut bytes)
            .doing("read", self.object_path(id))?;
        let objects = match self.algorithm() {
            Algorithm::Sha256 => objects_of::<Sha256HashValue>(&bytes),
            Algorithm::Sha512 => objects_of::<Sha512HashValue>(&bytes),
        };
        objects.map_err(|error| RepoError::BadObject {
            id: *id,
            found: format!("it is no image: {error}"),
        })
    }

    /// The size in bytes of every object there is.
    ///
    /// # Errors
    /// Whatever reading the directories says.
    pub fn object_sizes(&self) -> Result<BTreeMap<ObjectId, u64>, RepoError> {
        let mut sizes = BTreeMap::new();
        for folder in sys::names_in(self.fd(), Path::new("objects")).below(self.path())? {
            let folder = folder.to_string_lossy().into_owned();
            let path = self.path().join("objects").join(&folder);
            for entry in fs::read_dir(&path).doing("read", &path)? {
                let entry = entry.doing("read", &path)?;
                let name = format!("{folder}{}", entry.file_name().to_string_lossy());
                let Ok(id) = name.parse() else {
                    continue;
                };
                match entry.metadata() {
                    Ok(metadata) => sizes.insert(id, metadata.len()),
                    // A gc has just taken it.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(error).doing("stat", entry.path())?,
                };
            }
        }
        Ok(sizes)
    }
}

/// The streams of a repository, found by the objects they stand for.
#[derive(Debug)]
pub struct Streams<'v> {
    view: &'v RepoView,
    names: HashMap<ObjectId, Vec<String>>,
}

impl Streams<'_> {
    /// Follows these to all that they keep. A name without its object reaches
    /// nothing.
    ///
    /// # Errors
    /// A stream cannot be understood: the crate's gc fails on it.
    pub fn reach<'n>(
        &self,
        streams: impl IntoIterator<Item = &'n String>,
    ) -> Result<Reach, RepoError> {
        let mut reach = Reach::default();
        let mut todo: Vec<String> = streams.into_iter().cloned().collect();
        while let Some(name) = todo.pop() {
            if !reach.streams.insert(name.clone()) {
                continue;
            }
            let found = match self.view.open_stream(&name) {
                Err(RepoError::MissingObject(_)) => None,
                other => other?,
            };
            let Some((id, file)) = found else {
                continue;
            };
            let parts = self
                .view
                .parts(file, None)
                .map_err(|source| RepoError::BadStream { name, source })?;
            reach.objects.insert(id);
            reach.objects.extend(&parts.objects);
            for (_, id) in &parts.named {
                reach.objects.insert(*id);
                todo.extend(self.names.get(id).into_iter().flatten().cloned());
            }
        }
        Ok(reach)
    }
}

fn objects_of<H: Convert>(image: &[u8]) -> Result<Vec<ObjectId>, Upstream> {
    let objects = collect_objects::<H>(image)?;
    Ok(objects.iter().map(Convert::object_id).collect())
}
