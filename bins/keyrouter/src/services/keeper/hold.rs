//! Whether a file without any node is believed.

/// Remembers whether the last file that was read had to be confirmed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hold {
    waiting: bool,
}

impl Hold {
    /// Whether a good file has to wait for another reload to confirm it. A file that cannot be read or
    /// is wrong confirms nothing and is no matter for this.
    ///
    /// `on`: whether anything is ever held. `had_nodes`: whether the catalog in force has any.
    /// `has_nodes`: whether the file has any.
    pub fn holds(&mut self, on: bool, had_nodes: bool, has_nodes: bool) -> bool {
        let doubtful = on && had_nodes && !has_nodes;
        self.waiting = doubtful && !self.waiting;
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files read one after the other, `F`ull or `E`mpty; what became of each, `t`aken or `h`eld.
    fn play(on: bool, files: &str) -> String {
        let (mut hold, mut had_nodes) = (Hold::default(), false);
        let mut judge = |file| {
            let held = hold.holds(on, had_nodes, file == 'F');
            if !held {
                had_nodes = file == 'F';
            }
            if held { 'h' } else { 't' }
        };
        files.chars().map(&mut judge).collect()
    }

    #[test]
    fn an_empty_file_after_a_full_one_needs_a_second_reload() {
        for (files, expected) in [
            ("E", "t"),
            ("EE", "tt"),
            ("FE", "th"),
            ("FEE", "tht"),
            ("FEEE", "thtt"),
            ("FEFE", "thth"),
            ("FEFEE", "ththt"),
            ("FEEFEE", "thttht"),
        ] {
            assert_eq!(play(true, files), expected, "{files}");
            assert_eq!(play(false, files), "t".repeat(files.len()), "{files}");
        }
    }
}
