//! The disk guard: writes are refused before the disk is full, reads never.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The reserve unless set: a twentieth of the file system, at most 1 GiB. The engine needs room to rewrite its tables.
const RESERVE_BYTES_MAX: u64 = 1 << 30;
const RESERVE_SHARE: u64 = 20;

/// Refuses below the reserve, and again accepts above five quarters of it.
#[derive(Debug)]
pub(super) struct DiskGuard {
    path: Option<PathBuf>,
    reserve_bytes: Option<u64>,
    available_bytes: AtomicU64,
    low: AtomicBool,
}

impl DiskGuard {
    /// Without a path nothing is ever low, except after the engine said so.
    pub(super) fn new(path: Option<PathBuf>, reserve_bytes: Option<u64>) -> Self {
        let guard =
            Self { path, reserve_bytes, available_bytes: AtomicU64::new(u64::MAX), low: AtomicBool::new(false) };
        guard.check();
        guard
    }

    /// Looks at the file system again; says whether that changed the answer. A file system that cannot be asked is
    /// taken for one with room: the engine finds out.
    pub(super) fn check(&self) -> bool {
        let (available, total) = self.space().unwrap_or((u64::MAX, 0));
        self.judge(available, total)
    }

    /// What the reserve is unless it is set, for others who need a share of the file system.
    pub(super) fn share_bytes(&self) -> u64 {
        self.space().map_or(RESERVE_BYTES_MAX, |(_, total)| share_of(total))
    }

    /// Bytes available, and bytes in all.
    fn space(&self) -> Option<(u64, u64)> {
        let space = rustix::fs::statvfs(self.path.as_ref()?).ok()?;
        Some((space.f_bavail.saturating_mul(space.f_frsize), space.f_blocks.saturating_mul(space.f_frsize)))
    }

    fn judge(&self, available: u64, total: u64) -> bool {
        self.available_bytes.store(available, Ordering::Relaxed);
        let reserve = self.reserve_bytes.unwrap_or(share_of(total));
        let was_low = self.is_low();
        let enough = if was_low { reserve.saturating_add(reserve / 4) } else { reserve };
        let low = available < enough;
        self.low.store(low, Ordering::Relaxed);
        low != was_low
    }

    /// The engine found no room: nothing is accepted until the next check.
    pub(super) fn full(&self) {
        self.low.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    pub(super) fn available_bytes(&self) -> u64 {
        self.available_bytes.load(Ordering::Relaxed)
    }
}

fn share_of(total: u64) -> u64 {
    (total / RESERVE_SHARE).min(RESERVE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_turns_low_at_the_reserve_and_back_with_room_to_spare() {
        let guard = DiskGuard::new(None, Some(1_000));
        assert!(!guard.is_low());
        assert!(!guard.judge(1_000, 0) && !guard.is_low());
        assert!(guard.judge(999, 0) && guard.is_low());
        assert!(!guard.judge(1_249, 0) && guard.is_low());
        assert!(guard.judge(1_250, 0) && !guard.is_low());
        guard.full();
        assert!(guard.is_low());
        assert!(guard.judge(5_000, 0) && !guard.is_low());
    }

    #[test]
    fn the_reserve_is_a_share_with_a_limit() {
        let guard = DiskGuard::new(None, None);
        assert!(guard.judge(999, 20_000) && guard.is_low());
        assert!(guard.judge(1_250, 20_000) && !guard.is_low());
        assert!(!guard.judge((1 << 30) + 1, 1 << 50));
    }

    #[test]
    fn a_real_file_system_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        assert!(DiskGuard::new(Some(dir.path().into()), Some(u64::MAX / 2)).is_low());
        let guard = DiskGuard::new(Some(dir.path().into()), Some(0));
        assert!(!guard.is_low() && guard.available_bytes() < u64::MAX);
    }
}
