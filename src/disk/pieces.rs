//! Cuts a disk into pieces for the workers: windows of one size in which there is data.

use super::image::{DiskImage, Runs};
use super::jobs::Crew;
use super::runs::Run;
use crate::error::Result;
use crate::progress::{Monitor, Phase};

/// Bytes of a window. Enough that handing one over costs nothing.
const WINDOW_BYTES: u64 = 1 << 20;
/// Bytes of the largest window: a compressed cluster must not be cut, since it would be decoded for
/// each part.
pub(super) const MAX_WINDOW_BYTES: u64 = 2 << 20;

/// One window of the disk that has data.
#[derive(Debug)]
pub(super) struct Piece {
    /// Where the window begins on the disk.
    pub(super) offset: u64,
    /// Its bytes on the disk: fewer only at the end.
    pub(super) length: usize,
    /// The data in it, in order.
    pub(super) runs: Vec<Run>,
}

/// The pieces of a disk in order. Holes go to `on_hole` when they are passed.
pub(super) struct Pieces<'a, F> {
    disk: &'a DiskImage,
    runs: Runs<'a>,
    window: u64,
    /// The part of a run that reaches into the next window.
    rest: Option<Run>,
    on_hole: F,
    monitor: &'a Monitor,
}

impl<'a, F: FnMut(&Run) -> Result<()>> Pieces<'a, F> {
    /// Cuts for a consumer that works in units of `unit` bytes, a power of two.
    pub(super) fn new(disk: &'a DiskImage, unit: u64, on_hole: F, monitor: &'a Monitor) -> Result<Self> {
        let window = WINDOW_BYTES.max(unit).max(disk.cluster_size().unwrap_or(0)).min(MAX_WINDOW_BYTES);
        Ok(Self { disk, runs: disk.runs()?, window, rest: None, on_hole, monitor })
    }

    /// The workers for these pieces.
    pub(super) fn crew(&self, threads: usize) -> Crew {
        Crew::new(threads, usize::try_from(self.window).unwrap_or(usize::MAX))
    }

    /// The next piece; `None` at the end of the disk.
    ///
    /// # Errors
    /// Those of the tables and of `on_hole`; `Cancelled`.
    pub(super) fn next(&mut self) -> Result<Option<Piece>> {
        let mut piece: Option<Piece> = None;
        loop {
            let run = match self.rest.take() {
                Some(run) => run,
                None => match self.runs.next().transpose()? {
                    Some(run) => run,
                    None => return Ok(piece),
                },
            };
            if !run.is_data() {
                self.monitor.check()?;
                (self.on_hole)(&run)?;
                continue;
            }
            let start = run.offset - run.offset % self.window;
            let end = start.saturating_add(self.window);
            match &mut piece {
                // It belongs to the window after this one.
                Some(piece) if piece.offset != start => {
                    self.rest = Some(run);
                    break;
                }
                Some(_) => {}
                None => {
                    self.monitor.report(Phase::Convert, start, Some(self.disk.virtual_size()))?;
                    let length = self.window.min(self.disk.virtual_size().saturating_sub(start));
                    let length = usize::try_from(length).unwrap_or(usize::MAX);
                    piece = Some(Piece { offset: start, length, runs: Vec::new() });
                }
            }
            let until = run.offset.saturating_add(run.length);
            if let Some(piece) = &mut piece {
                piece.runs.push(run.cut(run.offset, until.min(end)));
            }
            if until > end {
                self.rest = Some(run.cut(end, until));
            }
            if until >= end {
                break;
            }
        }
        Ok(piece)
    }
}
