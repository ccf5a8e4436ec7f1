//! Values of variable length (varatt.h of PostgreSQL), read and made without a call into the server as long as they are plain.

use pgrx::prelude::*;
use pgrx::varlena::{set_varsize_short, varatt_is_1b, varatt_is_1b_e, varatt_is_4b_c, vardata_any, varsize_1b, varsize_any_exhdr};

/// What a value holds.
///
/// # Safety
/// The datum is of such a type, and outlives the bytes, or the current memory context does where it has to be detoasted.
pub unsafe fn bytes<'a>(datum: pg_sys::Datum) -> &'a [u8] {
    // SAFETY: as the caller promises.
    unsafe {
        let mut varlena = datum.cast_mut_ptr::<pg_sys::varlena>();
        if varatt_is_4b_c(varlena) || varatt_is_1b_e(varlena) {
            varlena = pg_sys::pg_detoast_datum_packed(varlena);
        }
        std::slice::from_raw_parts(vardata_any(varlena).cast(), varsize_any_exhdr(varlena))
    }
}

/// The value that lies here in a row and where the next column is, if it has a header of one byte, as nearly all have.
///
/// # Safety
/// The first byte of a value, or of the padding before one with a longer header, which no short header looks like.
pub unsafe fn short<'a>(at: *const u8) -> Option<(&'a [u8], *const u8)> {
    // SAFETY: as the caller promises.
    unsafe {
        let varlena = at.cast::<pg_sys::varlena>();
        if !varatt_is_1b(varlena) || varatt_is_1b_e(varlena) {
            return None;
        }
        let size = varsize_1b(varlena);
        Some((std::slice::from_raw_parts(at.add(1), size - 1), at.add(size)))
    }
}

/// The most that a value with a header of one byte holds (VARATT_SHORT_MAX less the header).
const SHORT: usize = 126;

/// Values for one tuple. They are valid until `clear`.
pub struct Values {
    /// Those with short headers, one behind the other.
    buffer: Vec<u8>,
    places: Vec<Place>,
}

enum Place {
    Short(usize),
    /// In the memory context that was current.
    Long(pg_sys::Datum),
}

impl Values {
    /// For so many, of usual length.
    pub fn new(count: usize) -> Values {
        Values { buffer: Vec::with_capacity(count * 40), places: Vec::with_capacity(count) }
    }

    pub fn clear(&mut self) {
        self.buffer.clear();
        self.places.clear();
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.push_with(|buffer| buffer.extend_from_slice(bytes));
    }

    /// Adds what `write` appends.
    pub fn push_with<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let at = self.buffer.len();
        self.buffer.push(0);
        let result = write(&mut self.buffer);
        let held = self.buffer.len() - at - 1;
        // SAFETY: the header's byte is in the buffer; a long value is copied.
        unsafe {
            if held <= SHORT {
                set_varsize_short(self.buffer.as_mut_ptr().add(at).cast(), held as i32 + 1);
                self.places.push(Place::Short(at));
            } else {
                let text = pg_sys::cstring_to_text_with_len(self.buffer.as_ptr().add(at + 1).cast(), held as i32);
                self.places.push(Place::Long(pg_sys::Datum::from(text)));
                self.buffer.truncate(at);
            }
        }
        result
    }

    /// The datums, in order. Nothing may be added while they are used.
    pub fn datums(&self) -> impl Iterator<Item = pg_sys::Datum> {
        self.places.iter().map(|place| match place {
            Place::Short(at) => pg_sys::Datum::from(self.buffer[*at..].as_ptr()),
            Place::Long(datum) => *datum,
        })
    }
}
