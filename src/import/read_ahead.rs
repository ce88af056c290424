//! Reading on a thread of its own, a little ahead of who takes it.

use std::{
    io::{self, Read},
    sync::mpsc::{Receiver, sync_channel},
    thread::JoinHandle,
};

/// A multiple of tar's blocks, so that none is cut by it.
const PIECE: usize = 256 << 10;
/// How many pieces wait to be taken.
const AHEAD: usize = 4;

/// What `inner` gives, read by a thread that lives as long as this does.
pub(super) struct ReadAhead {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    taken: usize,
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
                let sent = piece.is_empty() || send.send(Ok(piece)).is_ok();
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
            piece: Vec::new(),
            taken: 0,
            failed: false,
            thread,
        })
    }

    /// Ends the thread; what was read ahead is lost.
    pub(super) fn stop(self) {
        drop(self.pieces);
        // It does not panic.
        let _ended = self.thread.join();
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.piece.len() {
            match self.pieces.recv() {
                Ok(Ok(piece)) => (self.piece, self.taken) = (piece, 0),
                Ok(Err(error)) => {
                    self.failed = true;
                    return Err(error);
                }
                // What could not be read has no end.
                Err(_) if self.failed => return Err(io::Error::other("it could not be read")),
                Err(_) => return Ok(0),
            }
        }
        let rest = &self.piece[self.taken..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.taken += length;
        Ok(length)
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

    #[test]
    fn all_bytes_come_and_then_the_error() {
        for left in [0, 1, PIECE - 1, PIECE, 3 * PIECE + 5] {
            let mut reader = ReadAhead::new(Failing { left }).unwrap();
            let mut all = Vec::new();
            let error = reader.read_to_end(&mut all).unwrap_err();
            assert_eq!((all.len(), error.to_string().as_str()), (left, "no more"));
            assert!(reader.read(&mut [0; 10]).is_err());
            reader.stop();

            let mut reader = ReadAhead::new(io::repeat(7).take(left as u64)).unwrap();
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            assert_eq!(all.len(), left);
            assert_eq!(reader.read(&mut [0; 10]).unwrap(), 0);
        }
    }

    #[test]
    fn it_can_be_stopped_in_the_middle() {
        let mut reader = ReadAhead::new(io::repeat(7)).unwrap();
        reader.read_exact(&mut [0; 10]).unwrap();
        reader.stop();
    }
}
