//! What this machine has.

use std::thread::available_parallelism;

/// Logical processors that this process may use (affinity and container limits count).
pub fn processors() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Physical cores, within what this process may use: two threads on one core share its multipliers, and matrix
/// products gain nothing from the second.
pub fn default_threads() -> usize {
    num_cpus::get_physical().clamp(1, processors())
}

/// Memory in bytes: installed, and free to be used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Installed.
    pub total: u64,
    /// Free or easily freed.
    pub available: u64,
}

/// Reads `/proc/meminfo`; `None` where there is none.
pub fn memory() -> Option<Memory> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<u64>()
            .ok()?
            .checked_mul(1024)
    };
    Some(Memory {
        total: field("MemTotal:")?,
        available: field("MemAvailable:")?,
    })
}

/// Most memory that this process has used so far; `None` where the system does not tell.
pub fn peak_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim()
        .trim_end_matches("kB")
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// Four fifths of the machine's memory; 4 GiB where it cannot be told.
pub fn default_memory_mib() -> u32 {
    let mib = memory().map_or(4096, |memory| (memory.total / 5 * 4) >> 20);
    u32::try_from(mib).unwrap_or(u32::MAX).max(64)
}

/// The processor's name, where the system tells.
pub fn processor_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Instructions that fast kernels may use, and whether this processor has them.
pub fn instructions() -> Vec<(&'static str, bool)> {
    #[cfg(target_arch = "x86_64")]
    {
        vec![
            ("avx2", std::is_x86_feature_detected!("avx2")),
            ("fma", std::is_x86_feature_detected!("fma")),
            ("f16c", std::is_x86_feature_detected!("f16c")),
            ("avx512f", std::is_x86_feature_detected!("avx512f")),
            ("avx512vnni", std::is_x86_feature_detected!("avx512vnni")),
        ]
    }
    #[cfg(target_arch = "aarch64")]
    {
        vec![
            ("neon", std::arch::is_aarch64_feature_detected!("neon")),
            ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ]
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        Vec::new()
    }
}
