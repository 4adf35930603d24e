"""One workflow per subcommand; siblings do not know each other."""
