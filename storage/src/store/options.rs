//! What an operator may set of the store.

/// Settings of the store.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreOptions {
    /// Writes are refused while the file system has fewer bytes available, and again accepted above five quarters of
    /// it. Unset: a twentieth of the file system, at most 1 GiB. 0: never refused before the disk is full.
    pub reserve_bytes: Option<u64>,
    /// Memory for values that were written or read lately, beside the engine's cache of table blocks. 0: none.
    pub recent_bytes: u64,
    /// Most bytes of writes kept for other nodes while those are away. Unset: a twentieth of the file system, at most
    /// 1 GiB. 0: none is kept.
    pub hint_bytes: Option<u64>,
    /// Seconds after which a hint is no longer kept where anti-entropy can do its work, 60 to 2,592,000.
    pub hint_age_s: u32,
}

impl StoreOptions {
    /// Refuses a setting that is out of its range, by name and with what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        match self.hint_age_s {
            60..=2_592_000 => Ok(()),
            age => Err(format!("hint_age_s = {age}: 60 to 2592000 is allowed")),
        }
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { reserve_bytes: None, recent_bytes: 16 << 20, hint_bytes: None, hint_age_s: 86_400 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed_and_a_bad_age_is_named() {
        StoreOptions::default().validate().unwrap();
        let bad = StoreOptions { hint_age_s: 59, ..StoreOptions::default() };
        assert_eq!(bad.validate().unwrap_err(), "hint_age_s = 59: 60 to 2592000 is allowed");
    }
}
