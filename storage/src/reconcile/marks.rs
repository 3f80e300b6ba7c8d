//! Two bits for each row: how billing charged it. A page holds those of 256 consecutive rows.

/// Rows of a page.
const ROWS: u64 = 256;
/// Bytes of a page.
pub(super) const BYTES: usize = (ROWS / 4) as usize;

/// How billing charged a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing.
    None = 0,
    /// The charge that is in effect.
    Equal = 1,
    /// A charge that is kept as it is.
    Kept = 2,
}

/// The marks of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks(pub [u8; BYTES]);

/// Number of the page that holds a row.
pub(super) fn page_of(ordinal: u64) -> u64 {
    ordinal / ROWS
}

impl Marks {
    pub fn get(&self, ordinal: u64) -> Mark {
        let (byte, shift) = Self::place(ordinal);
        match self.0[byte] >> shift & 3 {
            0 => Mark::None,
            1 => Mark::Equal,
            _ => Mark::Kept,
        }
    }

    pub fn set(&mut self, ordinal: u64, mark: Mark) {
        let (byte, shift) = Self::place(ordinal);
        self.0[byte] = self.0[byte] & !(3 << shift) | (mark as u8) << shift;
    }

    fn place(ordinal: u64) -> (usize, u64) {
        let at = ordinal % ROWS;
        ((at / 4) as usize, at % 4 * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_its_own_bits() {
        let mut marks = Marks([0; BYTES]);
        let mark = |row: u64| [Mark::None, Mark::Equal, Mark::Kept][(row * 7 % 3) as usize];
        for row in (0..ROWS).rev() {
            marks.set(row, Mark::Kept);
            marks.set(row, mark(row));
        }
        assert!((0..ROWS).all(|row| marks.get(ROWS * 9 + row) == mark(row)));
        assert_eq!((page_of(ROWS - 1), page_of(ROWS)), (0, 1));
    }
}
