//! What an environment is reckoned to cost: what its pods ask for, times what that is declared to cost.

/// What pods ask for.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Asked {
    /// Cores.
    pub cores: f64,
    /// GiB of memory.
    pub gib: f64,
}

/// One amount as Kubernetes writes it, such as `500m`, `1.5` or `2Gi`, in its base unit (cores, bytes); `None` for what is
/// none. Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.
pub fn quantity(text: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let text = text.trim();
    let (number, factor) =
        SUFFIXES.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor))).unwrap_or((text, 1.0));
    let value: f64 = number.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some(value * factor)
}

/// What that costs in an hour, as a decimal number with four places.
pub fn per_hour(asked: Asked, core: f64, gib: f64) -> String {
    format!("{:.4}", asked.cores * core + asked.gib * gib)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_writes_them() {
        let cases = [
            ("500m", Some(0.5)),
            ("2", Some(2.0)),
            ("1.5", Some(1.5)),
            ("1Gi", Some(1_073_741_824.0)),
            ("100M", Some(1e8)),
            ("1e3", Some(1000.0)),
            ("2E", Some(2e18)),
            ("", None),
            ("-1", None),
            ("Gi", None),
            ("inf", None),
            ("nan", None),
        ];
        for (text, want) in cases {
            assert_eq!(quantity(text), want, "{text}");
        }
    }

    #[test]
    fn two_pods_for_an_hour() {
        assert_eq!(per_hour(Asked { cores: 0.5, gib: 2.0 }, 0.04, 0.005), "0.0300");
        assert_eq!(per_hour(Asked::default(), 0.04, 0.005), "0.0000");
    }
}
