"""Plans of many runs: methods x splits x folds x seeds, trained, resumed, compared and tabulated."""
