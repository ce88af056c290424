//! How containers-storage names the files of an image's big data.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The file name of the big data item `key` below `overlay-images/<image ID>/`.
///
/// The key itself if it is made of `.`, digits and lower-case ASCII letters,
/// else `=` and its padded base64 (containers-storage, `images.go`,
/// `makeBigDataBaseName`). Keys of other people's stores may hold anything: a
/// result with a slash in it, or an empty or dotted key, names no file.
pub fn big_data_file_name(key: &str) -> String {
    let plain = |byte: u8| byte == b'.' || byte.is_ascii_digit() || byte.is_ascii_lowercase();
    if key.bytes().all(plain) {
        return key.to_owned();
    }
    format!("={}", STANDARD.encode(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_a_real_store() {
        for (key, name) in [
            ("manifest", "manifest"),
            ("a.0", "a.0"),
            ("Manifest", "=TWFuaWZlc3Q="),
            (
                "sha256:3c8080f6ab8df520acfe1b04b8d65c6741ede24408dd1844906bef88fcd125f9",
                "=c2hhMjU2OjNjODA4MGY2YWI4ZGY1MjBhY2ZlMWIwNGI4ZDY1YzY3NDFlZGUyNDQwOGRkMTg0NDkwNmJlZjg4ZmNkMTI1Zjk=",
            ),
        ] {
            assert_eq!(big_data_file_name(key), name);
        }
    }
}
