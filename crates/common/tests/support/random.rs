//! Random numbers that a seed gives back.

/// A generator of splitmix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// `n` nodes of weight 1 with distinct names of some shape that addresses have.
    pub(crate) fn nodes(&mut self, n: usize) -> Vec<(String, f64)> {
        let (kind, base) = (self.below(4), self.below(1 << 24));
        let name = |i: usize| match kind {
            0 => format!("10.{}.{}.{}:8080", base % 256, i / 250, i % 250),
            1 => format!("node-{base}-{i}"),
            2 => format!("{:016x}.svc.example:{}", self.next(), 9000 + i),
            _ => format!("http://web{i}.rack{}.example.net:{}/", base % 97, 1024 + base % 60_000),
        };
        (0..n).map(name).map(|name| (name, 1.0)).collect()
    }
}

/// The seed of this run: that of the environment's `SEED`, or always the same. It is printed, so that
/// a failure tells how to see it again.
#[expect(clippy::print_stdout, reason = "a failed test shows its output, and the seed belongs there")]
pub(crate) fn seed(name: &str) -> u64 {
    let seed = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let seed = seed.unwrap_or(20_240_607);
    println!("{name}: SEED={seed}");
    seed
}
