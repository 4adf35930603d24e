"""What was said, checked: one frozen dataclass per subcommand. Defaults and cross-checks live here and only here."""
