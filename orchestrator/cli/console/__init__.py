"""Options, printing and live progress that commands share."""
