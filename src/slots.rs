//! Shared memory: what is known of each database without asking it. Written by the workers and by folds, read by the
//! launcher and by `llm.status`. It is there when the library is preloaded, and empty after a start.

use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_shmem_init};
use std::sync::atomic::{AtomicBool, Ordering};

/// Databases that are remembered; more are visited as if they were new.
const COUNT: usize = 256;

#[derive(Clone, Copy, Default)]
pub struct Slot {
    pub database: u32,
    /// Microseconds since 2000 UTC.
    pub visited_at: i64,
    pub has_extension: bool,
    /// The last round stopped with work left.
    pub has_more: bool,
    /// Rounds that failed, in a row.
    pub failures: u32,
    /// The block of `llm._pending` where the last round's fold stopped with work left.
    pub fold_from: u32,
    /// When nothing was pending, as seen by a round that found nothing to fold; 0: not seen yet.
    pub drained_at: i64,
}

#[derive(Clone, Copy)]
pub struct Slots([Slot; COUNT]);

impl Default for Slots {
    fn default() -> Slots {
        Slots([Slot::default(); COUNT])
    }
}

// SAFETY: plain integers and booleans, no pointers.
unsafe impl PGRXSharedMemory for Slots {}

// SAFETY: the name is ours.
static SLOTS: PgLwLock<Slots> = unsafe { PgLwLock::new(c"llm_analytics slots") };

/// Set in the postmaster, before it starts anybody.
static EXISTS: AtomicBool = AtomicBool::new(false);

// The macro asks for features of older majors.
#[allow(unexpected_cfgs)]
pub fn request() {
    pg_shmem_init!(SLOTS);
    EXISTS.store(true, Ordering::Relaxed);
}

/// Whether there is shared memory of ours.
pub fn exist() -> bool {
    EXISTS.load(Ordering::Relaxed)
}

/// What is known of a database.
pub fn get(database: pg_sys::Oid) -> Option<Slot> {
    let wanted = database.to_u32();
    SLOTS.share().0.iter().find(|slot| slot.database == wanted).copied()
}

/// Changes what is known; a database that is new takes the place of the one visited longest ago.
pub fn update(database: pg_sys::Oid, change: impl FnOnce(&mut Slot)) {
    let wanted = database.to_u32();
    let mut slots = SLOTS.exclusive();
    let at = match slots.0.iter().position(|slot| slot.database == wanted) {
        Some(at) => at,
        None => {
            let oldest = slots.0.iter().enumerate().min_by_key(|(_, slot)| slot.visited_at).map_or(0, |(at, _)| at);
            slots.0[oldest] = Slot { database: wanted, ..Slot::default() };
            oldest
        }
    };
    change(&mut slots.0[at]);
}
