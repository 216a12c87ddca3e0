"""Lists of variants, each trained and scored over seeds: ablations and label noise, see docs/ablations.md."""
