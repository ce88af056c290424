//! The `boundstore` command.

fn main() {}
