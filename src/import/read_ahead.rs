//! Reading on a thread of its own, a little ahead of who takes it.

use std::{
    io::{self, Read},
    sync::mpsc::{Receiver, sync_channel},
    thread::JoinHandle,
};

use bytes::Bytes;

/// A multiple of tar's blocks, so that none is cut by it.
const PIECE: usize = 256 << 10;
/// How many pieces wait to be taken.
const AHEAD: usize = 4;

/// What `inner` gives, read by a thread that lives as long as this does.
pub(super) struct ReadAhead {
    pieces: Receiver<io::Result<Bytes>>,
    piece: Bytes,
    failed: bool,
    thread: JoinHandle<()>,
}

impl ReadAhead {
    /// Begins to read.
    ///
    /// # Errors
    /// There can be no other thread.
    pub(super) fn new(mut inner: impl Read + Send + 'static) -> io::Result<Self> {
        let (send, pieces) = sync_channel(AHEAD);
        let thread = std::thread::Builder::new().spawn(move || {
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                let read = inner.by_ref().take(PIECE as u64).read_to_end(&mut piece);
                let is_last = piece.len() < PIECE;
                // An empty one would be taken for the end.
                let sent = piece.is_empty() || send.send(Ok(piece.into())).is_ok();
                if let Err(error) = read {
                    let _nobody_takes_it = send.send(Err(error));
                    return;
                }
                if is_last || !sent {
                    return;
                }
            }
        })?;
        Ok(Self {
            pieces,
            piece: Bytes::new(),
            failed: false,
            thread,
        })
    }

    /// The next bytes that are at hand, at most `most`, without copying them; empty at
    /// the end alone, unless `most` is 0.
    ///
    /// # Errors
    /// Whatever reading said.
    pub(super) fn next_bytes(&mut self, most: usize) -> io::Result<Bytes> {
        if self.piece.is_empty() {
            match self.pieces.recv() {
                Ok(Ok(piece)) => self.piece = piece,
                Ok(Err(error)) => {
                    self.failed = true;
                    return Err(error);
                }
                // What could not be read has no end.
                Err(_) if self.failed => return Err(io::Error::other("it could not be read")),
                Err(_) => return Ok(Bytes::new()),
            }
        }
        Ok(self.piece.split_to(most.min(self.piece.len())))
    }

    /// Ends the thread; what was read ahead is lost.
    pub(super) fn stop(self) {
        drop(self.pieces);
        // It does not panic.
        let _ended = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `left` bytes, a few at a time, and then fails.
    struct Failing {
        left: usize,
    }

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1000).min(self.left);
            if length == 0 {
                return Err(io::Error::other("no more"));
            }
            buffer[..length].fill(7);
            self.left -= length;
            Ok(length)
        }
    }

    /// What comes until the end or the error.
    fn all(reader: &mut ReadAhead) -> (Vec<u8>, io::Result<()>) {
        let mut all = Vec::new();
        loop {
            match reader.next_bytes(100_000) {
                Ok(bytes) if bytes.is_empty() => return (all, Ok(())),
                Ok(bytes) => all.extend_from_slice(&bytes),
                Err(error) => return (all, Err(error)),
            }
        }
    }

    #[test]
    fn all_bytes_come_and_then_the_error() {
        for left in [0, 1, PIECE - 1, PIECE, 3 * PIECE + 5] {
            let mut reader = ReadAhead::new(Failing { left }).unwrap();
            let (bytes, ended) = all(&mut reader);
            assert_eq!(bytes, vec![7; left]);
            assert_eq!(ended.unwrap_err().to_string(), "no more");
            assert!(reader.next_bytes(10).is_err());
            reader.stop();

            let mut reader = ReadAhead::new(io::repeat(7).take(left as u64)).unwrap();
            let (bytes, ended) = all(&mut reader);
            ended.unwrap();
            assert_eq!(bytes, vec![7; left]);
            assert!(reader.next_bytes(10).unwrap().is_empty());
        }
    }

    #[test]
    fn it_can_be_stopped_in_the_middle() {
        let mut reader = ReadAhead::new(io::repeat(7)).unwrap();
        assert_eq!(reader.next_bytes(10).unwrap().len(), 10);
        reader.stop();
    }
}
