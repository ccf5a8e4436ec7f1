//! How many questions one user may have under way. Without it a single user could take every
//! connection to the database and leave none for anybody else.

use crate::answer::Failure;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// For each question that a user may have under way, so many more may wait. A page asks about six
/// questions at once, so a few have to wait; who sends hundreds is refused at once.
const WAITING: usize = 9;

pub struct Users {
    at_once: usize,
    /// Users with at least one question, waiting or under way.
    present: Mutex<HashMap<String, User>>,
}

struct User {
    turns: Arc<Semaphore>,
    questions: usize,
}

/// The right to have one question under way. It ends when this is dropped.
pub struct Turn {
    _permit: OwnedSemaphorePermit,
    _presence: Presence,
}

/// Counts one question of a user, waiting or under way.
struct Presence {
    users: Arc<Users>,
    user: String,
}

impl Users {
    pub fn new(at_once: usize) -> Arc<Users> {
        Arc::new(Users { at_once, present: Mutex::default() })
    }

    /// Waits at most this long until fewer than the allowed number of the user's questions are
    /// under way.
    pub async fn turn(self: &Arc<Users>, user: &str, wait: Duration) -> Result<Turn, Failure> {
        let (presence, turns) = self.enter(user).ok_or_else(Failure::too_many)?;
        let permit = tokio::time::timeout(wait, turns.acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or_else(Failure::too_many)?;
        Ok(Turn { _permit: permit, _presence: presence })
    }

    fn enter(self: &Arc<Users>, name: &str) -> Option<(Presence, Arc<Semaphore>)> {
        let mut present = self.present();
        let user = present.entry(name.to_owned()).or_insert_with(|| User { turns: Arc::new(Semaphore::new(self.at_once)), questions: 0 });
        if user.questions >= self.at_once * (1 + WAITING) {
            return None;
        }
        user.questions += 1;
        let turns = user.turns.clone();
        Some((Presence { users: self.clone(), user: name.to_owned() }, turns))
    }

    fn present(&self) -> MutexGuard<'_, HashMap<String, User>> {
        // Nothing that holds the lock can panic half-way, so a poisoned map is still a good one.
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut present = self.users.present();
        if let Some(user) = present.get_mut(&self.user) {
            user.questions -= 1;
            if user.questions == 0 {
                present.remove(&self.user);
            }
        }
    }
}
